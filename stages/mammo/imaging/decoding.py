"""The process of `readers`: decodes what may cost more than its header says, and loads no more than that needs."""

import os
import sys
from pathlib import Path
from typing import Any

from mammo.core import bounded
from mammo.imaging import delivered, images, limits, scan_files
from mammo.imaging.canonical import Chosen
from mammo.imaging.images import memory_of_opencv
from mammo.imaging.limits import DamagedError, UnreadableError
from mammo.imaging.scanned import Scanned

import cv2
import numpy as np


def main_for_dicom() -> None:
    """Serve as `main` does, with what DICOM files need loaded before the first one comes."""
    sys.modules["requests"] = None  # type: ignore[assignment]  # pydicom would load it, to download examples
    from mammo.imaging import dicom  # noqa: F401

    main()


def main() -> None:
    """Answer requests; what C libraries print about damaged files, without a name, goes nowhere."""
    sys.stderr = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    cv2.setNumThreads(1)
    bounded.serve(_answer)


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Decode; what a decoder calls damaged is decoded again, once there is enough memory."""
    try:
        try:
            image, remarks, properties = _decoded(request)
        except DamagedError as error:
            limits.check_memory(error.need)
            image, remarks, properties = _decoded(request)
    except UnreadableError as error:
        return {"unreadable": str(error)}, b""
    head = {"shape": image.shape, "remarks": remarks, "properties": properties}
    return head, np.ascontiguousarray(image).tobytes()


def _decoded(request: dict[str, Any]) -> Scanned:
    path, steps = Path(request["path"]), Chosen(**request["steps"])
    size = (request["size"][0], request["size"][1])
    with memory_of_opencv():
        if _is_dicom(path):
            from mammo.imaging import dicom  # loads pydicom, in this process only

            return dicom.read(path, size, steps, request["for_processing"])
        content = images.content(path)
        return Scanned(images.decode(content, size, steps), [], delivered.of_image(content))


def _is_dicom(path: Path) -> bool:
    try:
        return scan_files.is_dicom(path)
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror}") from error

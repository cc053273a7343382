"""The process of `readers`: decodes what may cost more than its header says, and loads no more than that needs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mammo.core import bounded
from mammo.imaging import images, limits
from mammo.imaging.canonical import Chosen
from mammo.imaging.limits import DamagedError, UnreadableError
from mammo.imaging.remarks import Remark

import cv2
import numpy as np

Read = tuple[np.ndarray, list[Remark]]
"""An image, uint8, (height, width), and remarks on why it may not be a mammogram."""


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Decode in the process; the second time alone, as in `Readers`."""
    try:
        try:
            image, remarks = _decoded(request)
        except DamagedError as error:
            limits.check_memory(error.need)
            image, remarks = _decoded(request)
    except UnreadableError as error:
        return {"unreadable": str(error)}, b""
    return {"shape": image.shape, "remarks": remarks}, np.ascontiguousarray(image).tobytes()


def _decoded(request: dict[str, Any]) -> Read:
    path, steps = Path(request["path"]), Chosen(**request["steps"])
    size = (request["size"][0], request["size"][1])
    with memory_of_opencv():
        if request["kind"] == "dicom":
            from mammo.imaging import dicom  # loads pydicom, in this process only

            return dicom.read(path, size, steps, request["for_processing"])
        return images.read(path, size, steps), []


@contextmanager
def memory_of_opencv() -> Iterator[None]:
    """Turn the error of OpenCV for lack of memory into Python's."""
    try:
        yield
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise


def main_for_dicom() -> None:
    """Serve as `main` does, with what DICOM files need loaded before the first one comes."""
    sys.modules["requests"] = None  # type: ignore[assignment]  # pydicom would load it, to download examples
    from mammo.imaging import dicom  # noqa: F401

    main()


def main() -> None:
    """Serve as the process of `Readers`; what C libraries print about damaged files, without a name, goes nowhere."""
    sys.stderr = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    cv2.setNumThreads(1)
    bounded.serve(_answer)

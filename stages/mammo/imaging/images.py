"""Reader of image files: every supported format becomes 8-bit grey of one size."""

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mammo.core.wording import counted
from mammo.imaging import canonical, codestreams, declared, limits, netpbm, scan_files
from mammo.imaging.limits import MAX_PIXELS, MIN_SIDE, DamagedError, UnreadableError

import cv2
import numpy as np
from PIL import Image

__all__ = ["MAX_PIXELS", "MIN_SIDE", "UnreadableError"]

FORMATS = ("JPEG", "PNG", "PPM", "TIFF")
PLAIN = canonical.PLAIN
JPEG, TIFF = b"\xff\xd8", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # first bytes
STRIP = 256  # rows that are converted at a time: further arrays of the whole image would double the memory

# Warnings of Pillow are either reported here as errors with the file's name or do not affect the pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Exceptions that Pillow raises for damaged files of these formats.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, EOFError)


def read(path: Path, size: tuple[int, int], steps: canonical.Steps = PLAIN) -> np.ndarray:
    """Read an image file as 8-bit grey of one size, made canonical by `steps`.

    Colour is converted to luma (ITU-R 601), a transparency channel is dropped, 16-bit and floating-point grey is scaled
    by its minimum and maximum. A JPEG with at least twice the requested height and width is decoded at half, a quarter
    or an eighth of its size, directly from its frequency coefficients; `resized` does the remaining reduction.

    Args:
        path: a JPEG, PNG, PGM or TIFF file.
        size: height and width in pixels.
        steps: canonicalisation steps; none by default.

    Returns:
        uint8, (height, width).

    Raises:
        UnreadableError: missing, empty, another format, truncated, several frames, no contrast, or beyond `limits`.
        MemoryError: there is not enough memory to decode it.

    """
    return decode(content(path), size, steps)


def content(path: Path) -> bytes:
    """Return the bytes of an image file; raise UnreadableError if it cannot be opened or has too many."""
    try:
        limits.check_bytes(Path(path).stat().st_size)
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror}") from error


def decode(
    data: bytes, size: tuple[int, int], steps: canonical.Steps = PLAIN, stream: codestreams.Jpeg | None = None
) -> np.ndarray:
    """Decode the bytes of an image file as `read` does; `stream` is the header of a JPEG, if it is known already."""
    if not steps.any:
        return _eight_bit(resized(_contrasting(data, size, stream), size))
    image = _for_canonical(data, size, stream)
    return canonical.applied(image, canonical.view(image, steps), size)


def move_along(mask: np.ndarray, path: Path, size: tuple[int, int], steps: canonical.Steps) -> np.ndarray:
    """Resize a mask (height, width) of the image in the file `path` and transform it as `read` does the image."""
    if not steps.any:
        return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    image = _for_canonical(path.read_bytes(), size)
    return canonical.applied(mask, canonical.view(image, steps), size, of_mask=True)


def _for_canonical(data: bytes, size: tuple[int, int], stream: codestreams.Jpeg | None = None) -> np.ndarray:
    """Decode an image for `canonical`: 8-bit grey, in full or at least twice `size`, since it may be cropped."""
    return _eight_bit(_contrasting(data, (2 * size[0], 2 * size[1]), stream))


def _contrasting(data: bytes, size: tuple[int, int], stream: codestreams.Jpeg | None) -> np.ndarray:
    grey = _grey(data, size, stream)
    if grey.min() == grey.max():
        raise UnreadableError(f"has no contrast: every pixel is {grey.flat[0]}")
    return grey


def resized(grey: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image (height, width).

    For a reduction by a factor of two or more, every pixel is the mean of the area it covers. Otherwise, 8-bit images
    are interpolated bilinearly (every pixel still contributes) in integers, which takes a third of the time and gives
    the same result on every processor.
    """
    height, width = size
    small_step = grey.shape[0] < 2 * height and grey.shape[1] < 2 * width
    exact = small_step and grey.dtype == np.uint8
    interpolation = cv2.INTER_LINEAR_EXACT if exact else cv2.INTER_AREA
    return cv2.resize(grey, (width, height), interpolation=interpolation)


def in_one_pass(path: Path) -> tuple[bytes, codestreams.Jpeg | None] | None:
    """Return the bytes of a PNG or of a JPEG with one scan, whose cost is known from its size, and the JPEG's header.

    Returns:
        None for every other file; one with the DICM prefix, whatever comes before it, is a DICOM file.

    Raises:
        UnreadableError: the file cannot be opened, has too many bytes, or is a JPEG beyond `limits`.

    """
    try:
        with Path(path).open("rb", buffering=0) as file:
            limits.check_bytes(os.fstat(file.fileno()).st_size)
            start = file.read(scan_files.MARK_END)
            if scan_files.has_mark(start) or not start.startswith((JPEG, declared.PNG)):
                return None
            data = start + file.readall()
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror}") from error
    if start.startswith(declared.PNG):
        return data, None
    stream = codestreams.jpeg(data)
    return (data, stream) if stream.baseline else None


def _grey(data: bytes, size: tuple[int, int], stream: codestreams.Jpeg | None) -> np.ndarray:
    if not data:
        raise UnreadableError("is empty (0 bytes)")
    if data.startswith(JPEG):
        stream = stream or codestreams.jpeg(data)
        if stream.components in (1, 3) and stream.bits == 8:
            limits.check_size(stream.width, stream.height, stream.components)
            return _jpeg(data, stream, size)
    if netpbm.is_netpbm(data):
        return _of_netpbm(netpbm.read(data))
    picture = opened(data)
    try:
        picture.load()
        if picture.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
            return _wide(lambda first, last: np.asarray(picture.crop((0, first, picture.width, last))), picture.height)
        return _luma(picture)
    except _DAMAGE as error:
        need = len(data) + 8 * picture.width * picture.height
        raise DamagedError(f"is damaged: {_reason(error)}", need) from error


def _of_netpbm(samples: np.ndarray) -> np.ndarray:
    if samples.ndim == 3:
        return _luma(Image.fromarray(samples))
    return samples if samples.dtype == np.uint8 else _wide(lambda first, last: samples[first:last], len(samples))


def _luma(picture: Image.Image) -> np.ndarray:
    """Convert to 8-bit grey, a strip of rows at a time."""
    grey = np.empty((picture.height, picture.width), np.uint8)
    for first in range(0, picture.height, STRIP):
        strip = picture.crop((0, first, picture.width, min(first + STRIP, picture.height)))
        strip = strip.convert("RGB") if strip.mode == "P" else strip
        grey[first : first + STRIP] = np.asarray(strip.convert("L"))
    return grey


def opened(data: bytes) -> Image.Image:
    """Return a picture whose pixels are not decoded yet; its header is within `limits`.

    Raises:
        UnreadableError: another format, a damaged header, several frames, or beyond `limits`.

    """
    if data.startswith(JPEG):
        data = codestreams.jpeg(data).plain or data
    elif data.startswith(declared.PNG):
        declared.check_png(data)
    elif data.startswith(TIFF):
        declared.check_tiff(data)
    elif netpbm.is_netpbm(data):
        netpbm.header(data)
    else:
        raise UnreadableError("is not a JPEG, PNG, PGM or TIFF image")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        frames = getattr(picture, "n_frames", 1)
    except Image.UnidentifiedImageError as error:
        raise UnreadableError("is not a JPEG, PNG, PGM or TIFF image") from error
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise DamagedError(f"is damaged: {_reason(error)}", len(data)) from error
    if frames > 1:
        raise UnreadableError(f"holds {counted(frames, 'frame')}; one is expected")
    limits.check_size(*picture.size, len(picture.getbands()), 4 if picture.mode in ("I", "F") else 1)
    return picture


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _jpeg(data: bytes, stream: codestreams.Jpeg, size: tuple[int, int]) -> np.ndarray:
    # The decoder fills missing data with grey and reports success, so check the end marker here.
    if b"\xff\xd9" not in data[-1024:]:
        raise UnreadableError("is truncated: the end of the JPEG is missing")
    reduction = min(stream.width // size[1], stream.height // size[0])
    flag = cv2.IMREAD_GRAYSCALE
    for factor, reduced in (
        (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
        (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
        (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    ):
        if reduction >= factor:
            flag = reduced
            break
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if grey is None:
        need = 8 * stream.width * stream.height * stream.components
        raise DamagedError("is damaged: the JPEG cannot be decoded", need)
    return grey


def _wide(rows: Callable[[int, int], np.ndarray], height: int) -> np.ndarray:
    """Scale grey values of more than 8 bits from their range to 0 to 255, float32, a strip of rows at a time.

    Args:
        rows: returns the values from one row up to another.
        height: number of rows.

    """
    strips = [(first, min(first + STRIP, height)) for first in range(0, height, STRIP)]
    lows, highs = [], []
    for first, last in strips:
        values = rows(first, last)
        if not np.isfinite(values).all():
            raise UnreadableError("holds values that are not finite numbers")
        lows.append(float(values.min()))
        highs.append(float(values.max()))
    low, high = min(lows), max(highs)
    scaled = np.empty((height, rows(0, 1).shape[1]), np.float32)
    for first, last in strips:
        scaled[first:last] = (rows(first, last).astype(np.float64) - low) * (255 / ((high - low) or 1))
    return scaled


@contextmanager
def memory_of_opencv() -> Iterator[None]:
    """Turn the error of OpenCV for lack of memory into Python's."""
    try:
        yield
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise


def _eight_bit(values: np.ndarray) -> np.ndarray:
    """Round to uint8, a strip of rows at a time."""
    if values.dtype == np.uint8:
        return values
    rounded = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), STRIP):
        rounded[first : first + STRIP] = np.clip(np.rint(values[first : first + STRIP]), 0, 255)
    return rounded

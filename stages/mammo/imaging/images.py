"""Reader of image files: every supported format becomes 8-bit grey of one size."""

import io
import warnings
from pathlib import Path

from mammo.core.settings import Canonical
from mammo.core.wording import counted
from mammo.imaging import canonical

import cv2
import numpy as np
from PIL import Image

MAX_PIXELS = 100_000_000  # a full-field mammogram has 5 to 30 million; more is a damaged or malicious file
MIN_SIDE = 32  # pixels; smaller images cannot show a breast
FORMATS = ("JPEG", "PNG", "PPM", "TIFF")
PLAIN = Canonical()

# Warnings of Pillow are either reported here as errors with the file's name or do not affect the pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")

# Exceptions that Pillow raises for damaged files of these formats.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, EOFError, MemoryError)


class UnreadableError(Exception):
    """The file cannot be read as an image; the text is the reason."""


def read(path: Path, size: tuple[int, int], steps: Canonical = PLAIN) -> np.ndarray:
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
        UnreadableError: missing, empty, another format, truncated, several frames, too small or large, no contrast.

    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror}") from error
    return decode(data, size, steps)


def decode(data: bytes, size: tuple[int, int], steps: Canonical = PLAIN) -> np.ndarray:
    """Decode the bytes of an image file as `read` does."""
    if not steps.any:
        return _eight_bit(resized(_contrasting(data, size), size))
    image = _for_canonical(data, size)
    return canonical.applied(image, canonical.view(image, steps), size)


def move_along(mask: np.ndarray, path: Path, size: tuple[int, int], steps: Canonical) -> np.ndarray:
    """Resize a mask (height, width) of the image in the file `path` and transform it as `read` does the image."""
    if not steps.any:
        return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    image = _for_canonical(path.read_bytes(), size)
    return canonical.applied(mask, canonical.view(image, steps), size, of_mask=True)


def _for_canonical(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Decode an image for `canonical`: 8-bit grey, in full or at least twice `size`, since it may be cropped."""
    return _eight_bit(_contrasting(data, (2 * size[0], 2 * size[1])))


def _contrasting(data: bytes, size: tuple[int, int]) -> np.ndarray:
    grey = _grey(data, size)
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


def _grey(data: bytes, size: tuple[int, int]) -> np.ndarray:
    if not data:
        raise UnreadableError("is empty (0 bytes)")
    picture = _opened(data)
    if picture.format == "JPEG" and picture.mode in ("L", "RGB"):
        return _jpeg(data, picture.size, size)
    try:
        picture.load()
        if picture.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
            return _wide(np.asarray(picture))
        if picture.mode == "P":
            picture = picture.convert("RGB")
        return np.asarray(picture.convert("L"))
    except _DAMAGE as error:
        raise UnreadableError(f"is damaged: {_reason(error)}") from error


def _opened(data: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        frames = getattr(picture, "n_frames", 1)
    except Image.UnidentifiedImageError as error:
        raise UnreadableError("is not a JPEG, PNG, PGM or TIFF image") from error
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise UnreadableError(f"is damaged: {_reason(error)}") from error
    if frames > 1 and picture.format != "JPEG":
        raise UnreadableError(f"holds {counted(frames, 'frame')}; one is expected")
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"declares {width}×{height} pixels; at most {MAX_PIXELS:,} are read")
    if min(width, height) < MIN_SIDE:
        raise UnreadableError(f"is {width}×{height} pixels; at least {MIN_SIDE}×{MIN_SIDE} are needed")
    return picture


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _jpeg(data: bytes, declared: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    # The decoder fills missing data with grey and reports success, so check the end marker here.
    if b"\xff\xd9" not in data[-1024:]:
        raise UnreadableError("is truncated: the end of the JPEG is missing")
    reduction = min(declared[0] // size[1], declared[1] // size[0])
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
        raise UnreadableError("is damaged: the JPEG cannot be decoded")
    return grey


def _wide(values: np.ndarray) -> np.ndarray:
    """Scale grey values of more than 8 bits from their range to 0 to 255, float32."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise UnreadableError("holds values that are not finite numbers")
    low, high = values.min(), values.max()
    return ((values - low) * (255 / ((high - low) or 1))).astype(np.float32)


def _eight_bit(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.uint8 else np.clip(np.rint(values), 0, 255).astype(np.uint8)

"""From the stored values of a DICOM file to the grey levels that a radiologist's screen displays (PS3.3 C.11)."""

from mammo.imaging.images import UnreadableError
from mammo.imaging.stored_pixels import Stored, storable

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_windowing

DARKEST_SIGNAL = 1e-4  # share of the pixels of raw data with the least signal, which become one value: dead pixels
WIDEST = 65535  # of the grey levels between decoding and resizing


def table(stored: Stored, dataset: Dataset, raw: bool) -> np.ndarray:
    """Return the grey level, 0 to 255, of every pixel that occurs, as a table.

    The grey levels of a file of at most 16 bits are computed here once for each value that occurs, in float64; that
    only these count matters for the range, which padding and tables that are not monotone would widen.

    Args:
        stored: indexed pixels.
        dataset: the header.
        raw: whether to transform raw detector data, see `grey_levels`.

    Returns:
        float32, (256,) or (65536,); 0 where no pixel has the index.

    Raises:
        UnreadableError: no contrast, or no finite numbers.

    """
    size = 256 if stored.pixels.dtype == np.uint8 else 65536
    counts = cv2.calcHist([stored.pixels], [0], None, [size], [0, size]).ravel()
    present = np.flatnonzero(counts)
    grey = np.zeros(size, np.float32)
    values = stored.values(present)
    shown = grey_levels(values, dataset, raw, counts[present])
    extremes = _declared_extremes(values, dataset) if stored.reduced else None
    grey[present] = spread(shown, shown if extremes is None else grey_levels(extremes, dataset, raw))
    return grey


def spread(shown: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Return values of any shape scaled from the range of `of`, or their own, to 0 to 255, rounded to 65,536 levels.

    Raises:
        UnreadableError: all values are the same, or not all are finite.

    """
    of = shown if of is None else of
    low, high = float(of.min()), float(of.max())
    if not np.isfinite([low, high]).all():
        raise UnreadableError("holds values that are not finite numbers")
    if low == high:
        raise UnreadableError("has no contrast: every pixel is the same at its window")
    shown = np.clip(shown, low, high)
    return (np.rint((shown - low) * (WIDEST / (high - low))) * (255 / WIDEST)).astype(np.float32)


def _declared_extremes(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Return the least and the greatest stored value of the full image by its header; None if they are not credible.

    A reduced image lacks the extremes of the full one, or exceeds them beside sharp edges, as every low-pass image
    does. Headers often say anything here: believed is a range between half and twice that of the reduced image.
    """
    least, greatest = dataset.get("SmallestImagePixelValue"), dataset.get("LargestImagePixelValue")
    if not isinstance(least, int) or not isinstance(greatest, int):
        return None
    extremes, found = np.array([least, greatest]), int(values.max()) - int(values.min())
    credible = least < int(values.max()) and int(values.min()) < greatest
    credible &= found <= 2 * (greatest - least) and greatest - least <= 2 * found
    return extremes if credible and not _padding(extremes, dataset).any() else None


def grey_levels(stored: np.ndarray, dataset: Dataset, raw: bool, counts: np.ndarray | None = None) -> np.ndarray:
    """Return values after the modality and VOI transformation, dense tissue bright, padding as dark as the darkest.

    Raw detector data (`raw` and a header that says FOR PROCESSING) are transformed as in Keller et al. 2012 (Medical
    Physics 39(8):4903) instead of windowed: logarithm of the signal, then inversion, without their squaring.

    Args:
        stored: stored values of any shape.
        dataset: the header.
        raw: whether to transform raw detector data.
        counts: number of pixels of each value, the shape of `stored`; None: one.

    """
    padding = _padding(stored, dataset)
    values = _modality(stored, dataset)
    if raw and is_raw(dataset):
        values = _attenuation(values, dataset, counts)
    else:
        values = _viewed(values, dataset)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            values = -values.astype(np.float64)
    if padding.any() and not padding.all():
        values[padding] = values[~padding].min()
    return values


def is_raw(dataset: Dataset) -> bool:
    """Return whether the header says that the file holds raw detector data."""
    return dataset.get("PresentationIntentType") == "FOR PROCESSING"


def can_be_averaged(stored: np.ndarray, dataset: Dataset, raw: bool) -> bool:
    """Return whether a mean of stored values is displayed as a grey level between theirs, for all of them.

    It is if display is monotone and padding, which is no measurement, is displayed as dark as the background.

    Args:
        stored: all values that can be stored, ascending.
        dataset: the header.
        raw: whether to transform raw detector data.

    """
    padding = _padding(stored, dataset)
    if padding.all():
        return False
    steps = np.diff(grey_levels(stored[~padding], dataset, raw))
    if not ((steps >= 0).all() or (steps <= 0).all()):
        return False
    if not padding.any():
        return True
    dark = stored[~padding].min() if steps.sum() >= 0 else stored[~padding].max()
    return bool((stored[padding] <= dark).all() if steps.sum() >= 0 else (stored[padding] >= dark).all())


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return the mask of the padding values (PS3.3 C.7.5.1.1.2), which would distort the range."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return (stored >= low) & (stored <= high)


def _modality(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    if dataset.get("ModalityLUTSequence"):
        return _looked_up(stored, dataset.ModalityLUTSequence[0])
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        return stored.astype(np.float64)
    return stored * float(slope) + float(intercept)


def _viewed(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Apply the first VOI LUT or, without one, the first window; without either, return the values unchanged."""
    if dataset.get("VOILUTSequence"):
        return _looked_up(values, dataset.VOILUTSequence[0])
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        return apply_windowing(values, dataset)
    return values


def _looked_up(values: np.ndarray, item: Dataset) -> np.ndarray:
    """Apply a lookup table (PS3.3 C.11.1.1.1); values outside its range map to its first or last entry.

    pydicom's `apply_voi` casts the index to the type of the table, so that 12 bits wrap around in an 8-bit table.
    """
    entries, first = int(item.LUTDescriptor[0]) or 65536, int(item.LUTDescriptor[1])
    data = item.LUTData
    if isinstance(data, bytes):
        word = "<u2" if item.original_encoding[1] in (True, None) else ">u2"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * entries else word)
    data = np.asarray(data, np.float64)[:entries]
    return data[np.clip(np.rint(values) - first, 0, len(data) - 1).astype(np.intp)]


def _attenuation(values: np.ndarray, dataset: Dataset, counts: np.ndarray | None) -> np.ndarray:
    """Return the attenuation, up to a constant, of raw detector values; the least signals become one."""
    rises = dataset.get("PixelIntensityRelationshipSign")  # PS3.3 C.8.11.3.1.2: 1, a higher value is more radiation
    if rises is None:
        rises = -1 if dataset.get("PixelIntensityRelationship") == "LOG" else 1
    signal = values if int(rises) > 0 else _modality(np.array([storable(dataset)[1]]), dataset) - values
    if dataset.get("PixelIntensityRelationship") != "LOG":
        signal = np.log(np.maximum(signal, 1))
    order = np.argsort(signal, axis=None)
    number = np.cumsum(np.ones(order.shape) if counts is None else counts.ravel()[order].astype(np.float64))
    least = signal.ravel()[order][np.searchsorted(number, DARKEST_SIGNAL * number[-1])]
    return -np.maximum(signal, least)

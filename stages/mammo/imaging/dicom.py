"""Reader of DICOM files: the pixels as a radiologist's screen displays them; patient data are never read."""

import warnings
from pathlib import Path

from mammo.core.settings import Canonical
from mammo.core.wording import counted
from mammo.imaging import codestreams, dicom_limits, images, limits
from mammo.imaging.limits import DamagedError, UnreadableError

import imagecodecs
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import apply_windowing, pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

SUFFIXES = (".dcm", ".dicom")
MARK_AT, MARK = 128, b"DICM"  # PS3.10: a preamble of 128 bytes, then the prefix DICM
NEED = 16  # bytes of memory per pixel while decoding
CODED = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)

# Only these tags are read; none contains a name, number, date or text about a patient.
TAGS = [
    "Modality",
    "PresentationIntentType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
]

# Warnings of pydicom may quote the header; our own messages do not.
warnings.filterwarnings("ignore", module=r"pydicom\.")


def is_dicom(path: Path) -> bool:
    """Return whether a file has the suffix .dcm or .dicom, or the DICM prefix."""
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(MARK_AT + len(MARK))[MARK_AT:] == MARK


def read(path: Path, size: tuple[int, int], steps: Canonical = images.PLAIN) -> tuple[np.ndarray, list[str]]:
    """Read a DICOM image as 8-bit grey of one size.

    The modality LUT or rescale slope and intercept are applied, then the first VOI LUT or window (DICOM PS3.3 C.11.1,
    C.11.2). MONOCHROME1 is inverted so that dense tissue is white; pixel padding becomes background. The values are
    then scaled to 16-bit grey by their range and processed by `images` like a PNG file.

    Args:
        path: a DICOM file.
        size: height and width in pixels.
        steps: canonicalisation steps.

    Returns:
        The image, uint8, (height, width), and remarks on why it may not be a mammogram for presentation.

    Raises:
        UnreadableError: the message never quotes the file, since a damaged file may contain a name anywhere.

    """
    dataset = _opened(path)
    _check(dataset)
    shown = _shown(dataset)
    low, high = float(shown.min()), float(shown.max())
    if not np.isfinite([low, high]).all():
        raise UnreadableError("holds values that are not finite numbers")
    if low == high:
        raise UnreadableError("has no contrast: every pixel is the same at its window")
    grey = np.rint((shown - low) * (65535 / (high - low))).astype(">u2")
    header = f"P5 {grey.shape[1]} {grey.shape[0]} 65535\n"
    return images.decode(header.encode() + grey.tobytes(), size, steps), _remarks(dataset)


def _opened(path: Path) -> Dataset:
    try:
        file = dicom_limits.BoundedFile(path)
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax == DeflatedExplicitVRLittleEndian:  # a few kilobytes may inflate to any size
            raise UnreadableError("is a deflated DICOM file, which is not supported: save it uncompressed")
        return dcmread(file, specific_tags=TAGS)
    except InvalidDicomError:
        raise UnreadableError("is not a DICOM file: the prefix DICM is missing") from None
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror or 'reading fails'}") from None
    except (UnreadableError, MemoryError):
        raise
    except Exception:  # damaged bytes can cause any exception in pydicom
        raise UnreadableError("is damaged: its DICOM header cannot be read") from None


def _check(dataset: Dataset) -> None:
    """Check before decoding that the file holds a single grey image of an acceptable size."""
    try:
        data = next((dataset[name].value for name in TAGS[-3:] if name in dataset), None)
        if not data:
            raise UnreadableError("holds no pixels: another kind of DICOM object, or truncated")
        frames = int(dataset.get("NumberOfFrames") or 1)
        rows, columns, stored = int(dataset.Rows), int(dataset.Columns), int(dataset.get("BitsStored", 32))
        colour = int(dataset.get("SamplesPerPixel", 1)) != 1 or dataset.PhotometricInterpretation not in (
            "MONOCHROME1",
            "MONOCHROME2",
        )
        syntax = dataset.file_meta.TransferSyntaxUID
        allocated = int(dataset.BitsAllocated)
    except UnreadableError:
        raise
    except Exception:
        raise UnreadableError("is damaged: its DICOM header lacks what describes the pixels") from None
    if frames != 1:
        raise UnreadableError(f"holds {counted(frames, 'frame')} (tomosynthesis or a sequence); one is expected")
    if colour:
        raise UnreadableError("is in colour; a mammogram is grey (MONOCHROME1 or MONOCHROME2)")
    if stored < 8:
        raise UnreadableError(f"has {stored}-bit pixels (a mask?); at least 8 bits are needed")
    limits.check_size(columns, rows, 1, 2)
    if syntax in CODED:
        dicom_limits.check_frame(_frame(dataset), syntax, rows, columns)
    elif syntax != RLELossless and len(data) < (expected := rows * columns * allocated // 8):
        raise UnreadableError(f"is truncated: {len(data):,} of {expected:,} bytes of pixels")


def _shown(dataset: Dataset) -> np.ndarray:
    """Return the pixels after modality and VOI transformation, dense tissue bright, (rows, columns)."""
    try:
        coded = dataset.file_meta.TransferSyntaxUID in (*CODED, RLELossless)
        stored = _decoded(dataset) if coded else pixel_array(dataset)
        padding = _padding(stored, dataset)
        values = _viewed(_modality(stored, dataset), dataset)
    except MemoryError:
        raise
    except Exception:  # each decoder raises its own exceptions
        syntax = dataset.file_meta.TransferSyntaxUID
        name = syntax.name if syntax.is_transfer_syntax else "unknown transfer syntax"
        need = NEED * int(dataset.Rows) * int(dataset.Columns)
        raise DamagedError(f"is damaged: its pixels cannot be decoded ({name})", need) from None
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise UnreadableError("is damaged: header and pixels differ in size")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = -values.astype(np.float64)
    if padding.any() and not padding.all():
        values[padding] = values[~padding].min()
    return values


def _frame(dataset: Dataset) -> bytes:
    codestreams.fragments(dataset.PixelData)
    try:
        return next(generate_frames(dataset.PixelData, number_of_frames=1))
    except Exception:
        raise UnreadableError("is damaged: the compressed pixels are not encapsulated as DICOM requires") from None


def _decoded(dataset: Dataset) -> np.ndarray:
    """Return the stored values of a compressed frame, signed or unsigned as the DICOM header specifies."""
    syntax, frame = dataset.file_meta.TransferSyntaxUID, _frame(dataset)
    if syntax == RLELossless:
        # The output is bounded by its size here: pydicom lets 2 bytes become 128 without an end.
        shape, kind = (int(dataset.Rows), int(dataset.Columns)), f"u{int(dataset.BitsAllocated) // 8}"
        values = np.empty(shape, kind)
        imagecodecs.dicomrle_decode(frame, values.dtype, out=values.data.cast("B"))
    elif syntax in JPEG2000TransferSyntaxes:
        values = imagecodecs.jpeg2k_decode(frame)
    elif syntax in JPEGLSTransferSyntaxes:
        values = imagecodecs.jpegls_decode(frame)
    else:
        values = imagecodecs.jpeg8_decode(frame)
    bits = int(dataset.BitsStored)
    highest = 2**bits - 1  # a lossy frame of higher precision may exceed it
    values = np.minimum(values.astype(np.int64), highest) & highest
    if dataset.PixelRepresentation == 1:
        values -= (values >> (bits - 1)) << bits
    return values


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return the mask of the padding pixels (PS3.3 C.7.5.1.1.2), whose value would distort the range."""
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
    table = item.LUTData
    if isinstance(table, bytes):
        word = "<u2" if item.original_encoding[1] in (True, None) else ">u2"
        table = np.frombuffer(table, np.uint8 if len(table) < 2 * entries else word)
    table = np.asarray(table, np.float64)[:entries]
    return table[np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.intp)]


def _remarks(dataset: Dataset) -> list[str]:
    remarks = []
    if dataset.get("Modality") != "MG":
        remarks.append("not a mammogram by its header (modality is not MG)")
    if dataset.get("PresentationIntentType") == "FOR PROCESSING":
        remarks.append("raw detector data (FOR PROCESSING), not the image a radiologist reads")
    return remarks

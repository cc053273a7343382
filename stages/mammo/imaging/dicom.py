"""Reader of DICOM files: the pixels as a radiologist's screen displays them; patient data are never read."""

import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from mammo.core.wording import counted
from mammo.imaging import (
    area,
    canonical,
    dicom_limits,
    display,
    headers,
    images,
    limits,
    resolution_levels,
    stored_pixels,
)
from mammo.imaging.headers import Header
from mammo.imaging.limits import UnreadableError
from mammo.imaging.scanned import Properties, Scanned
from mammo.imaging.stored_pixels import CODED, JPEG2000, Stored, frame_of

import cv2
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.uid import RLELossless

INFLATED = 2**28  # bytes, at most, of a deflated file: more than any mammogram needs
NEED = 16  # bytes of memory per pixel while decoding

if TYPE_CHECKING:
    from mammo.core.settings import ForProcessing

# Only these tags are read; none contains a name, number, date or text about a patient.
TAGS = [
    *headers.TAGS,
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "VOILUTFunction",
    "WindowWidth",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
]

# Warnings of pydicom may quote the header; our own messages do not.
warnings.filterwarnings("ignore", module=r"pydicom\.")


def read(
    path: Path,
    size: tuple[int, int],
    steps: canonical.Steps = images.PLAIN,
    for_processing: "ForProcessing" = "refuse",
) -> Scanned:
    """Read a DICOM image as 8-bit grey of one size.

    The modality LUT or rescale slope and intercept are applied, then the first VOI LUT or window (DICOM PS3.3 C.11.1,
    C.11.2). MONOCHROME1 is inverted so that dense tissue is white; pixel padding becomes background. The values are
    then scaled to grey by their range and resized like those of a PNG file. JPEG 2000 is decoded at the smallest
    resolution level with enough pixels.

    Args:
        path: a DICOM file.
        size: height and width in pixels.
        steps: canonicalisation steps.
        for_processing: what to do with raw detector data.

    Raises:
        UnreadableError: the message never quotes the file, since a damaged file may contain a name anywhere.

    """
    content = images.content(path)
    dataset = _opened(path, content)
    _check(dataset)
    if for_processing == "refuse" and display.is_raw(dataset):
        raise UnreadableError(
            "holds raw detector data (FOR PROCESSING), not the image a radiologist reads; "
            "preprocess.for_processing: transform reads such images"
        )
    header = _header(dataset)
    wanted = (2 * size[0], 2 * size[1]) if steps.any else size  # twice, since the breast may be cropped
    grey = _grey(dataset, wanted, size if not steps.any else None, raw=for_processing == "transform")
    if not steps.any:
        image = grey
        chest_wall = canonical.chest_wall(image) if header.chest_wall else ""
    else:
        geometry = canonical.view(grey, steps)
        image, chest_wall = canonical.applied(grey, geometry, size), canonical.clear_side(geometry.breast)
    properties = Properties(len(content), int(dataset.Rows), int(dataset.Columns), _encoding(dataset))
    return Scanned(image, [*header.remarks, *headers.side(header, chest_wall)], properties)


def _encoding(dataset: Dataset) -> str:
    """Return how a readable file is encoded, e.g. `DICOM JPEG2000Lossless MONOCHROME2 12 bits`."""
    syntax = dataset.file_meta.TransferSyntaxUID.keyword
    return f"DICOM {syntax} {dataset.PhotometricInterpretation} {dataset.get('BitsStored', 32)} bits"


def _opened(path: Path, content: bytes) -> Dataset:
    file = dicom_limits.BoundedFile(content)
    try:
        return dcmread(file, specific_tags=TAGS)
    except dicom_limits.DeflatedError:
        return _inflated(path, content[file.tell() :])
    except InvalidDicomError:
        raise UnreadableError("is not a DICOM file: the prefix DICM is missing") from None
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # damaged bytes can cause any exception in pydicom
        raise stored_pixels.fault(error, "is damaged: its DICOM header cannot be read") from None


def _inflated(path: Path, deflated: bytes) -> Dataset:
    """Read a deflated file (PS3.5 A.5); a few kilobytes may inflate to any size, so more than `INFLATED` is refused."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(deflated, INFLATED)
        if inflater.unconsumed_tail:
            raise UnreadableError(f"inflates to more than {INFLATED:,} bytes")
        tags: list[BaseTag | int] = [Tag(name) for name in TAGS]
        file = dicom_limits.BoundedFile(content)
        dataset = read_dataset(file, is_implicit_VR=False, is_little_endian=True, specific_tags=tags)
        meta = read_file_meta_info(path)
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # damaged bytes can cause any exception in zlib and pydicom
        raise stored_pixels.fault(error, "is damaged: its DICOM header cannot be read") from None
    return FileDataset(path, dataset, file_meta=meta, is_implicit_VR=False, is_little_endian=True)


def _header(dataset: Dataset) -> Header:
    try:
        return headers.of(dataset)
    except Exception as error:  # damaged bytes can cause any exception in pydicom
        raise stored_pixels.fault(error, "is damaged: its DICOM header cannot be read") from None


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
    except Exception as error:
        raise stored_pixels.fault(error, "is damaged: its DICOM header lacks what describes the pixels") from None
    if frames != 1:
        raise UnreadableError(f"holds {counted(frames, 'frame')} (tomosynthesis or a sequence); one is expected")
    if colour:
        raise UnreadableError("is in colour; a mammogram is grey (MONOCHROME1 or MONOCHROME2)")
    if stored < 8:
        raise UnreadableError(f"has {stored}-bit pixels (a mask?); at least 8 bits are needed")
    limits.check_size(columns, rows, 1, 2)
    if syntax in CODED:
        dicom_limits.check_frame(frame_of(dataset), syntax, rows, columns)
    elif syntax != RLELossless and len(data) < (expected := rows * columns * allocated // 8):
        raise UnreadableError(f"is truncated: {len(data):,} of {expected:,} bytes of pixels")


def _grey(dataset: Dataset, enough: tuple[int, int], size: tuple[int, int] | None, raw: bool) -> np.ndarray:
    """Return the pixels as displayed, uint8: of the size `size`, or if that is None at least as many as `enough`."""
    try:
        stored = stored_pixels.decode(dataset, enough if _can_be_reduced(dataset, raw) else None)
        shape = dataset.Rows, dataset.Columns
        if not stored.reduced and stored.pixels.shape != shape:
            raise UnreadableError("is damaged: header and pixels differ in size")
        if stored.indexed:
            return _through_table(stored, display.table(stored, dataset, raw), shape, size)
        grey = display.spread(display.grey_levels(stored.values(stored.pixels), dataset, raw))
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # each decoder raises its own exceptions
        syntax = dataset.file_meta.TransferSyntaxUID
        name = syntax.name if syntax.is_transfer_syntax else "unknown transfer syntax"
        need = NEED * int(dataset.Rows) * int(dataset.Columns)
        raise stored_pixels.fault(error, f"is damaged: its pixels cannot be decoded ({name})", need) from None
    return _eight_bit(grey if size is None else images.resized(grey, size))


def _can_be_reduced(dataset: Dataset, raw: bool) -> bool:
    if dataset.file_meta.TransferSyntaxUID not in JPEG2000 or int(dataset.BitsStored) > 16:
        return False
    low, high = stored_pixels.storable(dataset)
    return display.can_be_averaged(np.arange(low, high + 1), dataset, raw)


def _through_table(
    stored: Stored, table: np.ndarray, shape: tuple[int, int], size: tuple[int, int] | None
) -> np.ndarray:
    if stored.reduced:
        grey = resolution_levels.centred(cv2.LUT(stored.pixels, table[np.newaxis]), shape, stored.reduced)
        return _eight_bit(grey if size is None else images.resized(grey, size))
    if size is None:
        return cv2.LUT(stored.pixels, _eight_bit(table)[np.newaxis])
    return _eight_bit(area.resized(stored.pixels, table, size))


def _eight_bit(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)

"""Decoding of the stored pixels of a DICOM file, of every transfer syntax, without a calculation per pixel."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mammo.core.errors import is_lack_of_memory
from mammo.imaging import codestreams, resolution_levels
from mammo.imaging.limits import DamagedError, UnreadableError

import imagecodecs
import numpy as np
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import (
    HTJ2K,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

HIGH_THROUGHPUT = (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
JPEG2000 = tuple(syntax for syntax in JPEG2000TransferSyntaxes if syntax not in HIGH_THROUGHPUT)
CODED = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
"""Transfer syntaxes with a codestream that describes itself."""


@dataclass(frozen=True)
class Stored:
    """The pixels of a file as its decoder returns them, and what they mean."""

    pixels: np.ndarray
    """(rows, columns). If `uint8` or `uint16`, an index: `values` turns it into the stored value; otherwise values."""
    values: Callable[[np.ndarray], np.ndarray]
    """Return the stored values, signed or unsigned as the header specifies, of pixels or indices of any shape."""
    reduced: int = 0
    """How often the height and width were halved in decoding."""

    @property
    def indexed(self) -> bool:
        """Whether the pixels are indices of at most 16 bits, so that a table can take their place."""
        return self.pixels.dtype in (np.uint8, np.uint16)


def fault(error: Exception, reason: str, need: int = 0) -> Exception:
    """Return what to raise for an exception of a decoder: the reason, but for lack of memory, which is no fault.

    With `need`, the bytes of memory that decoding takes, the reason is one to be tried again with so much memory.
    """
    if is_lack_of_memory(error):
        return MemoryError(str(error))
    return DamagedError(reason, need) if need else UnreadableError(reason)


def frame_of(dataset: Dataset) -> bytes:
    """Return the compressed bytes of the only frame.

    Raises:
        UnreadableError: they are not encapsulated, or in too many fragments.

    """
    codestreams.fragments(dataset.PixelData)
    try:
        return next(generate_frames(dataset.PixelData, number_of_frames=1))
    except Exception as error:
        raise fault(error, "is damaged: the compressed pixels are not encapsulated as DICOM requires") from None


def decode(dataset: Dataset, enough: tuple[int, int] | None = None) -> Stored:
    """Decode the pixels of a file whose header was checked.

    The decoders of imagecodecs are the fastest exact ones, and release the lock of the interpreter: uncompressed
    pixels are not copied at all.

    Args:
        dataset: with PixelData, FloatPixelData or DoubleFloatPixelData.
        enough: height and width at which JPEG 2000 may be decoded instead, see `resolution_levels`; None: in full.

    Raises:
        Exception: of any kind; decoders raise their own.

    """
    syntax, bits = dataset.file_meta.TransferSyntaxUID, int(dataset.get("BitsAllocated", 0))
    plain = "PixelData" in dataset and (bits == 16 or (bits == 8 and syntax.is_little_endian))
    if syntax in CODED:
        return _of_codestream(dataset, syntax, enough)
    if plain and syntax == RLELossless:
        # The output is bounded by its size here: 2 bytes of a run may become 128, without an end.
        pixels = np.empty((int(dataset.Rows), int(dataset.Columns)), "u1" if bits == 8 else "<u2")
        with _nothing_ignored():
            imagecodecs.dicomrle_decode(frame_of(dataset), pixels.dtype, out=pixels.data.cast("B"))
        return _of_bytes(dataset, pixels.data, bits, swapped=False)
    if plain and not syntax.is_encapsulated:
        return _of_bytes(dataset, dataset.PixelData, bits, swapped=not syntax.is_little_endian)
    return Stored(pixel_array(dataset).astype(np.float64), lambda values: values)


def _of_bytes(dataset: Dataset, data: bytes | memoryview, bits: int, swapped: bool) -> Stored:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    kind = np.dtype(f"u{bits // 8}")
    pixels = np.frombuffer(data, kind, rows * columns).reshape(rows, columns)
    unused = bits - int(dataset.BitsStored)
    if unused < 0:
        raise ValueError("more bits stored than allocated")
    signed = dataset.PixelRepresentation == 1

    def values(index: np.ndarray) -> np.ndarray:
        index = index.astype(kind)
        index = index.byteswap() if swapped else index
        index = index.view(f"i{bits // 8}") if signed else index
        return (np.left_shift(index, unused) >> unused).astype(np.int64)  # the unused bits may hold anything

    return Stored(pixels, values)


def _of_codestream(dataset: Dataset, syntax: UID, enough: tuple[int, int] | None) -> Stored:
    frame = frame_of(dataset)
    if enough and syntax in JPEG2000 and (reduced := resolution_levels.decode(frame, enough, bool(_signed(dataset)))):
        pixels, levels, unshifted = reduced
        low, high = storable(dataset)  # a low-pass image exceeds them beside sharp edges
        return Stored(pixels, lambda index: np.clip(unshifted(index), low, high), levels)
    with _nothing_ignored():
        pixels = _decoder(syntax)(frame)
    kind = pixels.dtype
    if kind.itemsize > 2 or kind.kind not in "iu":
        return Stored(_as_declared(pixels, dataset), lambda values: values)
    index_of = np.dtype(f"u{kind.itemsize}")
    return Stored(pixels.view(index_of), lambda index: _as_declared(index.astype(index_of).view(kind), dataset))


@contextmanager
def _nothing_ignored() -> Iterator[None]:
    """Raise an exception that a decoder causes where Python can only ignore it.

    HTJ2K is decoded by imagecodecs in a function that cannot raise: of damaged data it returns an image whose
    rows were never written.
    """
    ignored: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda error: ignored.append(str(error.exc_value))
    try:
        yield
    finally:
        sys.unraisablehook = hook
    if ignored:
        raise ValueError(ignored[0])


def _decoder(syntax: UID) -> Callable[[bytes], np.ndarray]:
    if syntax in HIGH_THROUGHPUT:
        return imagecodecs.htj2k_decode
    if syntax in JPEG2000:
        return imagecodecs.jpeg2k_decode
    return imagecodecs.jpegls_decode if syntax in JPEGLSTransferSyntaxes else imagecodecs.jpeg8_decode


def storable(dataset: Dataset) -> tuple[int, int]:
    """Return the least and the greatest value that the header allows to be stored."""
    values = 2 ** int(dataset.BitsStored)
    return (-values // 2, values // 2 - 1) if _signed(dataset) else (0, values - 1)


def _signed(dataset: Dataset) -> int:
    return int(dataset.PixelRepresentation)


def _as_declared(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return decoded values as stored values, int64, signed or unsigned as the DICOM header specifies."""
    bits = int(dataset.BitsStored)
    highest = 2**bits - 1  # a lossy frame of higher precision may exceed it
    values = np.minimum(values.astype(np.int64), highest) & highest
    if _signed(dataset) == 1:
        values -= (values >> (bits - 1)) << bits
    return values

"""What a DICOM file declares about its compressed pixels, and how much of a header is read. Nothing is decoded."""

import io

from mammo.imaging import codestreams
from mammo.imaging.limits import UnreadableError

from pydicom.uid import UID, JPEG2000TransferSyntaxes

MAX_READS = 200_000  # from the header; a large one has a few thousand elements, each of which takes two or three


class DeflatedError(Exception):
    """The data set of the file is deflated."""


class BoundedFile(io.BytesIO):
    """The bytes of a DICOM file, which can be read from only so often: pydicom visits every element in Python."""

    def __init__(self, content: bytes) -> None:
        """Hold the bytes."""
        super().__init__(content)
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes.

        Raises:
            UnreadableError: a header has more elements than any sound one.
            DeflatedError: all that is left is wanted, which pydicom inflates without a bound.

        """
        self._reads += 1
        if self._reads > MAX_READS:
            raise UnreadableError("has a DICOM header of more elements than are read")
        if size is None or size < 0:
            raise DeflatedError
        return super().read(size)


def check_frame(frame: bytes, syntax: UID, rows: int, columns: int) -> None:
    """Check that compressed pixels are complete, grey, of the size in the header, and within `limits`.

    Args:
        frame: JPEG, JPEG-LS, JPEG 2000 or HTJ2K data.
        syntax: the transfer syntax, which selects the decoder.
        rows: in the DICOM header.
        columns: in the DICOM header.

    Raises:
        UnreadableError: they are not.

    """
    # Decoders allocate memory for the size in the codestream, and fill missing data at its end with grey.
    if b"\xff\xd9" not in frame[-1024:]:
        raise UnreadableError("is truncated: the end of the compressed pixels is missing")
    if syntax in JPEG2000TransferSyntaxes:  # with those of HTJ2K
        height, width = codestreams.jpeg2000(frame)
    else:
        if not frame.startswith(b"\xff\xd8"):
            raise UnreadableError("is damaged: the compressed pixels have no header")
        stream = codestreams.jpeg(frame)
        height, width = stream.height, stream.width
        if stream.components != 1:
            raise UnreadableError(f"holds {stream.components} components in its compressed pixels; one is expected")
    if (height, width) != (rows, columns):
        raise UnreadableError(
            f"is damaged: header and compressed pixels differ in size: {columns}×{rows}, {width}×{height}"
        )

"""Bounds on what is decoded, as facts that a file states about itself: alike on every machine.

A file beyond a bound is refused before a decoder sees it. The bounds lie well above what mammograms need, and low
enough that no file takes more than 1 GB of memory or 5 seconds on a desktop processor.
"""

import mmap

MAX_BYTES = 300_000_000  # per file; an uncompressed full-field mammogram has 10 to 60 million
MAX_PIXELS = 100_000_000  # a full-field mammogram has 5 to 30 million
MIN_SIDE = 32  # pixels; smaller images cannot show a breast
MAX_DECODED = 250_000_000  # bytes: pixels × components × bytes per sample
MAX_COEFFICIENTS = 100_000_000  # pixels × components of a JPEG in several scans, which is held as 16-bit coefficients
MAX_SCANS = 100  # of a JPEG; encoders write about ten
MAX_PLAIN = 30_000_000  # samples of a plain PGM, which are parsed from text
MAX_SCANNED = 600_000_000  # scans × pixels of a JPEG: each scan visits every pixel
MAX_SEGMENTS = 20_000  # marker segments of a JPEG or JPEG 2000, chunks beside the pixels of a PNG, boxes, fragments
MAX_CHUNKS = 200_000  # of a PNG: its pixels come in chunks of 8 kB or more
MAX_TILES = 100_000  # tiles or strips of a TIFF
MAX_TILES_2000 = 10_000  # tiles of a JPEG 2000
MAX_BLOCKS = 1_000_000  # code-blocks of a JPEG 2000: 16×16 coefficients each in an image of the largest size
MAX_PACKETS = 2_000_000  # packets of a JPEG 2000: precincts × layers
MAX_BESIDE = 16_000_000  # bytes beside the pixels: colour profiles, texts, tags
MAX_TAGS = 10_000  # of a TIFF, all directories together


class UnreadableError(Exception):
    """The file cannot be read as an image; the text is the reason."""


class DamagedError(UnreadableError):
    """A decoder failed. Since some decoders say so where memory is short, `need` is the memory to try for, in bytes."""

    def __init__(self, reason: str, need: int = 0) -> None:
        """Store the reason and the memory that decoding needs."""
        super().__init__(reason)
        self.need = need


def check_bytes(number: int) -> None:
    """Raise UnreadableError if a file of this length is not read."""
    if number > MAX_BYTES:
        raise UnreadableError(f"has {number:,} bytes; at most {MAX_BYTES:,} are read")


def check_size(width: int, height: int, components: int = 1, bytes_per_sample: int = 1) -> None:
    """Raise UnreadableError if an image of this size is not read."""
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"declares {width}×{height} pixels; at most {MAX_PIXELS:,} are read")
    if min(width, height) < MIN_SIDE:
        raise UnreadableError(f"is {width}×{height} pixels; at least {MIN_SIDE}×{MIN_SIDE} are needed")
    decoded = width * height * components * bytes_per_sample
    if decoded > MAX_DECODED:
        raise UnreadableError(
            f"declares {width}×{height} pixels of {components} components, {decoded:,} bytes; "
            f"at most {MAX_DECODED:,} are read"
        )


def at_most(number: int, limit: int, what: str) -> None:
    """Raise UnreadableError if the file has more than `limit` of `what`."""
    if number > limit:
        raise UnreadableError(f"has {number:,} {what}; at most {limit:,} are read")


def check_memory(need: int) -> None:
    """Raise MemoryError if `need` bytes cannot be allocated."""
    if need:
        try:
            mmap.mmap(-1, need).close()
        except OSError as error:
            raise MemoryError from error

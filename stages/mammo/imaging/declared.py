"""What PNG and TIFF files declare: chunks, directories, tiles. Nothing is decoded.

Pillow reads every text, profile and tag, follows each directory and builds a list of all tiles before it decodes a
pixel; a few kilobytes can make that take minutes or gigabytes.
"""

import math
import struct
from dataclasses import dataclass, field

from mammo.core.wording import counted
from mammo.imaging import limits
from mammo.imaging.limits import UnreadableError

PNG = b"\x89PNG\r\n\x1a\n"
_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
"""Bytes per value of each type of a TIFF tag; 0 for types that do not exist."""

WIDTH, LENGTH, BITS, COMPRESSION, SAMPLES, ROWS_PER_STRIP = 256, 257, 258, 259, 277, 278
STRIPS, TILE_WIDTH, TILE_LENGTH, TILES = 273, 322, 323, 324
_DIRECTORIES = (330, 34665, 34853, 40965)
"""Tags that point to further directories: sub-images, EXIF, GPS, interoperability."""

COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32946: "deflate", 32773: "PackBits", 50000: "Zstandard"}
"""What is read, by the value of the tag; in the others the cost of decoding is not bounded by the size of the image."""


def check_png(data: bytes) -> None:
    """Raise UnreadableError if a PNG has more chunks, or more bytes beside its pixels, than `limits` allow."""
    place, chunks, others, beside = len(PNG), 0, 0, 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        chunks += 1
        if kind not in (b"IDAT", b"IEND"):
            others, beside = others + 1, beside + length
        limits.at_most(chunks, limits.MAX_CHUNKS, "or more chunks")
        limits.at_most(others, limits.MAX_SEGMENTS, "or more chunks beside its pixels")
        limits.at_most(beside, limits.MAX_BESIDE, "or more bytes beside its pixels")
        if kind == b"IEND":
            return
        place += 12 + length


@dataclass
class _Tiff:
    """A TIFF file whose directories are walked."""

    data: bytes
    order: str
    big: bool
    tags: int = 0
    beside: int = 0
    walked: set[int] = field(default_factory=set)

    def number(self, place: int, size: int) -> int:
        """Return the unsigned number of `size` bytes at `place`; raise struct.error beyond the end."""
        if place > len(self.data):
            raise struct.error
        return int(struct.unpack_from(self.order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], self.data, place)[0])

    def directory(self, place: int) -> tuple[list[tuple[int, int, int, int]], int]:
        """Return tag, type, count and the place of the value of each entry, and the place of the next directory."""
        wide = 8 if self.big else 4
        count = self.number(place, 8 if self.big else 2)
        limits.at_most(self.tags + count, limits.MAX_TAGS, "tags")
        start, entry = place + (8 if self.big else 2), 12 + 2 * (wide - 4)
        entries = []
        for at in range(start, start + count * entry, entry):
            tag, kind, values = self.number(at, 2), self.number(at + 2, 2), self.number(at + 4, wide)
            size = values * (_SIZES[kind] if kind < len(_SIZES) else 0)
            content = at + 4 + wide
            entries.append((tag, kind, values, content if size <= wide else self.number(content, wide)))
        following = start + count * entry
        return entries, self.number(following, wide)

    def walk(self, entries: list[tuple[int, int, int, int]]) -> None:
        """Count tags and bytes of a directory and of those that it points to."""
        todo = [entries]
        while todo:
            for tag, kind, values, place in todo.pop():
                size = _SIZES[kind] if kind < len(_SIZES) else 0
                self.tags, self.beside = self.tags + 1, self.beside + values * size
                limits.at_most(self.beside, limits.MAX_BESIDE, "or more bytes beside its pixels")
                if tag not in _DIRECTORIES or size not in (2, 4, 8):
                    continue
                for index in range(values):
                    inner = self.number(place + index * size, size)
                    if inner in self.walked:
                        raise UnreadableError("has directories that contain each other")
                    self.walked.add(inner)
                    try:
                        todo.append(self.directory(inner)[0])
                    except struct.error:
                        continue  # points nowhere

    def value(self, entries: list[tuple[int, int, int, int]], wanted: int, default: int) -> int:
        """Return the first value of a tag, the largest where it stands twice: programs differ in which they take."""
        found = [
            self.number(place, _SIZES[kind])
            for tag, kind, values, place in entries
            if tag == wanted and values and kind < len(_SIZES) and _SIZES[kind] in (1, 2, 4, 8)
        ]
        return max(found, default=default)


def check_tiff(data: bytes) -> tuple[int, int]:
    """Return width and height of a TIFF of one page.

    Raises:
        UnreadableError: it has several pages, or more tags, tiles or bytes than `limits` allow, or an odd compression.

    """
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        tiff = _Tiff(data, order, big=struct.unpack_from(order + "H", data, 2)[0] == 43)
        first = tiff.number(8, 8) if tiff.big else tiff.number(4, 4)
        entries, following = tiff.directory(first)
        _check_pages(tiff, first, following)
        tiff.walked.add(first)
        tiff.walk(entries)
        return _check_layout(tiff, entries)
    except (struct.error, KeyError):
        raise UnreadableError("is damaged: the TIFF has no complete directory") from None


def _check_pages(tiff: _Tiff, first: int, following: int) -> None:
    pages, seen = 1, {first}
    while following:
        if following in seen:
            raise UnreadableError("has pages that follow each other in a circle")
        seen.add(following)
        try:
            count = tiff.number(following, 8 if tiff.big else 2)
            start, entry = (8, 20) if tiff.big else (2, 12)
            following = tiff.number(following + start + count * entry, 8 if tiff.big else 4)
        except struct.error:
            break
        pages += 1
    if pages > 1:
        raise UnreadableError(f"holds {counted(pages, 'frame')}; one is expected")


def _check_layout(tiff: _Tiff, entries: list[tuple[int, int, int, int]]) -> tuple[int, int]:
    width, height = (tiff.value(entries, tag, 0) for tag in (WIDTH, LENGTH))
    samples = tiff.value(entries, SAMPLES, 1)
    sample_bytes = math.ceil(tiff.value(entries, BITS, 1) / 8)
    limits.check_size(width, height, samples, sample_bytes)
    compression = tiff.value(entries, COMPRESSION, 1)
    if compression not in COMPRESSIONS:
        known = ", ".join(dict.fromkeys(COMPRESSIONS.values()))
        raise UnreadableError(f"is a TIFF with compression {compression}; read are: {known}")
    parts = max((values for tag, _, values, _ in entries if tag in (STRIPS, TILES)), default=0)
    limits.at_most(parts, limits.MAX_TILES, "tiles or strips")
    wide, high = (tiff.value(entries, tag, 0) for tag in (TILE_WIDTH, TILE_LENGTH))
    if wide and high:
        limits.at_most(math.ceil(width / wide) * math.ceil(height / high), limits.MAX_TILES, "tiles or strips")
        if wide * high * samples * sample_bytes > limits.MAX_DECODED:
            raise UnreadableError(f"declares tiles of {wide}×{high} pixels")
    rows = tiff.value(entries, ROWS_PER_STRIP, height) or height
    limits.at_most(math.ceil(height / rows) * samples, limits.MAX_TILES, "tiles or strips")
    return width, height

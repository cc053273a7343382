"""What JPEG, JPEG-LS and JPEG 2000 data declare: size, components, scans, tiles. Nothing is decoded.

The markers are walked as the decoders walk them (ITU-T T.81 B.1.1, T.87 C, T.800 A), so that none inside another
segment, box or comment is taken for the real one.
"""

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mammo.core.wording import counted
from mammo.imaging import limits
from mammo.imaging.limits import UnreadableError

_MARKER = re.compile(rb"\xff+([\x01-\xfe])")  # FF00 is a byte of data, FFFF is padding
_AFTER_DATA = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # restart markers (D0 to D7) belong to the data
SOI, EOI, SOS, LSE = 0xD8, 0xD9, 0xDA, 0xF8
_ALONE = (0x01, *range(0xD0, 0xD8))  # markers without a length: TEM, RST0 to RST7
_FRAMES = (*(kind for kind in range(0xC0, 0xD0) if kind not in (0xC4, 0xC8, 0xCC)), 0xF7)
BASELINE = (0xC0, 0xC1)
ONE_PASS = (*BASELINE, 0xC3, 0xF7)  # with lossless JPEG and JPEG-LS: decoders stop after a scan of all components
MULTI_PICTURE = b"MPF\0"
SIGNATURE_2000, BOXES_2000 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"


@dataclass(frozen=True)
class Jpeg:
    """What the header and scans of a JPEG or JPEG-LS declare."""

    height: int
    width: int
    components: int
    bits: int
    frame: int
    """Second byte of the frame's marker, 0xC0 for baseline."""
    scans: int
    start: int
    """Where the data of the first scan begin."""
    plain: bytes | None
    """The file without application data (profiles, thumbnails, EXIF) and fill bytes; None if there are none of them."""

    @property
    def baseline(self) -> bool:
        """Whether it is decoded in one pass: its cost is known from its size."""
        return self.frame in BASELINE and self.scans <= 1


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield kind, start (of the bytes FF), last FF, start of the content and end of each marker segment of a JPEG.

    EOI and the markers without a length are among them.
    """
    place, number = 2, 0
    scanning = False
    while match := (_AFTER_DATA if scanning else _MARKER).search(data, place):
        kind, after = match[1][0], match.end()
        number += 1
        limits.at_most(number, limits.MAX_SEGMENTS, "or more marker segments")
        if kind in _ALONE or kind == EOI:
            yield kind, match.start(), after - 2, after, after
            if kind == EOI:
                return
            place = after
            continue
        if after + 2 > len(data):
            return
        end = after + struct.unpack_from(">H", data, after)[0]
        yield kind, match.start(), after - 2, after + 2, end
        scanning = scanning or kind == SOS
        place = end


def jpeg(data: bytes) -> Jpeg:
    """Return what a JPEG or JPEG-LS declares.

    Files of one program often begin with the same bytes up to their pixels. Where nothing after these counts, what the
    last such file declared holds for the next one: walking through the markers takes longer than all other checks.

    Raises:
        UnreadableError: it has no header, two, or more segments or scans than `limits` allow.

    """
    for beginning, declared in _LAST:
        if data.startswith(beginning):
            return declared
    declared, to_the_end = _walked(data)
    if not to_the_end and declared.scans == 1 and declared.plain is None:
        _LAST[:] = [(data[: declared.start], declared)]
    return declared


_LAST: list[tuple[bytes, Jpeg]] = []  # the bytes up to the pixels, and what they declare; empty before the first


def _walked(data: bytes) -> tuple[Jpeg, bool]:
    """Return what a JPEG declares, and whether its markers were walked to the end; raise as `jpeg` does."""
    frame, scans, start, beside, to_the_end = None, 0, 0, [], True
    for kind, place, marker, content, end in _segments(data):
        if (0xE1 <= kind <= 0xEF and kind != 0xEE) or kind == 0xFE:
            if data[content : content + 4] == MULTI_PICTURE and (number := _pictures(data[content + 4 : end])) > 1:
                raise UnreadableError(f"holds {counted(number, 'frame')}; one is expected")
            beside.append((place, end))
            continue
        if marker > place:
            beside.append((place, marker))
        if kind in _FRAMES:
            if frame is not None:
                raise UnreadableError("is damaged: the JPEG has two headers")
            if content + 6 > len(data):
                break
            frame = (kind, *struct.unpack_from(">BHHB", data, content))
        elif kind == SOS:
            scans, start = scans + 1, start or end
            if frame and frame[0] in ONE_PASS and data[content : content + 1] == bytes((frame[4],)):
                to_the_end = False
                break  # all components in one scan
        elif kind == LSE and data[content : content + 1] == b"\4":
            raise UnreadableError("declares its size a second time, as a JPEG-LS of more than 65,535 pixels")
    if frame is None:
        raise UnreadableError("is damaged: the JPEG has no header")
    kind, bits, height, width, components = frame
    if width and height:
        limits.check_size(width, height, components, math.ceil(bits / 8))
    limits.at_most(scans, limits.MAX_SCANS, "scans")
    limits.at_most(scans * width * height, limits.MAX_SCANNED, "pixels in all scans together")
    if scans > 1 or kind not in BASELINE:
        limits.at_most(width * height * components, limits.MAX_COEFFICIENTS, "coefficients")
    return Jpeg(height, width, components, bits, kind, scans, start, _without(data, beside)), to_the_end


def _without(data: bytes, parts: list[tuple[int, int]]) -> bytes | None:
    if not parts:
        return None
    kept, place = [], 0
    for start, end in parts:
        kept.append(data[place:start])
        place = end
    return b"".join([*kept, data[place:]])


def _pictures(content: bytes) -> int:
    """Return the number of pictures that a multi-picture segment (CIPA DC-007) lists; 1 where it is unreadable."""
    try:
        order = {b"II": "<", b"MM": ">"}[content[:2]]
        first = struct.unpack_from(order + "I", content, 4)[0]
        for number in range(struct.unpack_from(order + "H", content, first)[0]):
            tag, _, _, value = struct.unpack_from(order + "HHII", content, first + 2 + 12 * number)
            if tag == 0xB001:
                return int(value)
    except (KeyError, struct.error):
        pass
    return 1


def jpeg2000(data: bytes) -> tuple[int, int]:
    """Return height and width of a JPEG 2000 or HTJ2K image, with or without the boxes of a JP2 file.

    Raises:
        UnreadableError: it has no header, several components, or more parts than `limits` allow.

    """
    stream = out_of_boxes(data)
    if not stream.startswith(SIGNATURE_2000) or len(stream) < 44:
        raise UnreadableError("is damaged: the compressed pixels have no header")
    right, bottom, left, top, wide, high, tiles_left, tiles_top = struct.unpack_from(">8I", stream, 8)
    components, spacing = struct.unpack_from(">H", stream, 40)[0], stream[43:45]
    if not wide or not high or right <= left or bottom <= top or tiles_left > left or tiles_top > top:
        raise UnreadableError("is damaged: the compressed pixels have an impossible header")
    if components != 1:
        raise UnreadableError(f"holds {components:,} components in its compressed pixels; one is expected")
    if spacing != b"\1\1":
        raise UnreadableError("has subsampled compressed pixels, which a mammogram never has")
    height, width = bottom - top, right - left
    limits.check_size(width, height, 1, 2)
    tiles = math.ceil((right - tiles_left) / wide) * math.ceil((bottom - tiles_top) / high)
    limits.at_most(tiles, limits.MAX_TILES_2000, "tiles in its compressed pixels")
    _check_coding(stream, min(wide, width), min(high, height), tiles)
    return height, width


def out_of_boxes(data: bytes) -> bytes:
    """Return the codestream of a JP2 file (T.800 I.4), or the data themselves if they are one."""
    if not data.startswith(BOXES_2000):
        return data
    for kind, content in _boxes(data):
        if kind == b"jp2h" and any(inner == b"pclr" for inner, _ in _boxes(content)):
            raise UnreadableError("has a palette in its compressed pixels, which a mammogram never has")
        if kind == b"jp2c":
            return content
    raise UnreadableError("is damaged: the compressed pixels have no header")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = number = 0
    while place + 16 <= len(data):
        number += 1
        limits.at_most(number, limits.MAX_SEGMENTS, "or more boxes")
        length, kind = struct.unpack_from(">I4s", data, place)
        content = place + 8
        if length == 1:
            length = struct.unpack_from(">Q", data, content)[0]
            content += 8
        end = place + length if length else len(data)
        if end < content:
            return
        yield kind, data[content:end]
        place = end


def _check_coding(stream: bytes, width: int, height: int, tiles: int) -> None:
    """Check the number of precincts, packets and code-blocks of the tiles, of width × height each."""
    layers, blocks, precincts = 1, 0, 0
    for kind, content in _headers_2000(stream):
        try:
            if kind == 0x52:  # COD: style, progression, layers, transform, then the coding style
                layers = max(layers, struct.unpack_from(">H", content, 2)[0])
                counts = _blocks(content[5:], width, height, bool(content[0] & 1))
            elif kind == 0x53:  # COC: component, style, then the coding style
                counts = _blocks(content[2:], width, height, bool(content[1] & 1))
            else:
                continue
        except (IndexError, struct.error):
            raise UnreadableError("is damaged: the compressed pixels have an impossible header") from None
        blocks, precincts = max(blocks, counts[0]), max(precincts, counts[1])
    limits.at_most(blocks * tiles, limits.MAX_BLOCKS, "code-blocks in its compressed pixels")
    limits.at_most(precincts * tiles * layers, limits.MAX_PACKETS, "packets in its compressed pixels")


def _blocks(style: bytes, width: int, height: int, precincts_follow: bool) -> tuple[int, int]:
    """Return the numbers of code-blocks and of precincts of one tile with this coding style (T.800 A.6.1, B.6, B.7)."""
    levels, block_width, block_height = style[0], style[1] + 2, style[2] + 2
    if levels > 32 or block_width > 10 or block_height > 10:
        raise IndexError
    blocks = precincts = 0
    for level in range(levels + 1):
        sizes = style[5 + level] if precincts_follow else 0xFF
        across, down = sizes & 15, sizes >> 4
        wide, high = (math.ceil(side / 2 ** (levels - level)) for side in (width, height))
        precincts += (math.ceil(wide / 2**across) + 1) * (math.ceil(high / 2**down) + 1) if sizes != 0xFF else 1
        lower = 1 if level else 0
        one_wide = 2 ** max(min(block_width, across - lower), 0)
        one_high = 2 ** max(min(block_height, down - lower), 0)
        bands = 3 if level else 1
        blocks += bands * (math.ceil(wide / 2**lower / one_wide)) * (math.ceil(high / 2**lower / one_high))
    return blocks, precincts


def _headers_2000(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and content of the marker segments of the main header and of every tile-part's header."""
    place, tile_part, number = 2, 0, 0
    while place + 4 <= len(stream) and stream[place] == 0xFF:
        kind = stream[place + 1]
        number += 1
        limits.at_most(number, limits.MAX_SEGMENTS, "or more marker segments")
        if kind == 0x93:  # SOD: data up to the end of the tile-part
            length = struct.unpack_from(">I", stream, tile_part + 6)[0]
            if not length:  # the last tile-part, to the end
                return
            place = max(tile_part + length, place + 2)
            continue
        if kind == 0xD9:
            return
        length = struct.unpack_from(">H", stream, place + 2)[0]
        if kind == 0x90:  # SOT
            if place + 12 > len(stream):
                return
            tile_part = place
        yield kind, stream[place + 4 : place + 2 + length]
        place += 2 + max(length, 2)


def fragments(data: bytes) -> int:
    """Return the number of fragments of encapsulated DICOM pixels (PS3.5 A.4), the offset table not counted.

    Raises:
        UnreadableError: there are more than `limits` allow.

    """
    place = number = 0
    while place + 8 <= len(data) and data[place : place + 4] == b"\xfe\xff\x00\xe0":
        number += 1
        limits.at_most(number, limits.MAX_SEGMENTS, "or more fragments of pixels")
        place += 8 + struct.unpack_from("<I", data, place + 4)[0]
    return max(number - 1, 0)

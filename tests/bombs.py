"""Files of kilobytes that take decoders gigabytes or minutes, each built from the specification of its format."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

SIDE = 640  # pixels where the size is not the point
HUGE = 30_000


@cache
def grey() -> Image.Image:
    y, x = np.mgrid[:SIDE, :SIDE]
    return Image.fromarray(((x * 3 + y * y // 90) % 200).astype(np.uint8))


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


# DICOM


def element(group: int, number: int, kind: bytes, content: bytes, length: int | None = None) -> bytes:
    length = len(content) if length is None else length
    if kind in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHI", group, number, kind, 0, length) + content
    return struct.pack("<HH2sH", group, number, kind, length) + content


def number(group: int, tag: int, value: int) -> bytes:
    return element(group, tag, b"US", struct.pack("<H", value))


def dicom(
    pixels: bytes,
    syntax: UID = ExplicitVRLittleEndian,
    rows: int = SIDE,
    columns: int = SIDE,
    before: bytes = b"",
    frames: int = 1,
    undefined: bool = True,
) -> bytes:
    """A mammography file; compressed `pixels` are already encapsulated; `before` are elements before the group 0028."""
    uid = str(syntax).encode()
    meta = element(2, 0x10, b"UI", uid + b"\0" * (len(uid) % 2))
    compressed = syntax not in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    header = [
        before,
        element(8, 0x60, b"CS", b"MG"),
        number(0x28, 2, 1),
        element(0x28, 4, b"CS", b"MONOCHROME2 "),
        element(0x28, 8, b"IS", b"%-6d" % frames),
        *(number(0x28, tag, value) for tag, value in ((0x10, rows), (0x11, columns), (0x100, 16), (0x101, 12))),
        *(number(0x28, tag, value) for tag, value in ((0x102, 11), (0x103, 0))),
        element(0x7FE0, 0x10, b"OB" if compressed else b"OW", pixels, 0xFFFFFFFF if compressed and undefined else None),
    ]
    body = b"".join(sorted(header[:1]) + header[1:])
    if syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta + body


ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def item(content: bytes) -> bytes:
    return ITEM + struct.pack("<I", len(content)) + content


def encapsulated(*fragments: bytes) -> bytes:
    return item(b"") + b"".join(item(part + b"\0" * (len(part) % 2)) for part in fragments) + END


# JPEG 2000 (ITU-T T.800 annex A), headers with an empty tile


def j2k(
    width: int = SIDE,
    height: int = SIDE,
    components: int = 1,
    tile: tuple[int, int] | None = None,
    levels: int = 5,
    block: tuple[int, int] = (4, 4),
    precincts: bytes = b"",
    layers: int = 1,
) -> bytes:
    wide, high = tile or (width, height)
    size = struct.pack(">H8IH", 0, width, height, 0, 0, wide, high, 0, 0, components) + b"\x0b\1\1" * components
    coding = struct.pack(">BBHBBBBBB", bool(precincts), 0, layers, 0, levels, *block, 0, 1) + precincts
    quantisation = b"\x40" + b"\x60" * (3 * levels + 1)
    segments = [(b"\xff\x51", size), (b"\xff\x52", coding), (b"\xff\x5c", quantisation)]
    header = b"".join(mark + struct.pack(">H", len(content) + 2) + content for mark, content in segments)
    tile_part = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 14, 0, 1) + b"\xff\x93"
    return b"\xff\x4f" + header + tile_part + b"\xff\xd9"


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def jp2(stream: bytes, *before: bytes, width: int, height: int, inside: bytes = b"") -> bytes:
    colour = box(b"colr", b"\1\0\0" + struct.pack(">I", 17))
    header = box(b"ihdr", struct.pack(">IIHBBBB", height, width, 1, 11, 7, 0, 0)) + inside + colour
    kind = box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    signature = box(b"jP  ", b"\r\n\x87\n")
    return signature + kind + b"".join(before) + box(b"jp2h", header) + box(b"jp2c", stream)


def of_2000(stream: bytes, rows: int = SIDE, columns: int = SIDE) -> bytes:
    return dicom(encapsulated(stream), JPEG2000Lossless, rows, columns)


def decoy() -> bytes:
    """The codestream that the header promises lies in a box for anything; the one that is decoded is huge."""
    other = box(b"uuid", bytes(16) + j2k())
    return of_2000(jp2(j2k(HUGE, HUGE), other, width=HUGE, height=HUGE))


def palette() -> bytes:
    columns = 255
    table = struct.pack(">HB", 1024, columns) + b"\x07" * columns + bytes(1024 * columns)
    mapping = b"".join(struct.pack(">HBB", 0, 1, column) for column in range(columns))
    return of_2000(
        jp2(j2k(5000, 4000), width=5000, height=4000, inside=box(b"pclr", table) + box(b"cmap", mapping)), 4000, 5000
    )


# JPEG (ITU-T T.81 annex B)


def segment(kind: int, content: bytes) -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(content) + 2) + content


def frame(width: int, height: int, components: int = 1, kind: int = 0xC0, bits: int = 8) -> bytes:
    each = b"".join(bytes((index + 1, 0x11, 0)) for index in range(components))
    return segment(kind, struct.pack(">BHHB", bits, height, width, components) + each)


def resized(jpeg: bytes, width: int, height: int) -> bytes:
    place = next(jpeg.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in jpeg)
    return jpeg[: place + 5] + struct.pack(">HH", height, width) + jpeg[place + 9 :]


def behind_tem() -> bytes:
    """TEM has no length: who reads one goes to the header in the comment, the decoder to the huge one behind it."""
    jpeg = resized(encoded(grey(), "JPEG"), HUGE, HUGE)
    comment = bytearray(65_531)
    inside = frame(SIDE, SIDE)
    # The marker of the comment, FFFE, would be the length 65,534 of TEM: what is there is the header that is shown.
    comment[-len(inside) :] = inside
    return dicom(encapsulated(b"\xff\xd8\xff\x01" + segment(0xFE, bytes(comment)) + jpeg[2:]), JPEGBaseline8Bit)


def scans(repeated: int, width: int = 4000, height: int = 4000) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    jpeg = resized(encoded(grey(), "JPEG", progressive=True), width, height)
    last = jpeg.rindex(b"\xff\xda")
    tables = jpeg.rindex(b"\xff\xc4")
    start = tables if jpeg.find(b"\xff\xda", tables) == last else last
    return jpeg[:start] + jpeg[start:-2] * repeated + b"\xff\xd9"


def before_header(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def tags(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


def overlapping_exif() -> bytes:
    """5,000 tags, each of which has the same 60 kB, in each of a hundred segments, which are joined."""
    exif = b"Exif\0\0II*\0\x08\0\0\0" + tags([(1000 + index, 1, 60_000, 8) for index in range(5000)])
    jpeg = encoded(grey(), "JPEG")
    more = segment(0xE1, b"Exif\0\0" + bytes(65_000))
    return before_header(jpeg, segment(0xE1, exif + bytes(100)), *[more] * 300)


# TIFF


BASE = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
STRIPS = [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, SIDE), (279, 4, 1, SIDE * SIDE)]


def tiff(
    *more: tuple[int, int, int, int], base: list[tuple[int, int, int, int]] | None = None, after: int = 0
) -> bytes:
    """A grey TIFF with further tags; `after` is the place of the next page."""
    pixels = grey().tobytes()
    entries = {entry[0]: entry for entry in [*(base or BASE + STRIPS), *more]}
    return (
        b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + tags([entries[tag] for tag in sorted(entries)], after)
    )


def directory_of(content: bytes) -> int:
    return struct.unpack_from("<I", content, 4)[0]


def pages(count: int) -> bytes:
    content = tiff(after=1)
    one = len(tags(BASE + STRIPS))
    first = len(content)
    content = content[:-4] + struct.pack("<I", first)
    chain = [tags(BASE + STRIPS, first + (index + 1) * one if index < count - 2 else 0) for index in range(count - 1)]
    return content + b"".join(chain)


def circle() -> bytes:
    content = tiff()
    return content[:-4] + struct.pack("<I", directory_of(content))


def nested(depth: int) -> bytes:
    """A directory in a directory, `depth` times; the innermost contains the first."""
    start = len(tiff((330, 4, 1, 0)))
    content = tiff((330, 4, 1, start))
    one = len(tags([(330, 4, 1, 0)]))
    inner = [tags([(330, 4, 1, start + (index + 1) % depth * one)]) for index in range(depth)]
    return content + b"".join(inner)


def overlapping_tags() -> bytes:
    return tiff(*((40_000 + index, 1, 400_000, 8) for index in range(9000)))


def tiled(wide: int, high: int, side: int) -> bytes:
    base = [(256, 4, 1, side), (257, 4, 1, side), *BASE[2:]]
    return tiff((322, 4, 1, wide), (323, 4, 1, high), (324, 4, 1, 8), (325, 4, 1, 256), base=base)


# PNG


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*before: bytes, width: int = SIDE, height: int = SIDE, depth: int = 8, colour: int = 0) -> bytes:
    """A black PNG with further chunks before its pixels."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    packer = zlib.compressobj(9)
    row = bytes(1 + width * samples * depth // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + b"".join(before) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def inflating(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


# What is tried: the suffix, how it is built, and what the answer says

Bomb = tuple[str, Callable[[], bytes], str]
READ = ""  # where the file is read, since what is odd in it is not touched

DICOM: dict[str, Bomb] = {
    "JPEG 2000, 1,000 components": (
        ".dcm",
        lambda: of_2000(j2k(4000, 3000, components=1000), 3000, 4000),
        "components",
    ),
    "JPEG 2000, decoy in a box": (".dcm", decoy, "declares 30000×30000"),
    "JPEG 2000, palette": (".dcm", palette, "palette"),
    "JPEG 2000, tiles of a pixel": (".dcm", lambda: of_2000(j2k(9000, 9000, tile=(1, 1)), 9000, 9000), "tiles"),
    "JPEG 2000, precincts of a pixel": (
        ".dcm",
        lambda: of_2000(j2k(9000, 9000, levels=0, precincts=b"\0"), 9000, 9000),
        "code-blocks",
    ),
    "JPEG 2000, precincts of 4 pixels": (
        ".dcm",
        lambda: of_2000(j2k(8000, 8000, precincts=b"\x33" * 6), 8000, 8000),
        "code-blocks",
    ),
    "JPEG 2000, 65,535 layers": (".dcm", lambda: of_2000(j2k(layers=65_535, precincts=b"\x77" * 6)), "packets"),
    "JPEG 2000, small code-blocks": (".dcm", lambda: of_2000(j2k(9000, 9000, block=(0, 0)), 9000, 9000), "code-blocks"),
    "HTJ2K, 1,000 components": (
        ".dcm",
        lambda: dicom(encapsulated(j2k(4000, 3000, components=1000)), UID("1.2.840.10008.1.2.4.201"), 3000, 4000),
        "components",
    ),
    "JPEG 2000, 100 million black pixels": (
        ".dcm",
        lambda: of_2000(j2k(10_000, 10_000), 10_000, 10_000),
        "cannot be decoded",
    ),
    "JPEG behind TEM": (".dcm", behind_tem, "declares 30000×30000"),
    "JPEG, 1,000 scans": (".dcm", lambda: dicom(encapsulated(scans(1000)), JPEGBaseline8Bit, 4000, 4000), "scans"),
    "JPEG lossless, 255 components": (
        ".dcm",
        lambda: dicom(
            encapsulated(b"\xff\xd8" + frame(9000, 9000, 255, 0xC3, 16) + b"\xff\xd9"), JPEGLosslessSV1, 9000, 9000
        ),
        "components",
    ),
    "JPEG-LS, 255 components": (
        ".dcm",
        lambda: dicom(
            encapsulated(b"\xff\xd8" + frame(9000, 9000, 255, 0xF7) + b"\xff\xd9"), JPEGLSLossless, 9000, 9000
        ),
        "components",
    ),
    "JPEG-LS, size told twice": (
        ".dcm",
        lambda: dicom(
            encapsulated(
                b"\xff\xd8"
                + segment(0xF8, b"\4\4" + struct.pack(">II", HUGE, HUGE))
                + frame(SIDE, SIDE, 1, 0xF7)
                + b"\xff\xd9"
            ),
            JPEGLSLossless,
        ),
        "second time",
    ),
    "RLE, 2 bytes become 128": (
        ".dcm",
        lambda: dicom(
            encapsulated(struct.pack("<16I", 2, 64, 20_000_064, *[0] * 13) + b"\x81\0" * 20_000_000), RLELossless
        ),
        "cannot be decoded",
    ),
    "5 million fragments": (
        ".dcm",
        lambda: dicom(ITEM + bytes(4) + (ITEM + bytes(4)) * 5_000_000 + END, RLELossless, undefined=False),
        "fragments",
    ),
    "deflated": (
        ".dcm",
        lambda: dicom(
            bytes(2 * SIDE * SIDE), DeflatedExplicitVRLittleEndian, before=element(7, 1, b"OB", bytes(300_000_000))
        ),
        "inflates to more than",
    ),
    "3 million elements": (
        ".dcm",
        lambda: dicom(bytes(2 * SIDE * SIDE), before=number(7, 1, 1) * 3_000_000),
        "elements",
    ),
    "3 million elements of the meta group": (
        ".dcm",
        lambda: (
            bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", 30_000_000)) + number(2, 0x102, 1) * 3_000_000
        ),
        "elements",
    ),
    "sequences 100,000 deep": (
        ".dcm",
        lambda: dicom(
            bytes(2 * SIDE * SIDE),
            before=(element(8, 0x1140, b"SQ", b"", 0xFFFFFFFF) + ITEM + b"\xff\xff\xff\xff") * 100_000,
        ),
        "DICOM header",
    ),
    "100,000 frames": (".dcm", lambda: dicom(bytes(2 * SIDE * SIDE), frames=100_000), "frames"),
    "65,535×65,535 pixels": (".dcm", lambda: dicom(bytes(2 * SIDE * SIDE), rows=65_535, columns=65_535), "declares"),
}
IMAGES: dict[str, Bomb] = {
    "progressive JPEG, 1,000 scans": (".jpg", lambda: scans(1000), "scans"),
    "progressive JPEG, 90 scans of 16 million pixels": (".jpg", lambda: scans(90), "pixels in all scans"),
    "JPEG, 4 components of 90 million": (
        ".jpg",
        lambda: before_header(resized(encoded(grey().convert("CMYK"), "JPEG"), 9500, 9500)),
        "components",
    ),
    "JPEG, 65,000×65,000": (".jpg", lambda: resized(encoded(grey(), "JPEG"), 65_000, 65_000), "declares"),
    "JPEG, a million comments": (
        ".jpg",
        lambda: before_header(encoded(grey(), "JPEG"), segment(0xFE, b"") * 10**6),
        "segments",
    ),
    "JPEG, 40 MB of fill bytes": (".jpg", lambda: before_header(encoded(grey(), "JPEG"), b"\xff" * 40_000_000), READ),
    "JPEG, colour profile of 100 MB": (
        ".jpg",
        lambda: before_header(encoded(grey(), "JPEG"), segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(65_000)) * 1500),
        READ,
    ),
    "JPEG, tags on tags": (".jpg", overlapping_exif, READ),
    "JPEG, several pictures": (
        ".jpg",
        lambda: before_header(
            encoded(grey(), "JPEG"), segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + tags([(0xB001, 4, 1, 100_000)]))
        ),
        "100,000 frames",
    ),
    "TIFF, 60,000 pages": (".tif", lambda: pages(60_000), "60,000 frames"),
    "TIFF, pages in a circle": (".tif", circle, "circle"),
    "TIFF, directory in itself": (".tif", lambda: nested(1), "contain each other"),
    "TIFF, directories 9,000 deep": (".tif", lambda: nested(9000), "contain each other"),
    "TIFF, directories 20,000 deep": (".tif", lambda: nested(20_000), "tags"),
    "TIFF, tags on tags": (".tif", overlapping_tags, "beside its pixels"),
    "TIFF, tiles of 16 pixels": (".tif", lambda: tiled(16, 16, 9900), "tiles"),
    "TIFF, tile of 65,536 pixels": (".tif", lambda: tiled(65_536, 65_536, SIDE), "tiles of"),
    "TIFF, 3 million strips": (".tif", lambda: tiff((273, 4, 3_000_000, 8)) + bytes(12_000_000), "tiles or strips"),
    "TIFF, a strip per row and sample": (
        ".tif",
        lambda: tiff((256, 4, 1, 32), (257, 4, 1, 3_000_000), (278, 4, 1, 1)),
        "strips",
    ),
    "TIFF, dictionary of 4 GB": (".tif", lambda: tiff((259, 3, 1, 34925)), "compression 34925"),
    "TIFF, 65,535 samples": (".tif", lambda: tiff((277, 3, 1, 65_535)), "components"),
    "PNG, texts that inflate": (
        ".png",
        lambda: png(*[chunk(b"zTXt", b"a\0\0" + inflating(1))] * 200),
        "damaged",
    ),
    "PNG, profile that inflates to 200 MB": (".png", lambda: png(chunk(b"iCCP", b"a\0\0" + inflating(200))), "damaged"),
    "PNG, a million chunks": (".png", lambda: png(chunk(b"teXt", b"") * 1_000_000), "chunks"),
    "PNG, a million empty pieces of pixels": (".png", lambda: png(chunk(b"IDAT", b"") * 1_000_000), "chunks"),
    "PNG, text of 100 MB": (".png", lambda: png(chunk(b"tEXt", b"a\0" + bytes(100_000_000))), "beside"),
    "PNG, 10,000×10,000 in colour": (".png", lambda: png(width=10_000, height=10_000, colour=6), "components"),
    "PNG, 10,000×10,000 with a palette": (
        ".png",
        lambda: png(chunk(b"PLTE", bytes(768)), width=10_000, height=10_000, colour=3),
        "no contrast",
    ),
    "PNG, 10,000×10,000 of 16 bits": (".png", lambda: png(width=10_000, height=10_000, depth=16), "no contrast"),
    "PGM, absurd size": (".pgm", lambda: b"P5 999999999 999999999 255\n", "declares"),
    "PGM, longer number": (".pgm", lambda: b"P5 " + b"9" * 5_000_000 + b" 9 255\n", "header"),
    "PGM, comments of 40 MB": (".pgm", lambda: b"P5\n" + b"#\n" * 20_000_000 + b"640 640 255\n", "header"),
    "plain PGM, a million comments": (
        ".pgm",
        lambda: b"P2 640 640 255\n" + b"#\n" * 1_000_000 + b"1 " * SIDE * SIDE,
        "no contrast",
    ),
    "plain PGM, 100 million samples": (".pgm", lambda: b"P2 10000 10000 255\n" + b"1 " * 100_000_000, "plain text"),
    "PGM, 100 million samples of 12 bits": (
        ".pgm",
        lambda: b"P5 10000 10000 4095\n" + bytes(200_000_000),
        "no contrast",
    ),
}
BOMBS = IMAGES | DICOM

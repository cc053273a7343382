"""Files for the fuzz campaign: each is built from the parts of its format, some of which are odd, then maybe damaged.

Every function takes a `random.Random`, which Hypothesis draws from, so that a failing input is shrunk and kept.
"""

import copy
import json
import struct
import zlib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import bombs
import imagecodecs
import numpy as np
import yaml
from miniature import ROOT
from PIL import Image
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

SIDE = 96
EDGES = (0, 1, 2, 3, 7, 8, 12, 15, 16, 31, 32, 127, 128, 255, 256, 32_767, 32_768, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
ODD = 0.03  # share of the fields that are odd
TEXTS = (
    "",
    " ",
    "0",
    "1",
    "-1",
    "2",
    "nan",
    "inf",
    "1e999",
    "train",
    "valid",
    "test",
    "é",
    "\0",
    '"',
    "'",
    ",",
    ";",
    "\n",
    "=1+1",
)
TEXTS += (
    "../x",
    "/etc/passwd",
    "~",
    "$(id)",
    "0.png",
    "9" * 400,
    "\u202e",
    "﻿",
    "x" * 5000,
    "null",
    "true",
    "[",
    "{}",
    "&a",
    "*a",
)


@cache
def grey() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return ((x * 2 + y * y // 60) % 200).astype(np.uint8)


def field(random: Random, valid: int, bits: int) -> int:
    if random.random() >= ODD:
        return valid
    return random.choice(EDGES) & (2**bits - 1) if random.random() < 0.6 else random.getrandbits(bits)


def damaged(random: Random, content: bytes) -> bytes:
    """A third of the time, the content with up to six bytes changed, parts cut, repeated or overwritten."""
    if not content or random.random() < 0.65:
        return content
    changed = bytearray(content)
    for _ in range(random.randint(1, 6)):
        if not changed:
            break
        place, length = random.randrange(len(changed)), random.choice((1, 2, 4, 16, 200))
        kind = random.randrange(6)
        if kind == 0:
            changed[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            changed[place] = random.getrandbits(8)
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        elif kind == 4:
            changed[place : place + 4] = struct.pack(random.choice("<>") + "I", random.choice(EDGES))
        elif random.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def shuffled(random: Random, parts: list[bytes]) -> list[bytes]:
    """Now and then a part is left out, repeated or moved."""
    parts = list(parts)
    if parts and random.random() < 0.15:
        kind, place = random.randrange(3), random.randrange(len(parts))
        if kind == 0:
            del parts[place]
        elif kind == 1:
            parts[place:place] = [parts[place]] * random.choice((1, 1, 2, 300))
        else:
            parts.insert(random.randrange(len(parts)), parts.pop(place))
    return parts


# Images


@cache
def jpegs() -> list[bytes]:
    picture = Image.fromarray(grey())
    modes = [picture.convert(mode) for mode in ("L", "RGB", "CMYK")]
    return [bombs.encoded(one, "JPEG", progressive=how) for one in modes for how in (False, True)]


def segments_of(jpeg: bytes) -> list[bytes]:
    """A JPEG in pieces: its marker segments, each scan with its data."""
    parts, place = [], 2
    while place < len(jpeg) - 2:
        end = place + 2 + struct.unpack_from(">H", jpeg, place + 2)[0]
        if jpeg[place + 1] == 0xDA:
            while not (jpeg[end] == 0xFF and jpeg[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
        parts.append(jpeg[place:end])
        place = end
    return parts


def jpeg(random: Random, content: bytes | None = None) -> bytes:
    parts = segments_of(content or random.choice(jpegs()))
    for place, part in enumerate(parts):
        if 0xC0 <= part[1] <= 0xCF and part[1] not in (0xC4, 0xC8, 0xCC):
            bits, height, width, components = struct.unpack_from(">BHHB", part, 4)
            numbers = (
                field(random, bits, 8),
                field(random, height, 16),
                field(random, width, 16),
                field(random, components, 8),
            )
            parts[place] = (
                bytes((0xFF, field(random, part[1], 8))) + part[2:4] + struct.pack(">BHHB", *numbers) + part[10:]
            )
    if random.random() < 0.3:
        extra = random.choice(
            (b"Exif\0\0II*\0\x08\0\0\0", b"MPF\0II*\0\x08\0\0\0", b"ICC_PROFILE\0\1\1", b"Adobe\0\0\0\0\0\0\2")
        )
        entries = [
            (field(random, 0xB001, 16), random.randrange(14), field(random, 1, 32), field(random, 8, 32))
        ] * random.choice((1, 40))
        parts.insert(
            random.randrange(len(parts)),
            bombs.segment(random.choice((0xE1, 0xE2, 0xEE, 0xFE)), extra + bombs.tags(entries)),
        )
    if random.random() < 0.1:
        parts.insert(
            random.randrange(len(parts)),
            random.choice((b"\xff\x01", b"\xff" * 50, b"\xff\xd8", b"\xff\xd0", b"\xff\xd9")),
        )
    return damaged(random, b"\xff\xd8" + b"".join(shuffled(random, parts)) + b"\xff\xd9")


def png(random: Random) -> bytes:
    depth, colour = random.choice(((8, 0), (16, 0), (8, 2), (8, 3), (8, 4), (8, 6), (1, 0), (16, 6)))
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = b"\0" + grey().tobytes()[:SIDE] * max(samples * depth // 8, 1)
    packed = zlib.compress(row[: 1 + SIDE * samples * depth // 8] * SIDE)
    header = struct.pack(
        ">IIBBBBB", field(random, SIDE, 32), field(random, SIDE, 32), field(random, depth, 8), field(random, colour, 8),
        field(random, 0, 8), field(random, 0, 8), random.choice((0, 0, 0, 1, 2)),
    )  # fmt: skip
    chunks = [
        (b"IHDR", header),
        (b"PLTE", bytes(range(256)) * 3),
        (b"IDAT", packed[:50]),
        (b"IDAT", packed[50:]),
        (b"IEND", b""),
    ]
    odd = (
        (b"zTXt", b"a\0\0" + zlib.compress(bytes(random.choice((10, 10**6))))),
        (b"iCCP", b"a\0\0" + zlib.compress(bytes(10**5))),
    )
    odd += (
        (b"tRNS", bytes(random.randrange(9))),
        (b"acTL", struct.pack(">II", field(random, 1, 32), 0)),
        (b"eXIf", b"II*\0\x08\0\0\0" + bombs.tags([(330, 4, 1, 8)])),
    )
    odd += (
        (b"gAMA", struct.pack(">I", field(random, 45455, 32))),
        (b"fcTL", bytes(26)),
        (b"sBIT", b"\1"),
        (b"pHYs", bytes(9)),
    )
    for _ in range(random.randrange(3)):
        chunks.insert(random.randrange(1, len(chunks)), random.choice(odd))
    parts = [
        bombs.chunk(kind, damaged(random, content) if random.random() < 0.1 else content) for kind, content in chunks
    ]
    return damaged(random, b"\x89PNG\r\n\x1a\n" + b"".join(shuffled(random, parts)))


@cache
def tiffs() -> list[tuple[int, bytes, int, int]]:
    """Compression, pixels, bits and samples."""
    rgb = np.repeat(grey(), 3)
    jpeg = bombs.encoded(Image.fromarray(grey()), "JPEG")
    return [
        (1, grey().tobytes(), 8, 1),
        (8, zlib.compress(grey().astype("<u2").tobytes()), 16, 1),
        (1, rgb.tobytes(), 8, 3),
        (5, imagecodecs.lzw_encode(grey().tobytes()), 8, 1),
        (7, jpeg, 8, 1),
        (1, grey().astype("<f4").tobytes(), 32, 1),
        (32773, imagecodecs.packbits_encode(grey().tobytes()), 8, 1),
        (50000, imagecodecs.zstd_encode(grey().tobytes()), 8, 1),
    ]


def tiff(random: Random) -> bytes:
    compression, pixels, bits, samples = random.choice(tiffs())
    big = random.random() < 0.2
    wide, start = ("Q", 16) if big else ("I", 8)
    entries = {
        256: (4, 1, SIDE),
        257: (4, 1, SIDE),
        258: (3, 1, bits),
        259: (3, 1, compression),
        262: (3, 1, 2 if samples == 3 else 1),
    }
    entries |= {273: (4, 1, start), 277: (3, 1, samples), 278: (4, 1, SIDE), 279: (4, 1, len(pixels))}
    if bits == 32:
        entries[339] = (3, 1, 3)
    if random.random() < 0.25:
        entries |= {322: (4, 1, random.choice((16, 96))), 323: (4, 1, 96), 324: (4, 1, start), 325: (4, 1, len(pixels))}
    for _ in range(random.choice((0, 0, 1, 3))):
        tag = random.choice(
            (330, 34665, 34853, 40965, 254, 274, 284, 317, 320, 338, 347, 700, 33723, 34675, 37724, 65535)
        )
        entries[tag] = (random.randrange(1, 19), field(random, 1, 32), field(random, start + len(pixels), 32))
    table = b""
    for tag in sorted(entries):
        kind, count, value = entries[tag]
        numbers = field(random, tag, 16), field(random, kind, 16), field(random, count, 32), field(random, value, 32)
        table += struct.pack("<HH" + 2 * wide, *numbers)
    head = b"II+\0\x08\0\0\0" if big else b"II*\0"
    following = random.choice((0, 0, 0, 0, 0, start, start + len(pixels), 8, 2**31))
    content = head + struct.pack("<" + wide, start + len(pixels)) + pixels
    count = struct.pack("<Q" if big else "<H", field(random, len(entries), 16))
    return damaged(random, content + count + table + struct.pack("<" + wide, following))


def pgm(random: Random) -> bytes:
    kind, highest = random.choice((2, 3, 5, 5, 5, 6, 1, 4, 7)), random.choice((255, 65535, 4095, 100))
    numbers = [field(random, number, 32) for number in (SIDE, SIDE, highest)]
    between = [random.choice((b" ", b"\n", b"\n# c\n", b"\t\r\n", b" ", b"")) for _ in range(4)]
    head = b"P%d" % kind + b"".join(space + b"%d" % number for space, number in zip(between, numbers, strict=False))
    samples = grey().astype(">u2" if highest > 255 else np.uint8)
    if kind in (2, 3):
        body = (
            b" ".join(
                b"%d" % min(value, highest) for value in grey().ravel()[: random.choice((100, SIDE * SIDE))].tolist()
            )
            + b"\n"
        )
        body *= 3 if kind == 3 else 1
    else:
        body = samples.tobytes() * (3 if kind == 6 else 1)
    return damaged(random, head + random.choice((b"\n", b" ", b"\r\n", b"#")) + body)


# DICOM


@cache
def frames() -> dict[UID, bytes]:
    picture = Image.fromarray(grey())
    twelve = grey().astype(np.uint16) * 16
    plane = grey().tobytes()
    literal = b"".join(b"\x7f" + plane[place : place + 128] for place in range(0, len(plane), 128))
    rle = struct.pack("<16I", 2, 64, 64 + len(literal), *[0] * 13) + literal + literal
    return {
        JPEGBaseline8Bit: bombs.encoded(picture, "JPEG"),
        JPEGExtended12Bit: imagecodecs.jpeg8_encode(twelve, bitspersample=12),
        JPEGLosslessSV1: imagecodecs.jpeg8_encode(grey(), lossless=True),
        JPEGLSLossless: imagecodecs.jpegls_encode(twelve),
        JPEG2000Lossless: imagecodecs.jpeg2k_encode(twelve, codecformat="j2k", reversible=True, bitspersample=12),
        UID("1.2.840.10008.1.2.4.201"): imagecodecs.htj2k_encode(twelve, reversible=True),
        RLELossless: rle,
    }  # fmt: skip


def codestream2000(random: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for place, size in ((8, 4), (12, 4), (16, 4), (20, 4), (24, 4), (28, 4), (32, 4), (36, 4), (40, 2)):
        valid = int.from_bytes(changed[place : place + size], "big")
        changed[place : place + size] = field(random, valid, 8 * size).to_bytes(size, "big")
    at = changed.find(b"\xff\x52")
    for place in range(at + 4, at + 14):
        changed[place] = field(random, changed[place], 8)
    if random.random() < 0.2:
        inside = b"".join(
            shuffled(random, [bombs.box(b"pclr", b"\0\1\1\7\0"), bombs.box(b"uuid", bytes(16) + content)])
        )
        return bombs.jp2(bytes(changed), width=SIDE, height=SIDE, inside=inside)
    return bytes(changed)


def frame(random: Random, syntax: UID) -> bytes:
    content = frames()[syntax]
    if content.startswith(b"\xff\x4f"):
        content = codestream2000(random, content)
    elif content.startswith(b"\xff\xd8") and syntax != JPEGLSLossless:
        content = jpeg(random, content)
    return damaged(random, content)


def dicom(random: Random) -> bytes:
    syntax = random.choice([*frames(), ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
    if random.random() < 0.04:
        syntax = random.choice((ImplicitVRLittleEndian, ExplicitVRBigEndian))
    if syntax in frames():
        pieces = shuffled(random, [frame(random, syntax)])
        pixels, kind, length = bombs.encapsulated(*pieces), b"OB", 0xFFFFFFFF
    else:
        pixels, kind, length = grey().astype("<u2").tobytes(), b"OW", 2 * SIDE * SIDE
    bits = (16, 12, 11)
    if random.random() < 0.1:
        bits = random.choice(((8, 8, 7), (16, 16, 15), (32, 32, 31), (1, 1, 0)))
    if syntax == JPEGBaseline8Bit:
        bits = (8, 8, 7)
    text = random.choice([*(b"MONOCHROME2 ", b"MONOCHROME1 ") * 8, b"RGB ", b"PALETTE COLOR "])
    numbers = {
        2: 1,
        0x10: SIDE,
        0x11: SIDE,
        0x100: bits[0],
        0x101: bits[1],
        0x102: bits[2],
        0x103: random.choice((0, 0, 0, 1)),
    }
    parts = [bombs.number(0x28, tag, field(random, value, 16)) for tag, value in numbers.items()]
    parts += [
        bombs.element(8, 0x60, b"CS", b"MG"),
        bombs.element(0x28, 4, b"CS", text),
        bombs.element(0x28, 8, b"IS", random.choice([*[b"1 "] * 30, b"2 ", b"-1", b"x ", b"9" * 60])),
    ]
    decimal = random.choice((b"0 ", b"1 ", b"-1", b"1e9999", b"nan ", b"1\\2 ", b"x ", b"2048", b"4096", b""))
    for tag in random.sample((0x1050, 0x1051, 0x1052, 0x1053), random.randrange(5)):
        parts.append(bombs.element(0x28, tag, b"DS", decimal))
    if random.random() < 0.2:
        table = struct.pack("<HHH", *(field(random, value, 16) for value in (256, 0, 16)))
        inner = bombs.element(0x28, 0x3002, b"US", table) + bombs.element(
            0x28, 0x3006, random.choice((b"US", b"OW")), bytes(random.choice((512, 2, 0)))
        )
        parts.append(bombs.element(0x28, random.choice((0x3000, 0x3010)), b"SQ", bombs.item(inner)))
    if random.random() < 0.2:
        parts.append(bombs.number(0x28, 0x120, field(random, 0, 16)))
    if random.random() < 0.15:
        depth = random.choice((1, 5, 2000))
        parts.append((bombs.element(0x40, 0x260, b"SQ", b"", 0xFFFFFFFF) + bombs.ITEM + b"\xff" * 4) * depth)
    pieces = [*sorted(parts), bombs.element(0x7FE0, 0x10, kind, pixels, field(random, length, 32))]
    body = b"".join(shuffled(random, pieces))
    if syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
    meta = bombs.element(2, 0x10, b"UI", str(syntax).encode().ljust(len(syntax) + len(syntax) % 2, b"\0"))
    return damaged(
        random,
        bytes(128)
        + b"DICM"
        + bombs.element(2, 0, b"UL", struct.pack("<I", field(random, len(meta), 32)))
        + meta
        + body,
    )


IMAGES: dict[str, tuple[str, Callable[[Random], bytes]]] = {
    "DICOM": (".dcm", dicom),
    "JPEG": (".jpg", jpeg),
    "PNG": (".png", png),
    "TIFF": (".tif", tiff),
    "PGM": (".pgm", pgm),
}


# Texts


def labels(random: Random) -> bytes:
    """A labels.csv for a folder with the images 0.png to 9.png."""
    columns = shuffled(random, [b"image", b"label", b"patient", b"split"])
    if random.random() < 0.1:
        columns[random.randrange(len(columns))] = random.choice(TEXTS).encode()
    rows = [columns]
    for number in range(10):
        cells = {b"image": f"{number}.png", b"label": str(number % 2), b"patient": f"p{number}", b"split": "train"}
        row = [cells.get(column, "x") for column in columns]
        if row and random.random() < 0.03:
            row[random.randrange(len(row))] = random.choice(TEXTS)
        rows.append([cell.encode() for cell in row])
    separator, end = random.choice((b",", b",", b",", b";", b"\t")), random.choice((b"\n", b"\r\n", b"\n", b"\r"))
    start = random.choice((b"", b"", b"\xef\xbb\xbf", b"\xff\xfe"))
    return damaged(random, start + end.join(separator.join(row) for row in rows) + end)


def strange(random: Random, depth: int = 0) -> Any:
    kind = random.randrange(9)
    if kind == 0 and depth < 3:
        return [strange(random, depth + 1) for _ in range(random.randrange(4))]
    if kind == 1 and depth < 3:
        return {random.choice(TEXTS): strange(random, depth + 1) for _ in range(random.randrange(4))}
    numbers = (None, True, False, 0, 1, -1, 0.5, 1e308, float("nan"), float("inf"), 10**30, -(2**63), 2**31)
    return random.choice(numbers) if kind < 6 else random.choice(TEXTS)


def changed(random: Random, value: Any) -> Any:
    """A document with up to four values replaced, removed, renamed or added, at any depth."""
    value = copy.deepcopy(value)
    for _ in range(random.randrange(5)):
        place = value
        while isinstance(place, dict | list) and len(place):
            key = random.choice(list(place) if isinstance(place, dict) else range(len(place)))
            inner = place[key]
            if not isinstance(inner, dict | list) or not len(inner) or random.random() < 0.2:
                if random.random() < 0.2:
                    del place[key]
                elif isinstance(place, dict) and random.random() < 0.2:
                    place[random.choice([*TEXTS, key + "s" if isinstance(key, str) else "k"])] = inner
                else:
                    place[key] = strange(random)
                break
            place = inner
    return value


def as_json(random: Random, document: Any) -> bytes:
    text = json.dumps(changed(random, document), indent=2)
    if random.random() < 0.03:
        text = "[" * 100_000
    if random.random() < 0.03:
        text = text.replace("1", "1" * 5000, 1)
    return damaged(random, text.encode())


def params(random: Random) -> bytes:
    document = changed(random, yaml.safe_load((ROOT / "params.yaml").read_text()))
    text = yaml.safe_dump(document)
    extra = (
        "\nx: &a [1, 2]\ny: [*a, *a]\n",
        "\n? {a: b}\n: c\n",
        "\n<<: {a: 1}\n",
        "\nz: !!python/object:os.system {}\n",
        "\n\tx: 1\n",
        "\nd: 2001-13-45\n",
        "\nx: " + "[" * 1000,
    )
    if random.random() < 0.15:
        text += random.choice(extra)
    return damaged(random, text.encode())

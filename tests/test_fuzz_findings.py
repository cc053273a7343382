"""What the fuzz campaign and a look for cousins of bombs found: each was a traceback, a hang or a wrong word."""

import struct
from pathlib import Path

from mammo.core import settings
from mammo.core.errors import UserError
from mammo.imaging import codestreams, declared, images, limits
from mammo.imaging.limits import UnreadableError

import bombs
import pytest
from miniature import ROOT


def test_a_bigtiff_that_points_beyond_every_file_is_damaged() -> None:
    pixels = bombs.grey().tobytes()
    table = struct.pack("<Q", 2**62)  # number of tags
    content = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16 + len(pixels)) + pixels + table
    with pytest.raises(UnreadableError, match=r"has .* tags"):
        declared.check_tiff(content)
    content = b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63 + 5) + pixels
    with pytest.raises(UnreadableError, match="no complete directory"):
        declared.check_tiff(content)


@pytest.mark.parametrize(
    ("more", "words"),
    [("x: " + "[" * 1000, "nested too deeply"), ("x: 2001-13-45", "not YAML"), ("x: " + "9" * 5000, "not YAML")],
)
def test_params_that_python_stumbles_over_are_named(more: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + f"\n{more}\n")
    with pytest.raises(UserError, match=words) as caught:
        settings.read(path)
    assert "\n" not in str(caught.value)


def test_a_tile_part_that_ends_before_it_begins_is_no_endless_loop() -> None:
    stream = bombs.j2k()
    at = stream.index(b"\xff\x90")
    short = stream[: at + 6] + struct.pack(">I", 1) + stream[at + 10 :]
    assert codestreams.jpeg2000(short) == (bombs.SIDE, bombs.SIDE)


def test_a_marker_in_another_segment_is_none() -> None:
    jpeg = bombs.encoded(bombs.grey(), "JPEG")
    thumbnail = bombs.segment(0xE1, b"Exif\0\0" + jpeg[:30_000])
    found = codestreams.jpeg(bombs.before_header(jpeg, thumbnail, b"\xff\xff\xff\x01"))
    assert (found.width, found.height, found.components, found.baseline) == (bombs.SIDE, bombs.SIDE, 1, True)
    progressive = codestreams.jpeg(bombs.encoded(bombs.grey(), "JPEG", progressive=True))
    assert not progressive.baseline
    assert progressive.scans > 3


def test_a_known_beginning_declares_what_a_walk_through_the_file_finds() -> None:
    """Whatever was read before: of the same beginning, a longer one, several scans, a thumbnail, cut off."""
    small, large = bombs.grey(), bombs.grey().resize((640, 480))
    plain = bombs.encoded(small, "JPEG")
    several = bombs.encoded(large, "JPEG", progressive=True)
    thumbnail = bombs.before_header(plain, bombs.segment(0xE1, b"Exif\0\0" + plain[:3_000]))
    colour = bombs.encoded(large.convert("RGB"), "JPEG")
    files = [plain, plain + b"more", several, thumbnail, colour, plain[:400], bombs.encoded(large, "JPEG", quality=9)]
    for first in files:
        for second in files:
            for data in (first, second):
                codestreams._LAST.clear() if data is first else None
                try:
                    expected = codestreams._walked(data)[0]
                except UnreadableError as error:
                    with pytest.raises(UnreadableError, match=str(error)):
                        codestreams.jpeg(data)
                else:
                    assert codestreams.jpeg(data) == expected
    assert codestreams._LAST, "the last file has a beginning that is remembered"


def test_the_table_of_bounds_is_that_of_the_code() -> None:
    page = (ROOT / "docs/untrusted-files.md").read_text()
    for name in [
        "BYTES",
        "PIXELS",
        "DECODED",
        "SCANS",
        "SCANNED",
        "TILES",
        "TILES_2000",
        "BLOCKS",
        "PACKETS",
        "BESIDE",
        "PLAIN",
    ]:
        assert f"{getattr(limits, f'MAX_{name}'):,}" in page, name


def test_an_image_of_other_netpbm_formats_is_refused_by_name() -> None:
    for kind in (b"P1", b"P4", b"Pf", b"P7"):
        with pytest.raises(UnreadableError, match="is not a JPEG, PNG, PGM or TIFF image"):
            images.decode(kind + b" 640 640 255\n" + bytes(640 * 640), (40, 40))

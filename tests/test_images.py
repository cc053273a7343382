"""Any delivered format becomes 8-bit grey of the wanted size; anything else is named with its reason."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

from mammo.imaging import images

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

SIZE = (224, 224)


def breast(height: int = 640, width: int = 640) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    disc = np.clip(1.2 - np.hypot(x / width, (y / height - 0.5) * 1.5), 0, 1)
    return (disc * 200 + 5 * np.sin(x / 30) * (disc > 0)).clip(0, 255).astype(np.uint8)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain() -> np.ndarray:
    return cv2.resize(breast(), SIZE[::-1], interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_lossless_formats_give_the_area_average(kind: str, mode: str) -> None:
    data = encoded(Image.fromarray(breast()).convert(mode), kind)
    assert (images.decode(data, SIZE) == plain()).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_dropped_and_palettes_are_resolved(mode: str) -> None:
    grey = Image.fromarray(breast() // 4 * 4)  # 64 levels, so that a palette can hold it
    data = encoded(grey.convert("RGB").convert(mode) if mode == "P" else grey.convert(mode), "PNG")
    expected = cv2.resize(np.asarray(grey), SIZE[::-1], interpolation=cv2.INTER_AREA)
    tolerance = 30 if mode == "P" else 0  # the web palette is coarse; the lightness must survive
    assert np.abs(images.decode(data, SIZE).astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_agrees_with_the_original_within_its_loss(mode: str) -> None:
    data = encoded(Image.fromarray(breast()).convert(mode), "JPEG", quality=95)
    difference = np.abs(images.decode(data, SIZE).astype(int) - plain())
    assert difference.mean() < 1
    assert difference.max() < 12


def test_scaled_decoding_is_used_only_where_enough_pixels_are_left() -> None:
    data = encoded(Image.fromarray(breast(640, 640)), "JPEG", quality=95)
    full = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    half = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_2)
    assert (images.decode(data, (224, 224)) == cv2.resize(half, (224, 224), interpolation=cv2.INTER_LINEAR_EXACT)).all()
    assert (images.decode(data, (400, 300)) == cv2.resize(full, (300, 400), interpolation=cv2.INTER_AREA)).all()
    assert (images.decode(data, (320, 320)) == half).all()


def test_less_than_twofold_shrinking_counts_every_pixel() -> None:
    for side in (225, 300, 320, 440, 447):
        image = np.zeros((side, side), np.uint8)
        image[side // 3, :] = image[:, side // 2] = 255
        shrunk = images.resized(image, (224, 224))
        assert shrunk.any(axis=0).all(), f"the line across {side} pixels is broken"
        assert shrunk.any(axis=1).all(), f"the line down {side} pixels is broken"


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF"])
@pytest.mark.parametrize(("offset", "top"), [(0, 4095), (1000, 65535), (0, 65535)])
def test_sixteen_bits_are_scaled_by_the_range_they_use(kind: str, offset: int, top: int) -> None:
    grey = breast().astype(np.float64)
    grey = (grey - grey.min()) / np.ptp(grey)
    wide = (offset + grey * (top - offset)).astype(np.uint16)
    expected = cv2.resize((grey * 255).astype(np.float32), SIZE[::-1], interpolation=cv2.INTER_AREA)
    result = images.decode(encoded(Image.fromarray(wide), kind), SIZE)
    assert np.abs(result - expected).max() <= 1
    assert result.max() > 200, "12 bits in a 16-bit file must not come out black"


def test_an_image_smaller_than_the_size_is_enlarged() -> None:
    assert images.decode(encoded(Image.fromarray(breast(100, 80)), "PNG"), SIZE).shape == SIZE


def test_the_rotation_mark_of_a_camera_does_not_turn_a_scan() -> None:
    mark = Image.Exif()
    mark[0x0112] = 6
    picture = Image.fromarray(breast())
    turned = encoded(picture, "JPEG", quality=90, exif=mark)
    assert (images.decode(turned, SIZE) == images.decode(encoded(picture, "JPEG", quality=90), SIZE)).all()


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 90_000, 90_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def bad_files() -> dict[str, tuple[bytes, str]]:
    picture = Image.fromarray(breast())
    jpeg, png, tiff = (
        encoded(picture, "JPEG"),
        encoded(picture, "PNG"),
        encoded(picture, "TIFF", compression="tiff_lzw"),
    )
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    two = encoded(picture, "TIFF", save_all=True, append_images=[picture])
    return {
        "empty": (b"", "is empty"),
        "text": (b"patient,label\n1,0\n" * 50, "is not a JPEG, PNG, PGM or TIFF image"),
        "cut JPEG": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut PNG": (png[: len(png) // 2], "damaged"),
        "cut TIFF": (tiff[: len(tiff) // 2], "is damaged: the TIFF has no complete directory"),
        "JPEG header alone": (jpeg[:20], "JPEG"),
        "flipped PNG": (bytes(flipped), "damaged"),
        "one grey": (encoded(Image.new("L", (640, 640), 17), "PNG"), "has no contrast: every pixel is 17"),
        "one grey, 16 bit": (encoded(Image.fromarray(np.full((99, 99), 500, np.uint16)), "PNG"), "has no contrast"),
        "1×1": (encoded(Image.new("L", (1, 1)), "PNG"), "1×1"),
        "huge": (huge_png(), ""),
        "two pages": (two, "2 frames"),
        "GIF": (encoded(picture, "GIF"), "is not a JPEG"),
    }


@pytest.mark.parametrize("name", bad_files())
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore::UserWarning")
def test_a_bad_file_is_refused_with_its_reason(name: str) -> None:
    data, reason = bad_files()[name]
    with pytest.raises(images.UnreadableError) as caught:
        images.decode(data, SIZE)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(images.UnreadableError, match="cannot be opened"):
        images.read(tmp_path / "none.png", SIZE)


MEASURE = """
import sys
from pathlib import Path
from mammo.core.settings import Canonical
from mammo.imaging import images
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024
images.decode(b"P5 64 64 255\\n" + bytes(range(256)) * 16, (224, 224))
for on in (False, True):
    steps = Canonical(right_inverted=on, blacken_outside=on, crop=on, chest_wall_left=on)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    images.read(Path(sys.argv[1]), (224, 224), steps)
    print(status("VmHWM") - before)
"""


@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
def test_a_16_bit_mammogram_takes_little_memory(kind: str, tmp_path: Path) -> None:
    rows, columns = np.arange(5928, dtype=np.uint16), np.arange(4728, dtype=np.uint16)
    path = tmp_path / f"scan.{kind}"
    Image.fromarray(np.add.outer(rows * 3, columns * 5)).save(path, **({"compress_level": 1} if kind == "png" else {}))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}
    command = [sys.executable, "-c", MEASURE, path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert max(map(int, done.stdout.split())) < 300, "MB"

"""200 odd and damaged files through predict and preprocess: each decoded or named with its reason, nothing crashes."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

from mammo.core import dataset, files

import numpy as np
import pytest
from conftest import ROOT, run_stage, write_params
from PIL import Image
from test_predict import KINDS, LOSSY, breast, mammo, mammogram

NUMBER = 200
SECONDS = 2.0  # of processor time a file
MEMORY = 700  # MB of a process that reads them all; 100 of them are the libraries

GREY = Image.fromarray(breast(8))
CODED = [KINDS[kind][0] for kind in ("12 bits", "RLE", "JPEG lossless", "JPEG-LS")]
CODED += [LOSSY["JPEG 2000"][0], LOSSY["JPEG baseline"][0], LOSSY["JPEG extended, 12 bits"][0]]


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


SOUND: list[tuple[str, bytes]] = [
    (".jpg", encoded(GREY, "JPEG", quality=90)),
    (".jpg", encoded(GREY, "JPEG", progressive=True)),
    (".png", encoded(GREY, "PNG")),
    (".tif", encoded(GREY, "TIFF", compression="tiff_lzw")),
    (".pgm", encoded(GREY, "PPM")),
    *((".dcm", content) for content in CODED),
]
ODD_BUT_READ: list[tuple[str, bytes]] = [
    (".png", encoded(GREY, "JPEG")),  # wrong extension
    (".jpg", encoded(GREY, "PNG")),
    (".png", mammogram(breast(12))),
    (".jpg", encoded(GREY.convert("CMYK"), "JPEG")),
    (".tif", encoded(GREY.convert("CMYK"), "TIFF")),
    (".png", encoded(GREY.convert("P"), "PNG")),
    (".png", encoded(GREY.convert("RGBA"), "PNG")),
    (".png", encoded(GREY.convert("LA"), "PNG")),
    (".png", encoded(Image.fromarray(breast(12)), "PNG")),  # 12 bits in 16
    (".dcm", mammogram(breast(12))),
]


def png_of(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def jpeg_of(width: int, height: int) -> bytes:
    content = bytearray(encoded(GREY, "JPEG"))
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(content)


REFUSED: list[tuple[str, bytes]] = [
    (".png", b""),
    (".dcm", b""),
    (".png", bytes(5000)),
    (".dcm", bytes(5000)),
    (".png", b"patient,label\n1,0\n" * 40),
    (".dcm", b"patient,label\n1,0\n" * 40),
    (".png", png_of(90_000, 90_000)),
    (".png", png_of(2**31 - 1, 2**31 - 1)),
    (".jpg", jpeg_of(65_000, 65_000)),
    (".pgm", b"P5 999999 999999 255\n" + bytes(100)),
    (".dcm", mammogram(breast(12), Rows=65_000, Columns=65_000)),
    (".png", encoded(Image.new("L", (1, 1), 3), "PNG")),
    (".jpg", encoded(Image.new("L", (1, 1), 3), "JPEG")),
    (".dcm", mammogram(breast(12)[:1, :1])),
    (".png", encoded(GREY, "GIF", save_all=True, append_images=[GREY.rotate(9)])),
    (".png", encoded(GREY, "PNG", save_all=True, append_images=[GREY.rotate(9)])),
    (".tif", encoded(GREY, "TIFF", save_all=True, append_images=[GREY])),
    (".dcm", mammogram(breast(12), NumberOfFrames=50)),
]


def damaged(number: int) -> tuple[str, bytes]:
    """One of the sound files, cut or with flipped bytes; the same for the same number."""
    random = np.random.default_rng(number)
    suffix, content = SOUND[number % len(SOUND)]
    changed = bytearray(content)
    if number % 3 == 0:
        return suffix, bytes(changed[: random.integers(1, len(changed) * 9 // 10)])
    start = 0 if number % 3 == 1 else len(changed) // 2
    for place in random.integers(start, len(changed), random.integers(1, 12)):
        changed[place] ^= random.integers(1, 256)
    return suffix, bytes(changed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/raw of 200 files: odd ones that can be read (ok_), ones that cannot (no_), damaged ones (xx_)."""
    folder = tmp_path_factory.mktemp("damaged")
    kinds = {"ok": ODD_BUT_READ, "no": REFUSED}
    kinds["xx"] = [damaged(number) for number in range(NUMBER - len(ODD_BUT_READ) - len(REFUSED))]
    entries = []
    for kind, contents in kinds.items():
        for number, (suffix, content) in enumerate(contents):
            split, label = dataset.SPLITS[number // 2 % 3], number % 2
            name = f"{split}/{label}/{kind}_{number:03d}{suffix}"
            (folder / "data/raw" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "data/raw" / name).write_bytes(content)
            entries.append(dataset.Entry(name, label, split, f"{kind}{number}", ""))
    assert len(entries) == NUMBER
    dataset.write_index(folder / "data/raw", sorted(entries, key=lambda entry: entry.image))
    return folder


READ_ALL = """
import json, sys
from pathlib import Path
from mammo.core.model_info import Input, ModelInfo
from mammo.core.settings import Canonical
from mammo.imaging.readers import Readers
from mammo.predicting import scans
import psutil
def processes():  # this one, and that which decodes
    return [psutil.Process(), *psutil.Process().children()]
def seconds():
    return sum(sum(process.cpu_times()[:2]) for process in processes())
def peak():  # ru_maxrss would begin at that of the process which forked this one
    return sum(int(line.split()[1]) for process in processes()
        for line in open(f"/proc/{process.pid}/status") if line.startswith("VmHWM")) // 1024
on = sys.argv[2] == "canonical"
steps = Canonical(right_inverted=on, blacken_outside=on, crop=on, chest_wall_left=on)
info = ModelInfo.model_construct(
    preprocess=Input(size=(224, 224), canonical=steps),
    training_intensity={"percentile_0": 0.0, "percentile_100": 255.0},
)
readers = Readers()
readers.start_for(map(Path, ["x.dcm"]))
for path in scans.find([sys.argv[1]]).paths:
    begun = seconds()
    scan = scans.read(path, info, readers)
    print(json.dumps([path.name, scan.image is not None, scan.reason, seconds() - begun, peak()]))
"""


@pytest.mark.parametrize("form", ["plain", "canonical"])
def test_each_file_is_read_or_named_with_its_reason_in_bounded_time_and_memory(folder: Path, form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, folder / "data/raw", form],
        env={**os.environ, "PYTHONPATH": str(ROOT / "stages")},
        capture_output=True,
        text=True,
        timeout=NUMBER * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == NUMBER
    for name, decoded, reason, seconds, megabytes in rows:
        assert decoded != bool(reason), name
        assert "\n" not in reason
        assert seconds < SECONDS, name
        assert megabytes < MEMORY, name
        if not name.startswith("xx"):
            assert decoded == name.startswith("ok"), f"{name}: {reason}"
    assert {row[0] for row in rows if row[0].startswith("xx") and not row[1]}, "some damage must have been noticed"


def test_predict_goes_through_them_all(folder: Path, trained: Path) -> None:
    done = mammo("--model", trained / "data/model", "--csv", "out.csv", "data/raw", folder=folder)
    assert done.returncode == 3, done.stderr[-2000:]
    rows = files.read_csv(folder / "out.csv", ("file", "probability", "reading", "reason"))
    assert len(rows) == NUMBER
    for row in rows:
        assert (row["reading"] == "unreadable") == (row["probability"] == "") == bool(row["reason"])
    assert "Traceback" not in done.stderr


def test_preprocess_names_them_all(folder: Path) -> None:
    sections = {
        "split": {"by": "folder", "seed": 1, "valid": 0.2, "test": 0.2},
        "preprocess": {"size": [40, 40], "on_unreadable": "skip"},
    }
    write_params(folder, **sections)
    done = run_stage("preprocess", "data/raw", "data/prepared", "metrics/preprocess.json", folder=folder)
    assert done.returncode == 0, done.stderr
    kept = {entry.image for entry in dataset.read_index(folder / "data/prepared")}
    skipped = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    delivered = {entry.image for entry in dataset.read_index(folder / "data/raw")}
    assert kept | skipped == delivered
    assert not kept & skipped
    assert {name for name in delivered if "/no_" in name} <= skipped
    assert {name for name in delivered if "/ok_" in name} <= kept

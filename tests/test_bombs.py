"""Hostile files: each ends in one line, within 5 seconds of processor time and 1 GB; short memory is nobody's fault."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mammo.core import bounded, dataset, files
from mammo.core.bounded import BoundError
from mammo.core.errors import UserError
from mammo.core.settings import Canonical, Preprocess
from mammo.imaging import decoder, images, prepare
from mammo.imaging.readers import Readers

import bombs
import numpy as np
import psutil
import pytest
from conftest import ROOT, run_stage, write_params
from PIL import Image
from test_predict import mammo

SECONDS, MEGABYTES = 5.0, 1000
SIZE = (40, 40)

READ_ALL = """
import json, os, sys
from pathlib import Path
import psutil
from mammo.core.model_info import Input, ModelInfo
from mammo.core.settings import Canonical
from mammo.imaging.readers import Readers
from mammo.predicting import scans
info = ModelInfo.model_construct(
    preprocess=Input(size=(224, 224), canonical=Canonical()),
    training_intensity={"percentile_0": 0.0, "percentile_100": 255.0},
)
def processes():
    return [psutil.Process(), *psutil.Process().children()]
def seconds():
    return sum(sum(process.cpu_times()[:2]) for process in processes())
def peak(process):  # of this file alone: 5 resets the peak
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
with Readers() as readers:
    scans.read(Path(sys.argv[1]) / "warm.tif", info, readers)
    for line in sys.stdin:
        for process in processes():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        path, begun = Path(line.rstrip("\\n")), seconds()
        scan = scans.read(path, info, readers)
        row = [scan.reason, scan.given_up, seconds() - begun, sum(map(peak, processes()))]
        print(json.dumps(row), flush=True)
"""


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory):
    """A process that reads files as `mammo predict` does, and reports its processor time and peak memory for each."""
    folder = tmp_path_factory.mktemp("reading")
    (folder / "warm.tif").write_bytes(bombs.encoded(bombs.grey(), "TIFF"))
    process = subprocess.Popen(
        [sys.executable, "-c", READ_ALL, folder],
        env={**os.environ, "PYTHONPATH": str(ROOT / "stages")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process


DEAR = ("10,000×10,000", "100 million samples", "inflates to 200 MB", "text of 100 MB", "profile of 100 MB")
"""Bombs that take a second or more to build; the others show the same."""


def each_bomb() -> list[Any]:
    proof = {name for name in bombs.BOMBS if any(words in name for words in DEAR)}
    return [pytest.param(name, marks=[pytest.mark.proof] if name in proof else []) for name in bombs.BOMBS]


@pytest.mark.parametrize("name", each_bomb())
def test_a_bomb_is_refused_by_what_it_says_of_itself(name: str, reading, tmp_path: Path) -> None:
    suffix, build, words = bombs.BOMBS[name]
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(build())
    reading.stdin.write(f"{path}\n")
    reading.stdin.flush()
    reason, given_up, seconds, megabytes = json.loads(reading.stdout.readline())
    path.unlink()
    assert words in reason
    assert bool(reason) == (words != bombs.READ)
    assert "\n" not in reason
    assert not given_up, "a bound on memory or time is a backstop and no verdict"
    assert seconds < SECONDS
    assert megabytes < MEGABYTES


def test_a_file_of_too_many_bytes_is_not_opened(tmp_path: Path) -> None:
    for name in ("scan.png", "scan.tif"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(10**12)
        with Readers() as several, pytest.raises(images.UnreadableError, match="has 1,000,000,000,000 bytes"):
            several.scan(tmp_path / name, SIZE)


def test_what_is_odd_but_harmless_is_read(tmp_path: Path) -> None:
    plain = bombs.encoded(bombs.grey(), "JPEG")
    profile = bombs.segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(3000))
    comment = bombs.segment(0xFE, bombs.frame(9, 9))  # a header in a comment is none
    jpeg = bombs.before_header(plain, b"\xff\x01", profile, comment, b"\xff\xff\xff")
    assert (images.decode(jpeg, SIZE) == images.decode(plain, SIZE)).all()
    one = bombs.tiff((330, 4, 1, 8))  # a sub-image that is none
    assert (images.decode(one, SIZE) == images.decode(bombs.encoded(bombs.grey(), "PNG"), SIZE)).all()


@pytest.mark.parametrize("depth", [8, 16])
def test_plain_and_binary_pgm_agree(depth: int) -> None:
    grey = np.asarray(bombs.grey()).astype(int) * (1 if depth == 8 else 17)
    highest = 220 if depth == 8 else 4095
    head = f"P%d\n# drawn\n{bombs.SIDE} {bombs.SIDE}\n{highest}\n"
    binary = (head % 5).encode() + grey.astype(">u2" if depth == 16 else np.uint8).tobytes()
    plain = (head % 2 + "# and here\n" + " ".join(map(str, grey.ravel()))).encode()
    expected = np.asarray(Image.fromarray(np.rint(grey / highest * 255).astype(np.uint8)))
    assert (images.decode(binary, SIZE) == images.decode(plain, SIZE)).all()
    if depth == 8:
        assert (images.decode(binary, (bombs.SIDE, bombs.SIDE)) == expected).all()


# Bounds


def slow_tiff(path: Path, side: int = 6000) -> Path:
    noise = np.random.default_rng(1).integers(0, 60000, (side, side), np.uint16)
    Image.fromarray(noise).save(path, compression="tiff_lzw")
    return path


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound TIFF that takes longer than a look at memory and time."""
    return slow_tiff(tmp_path_factory.mktemp("slow") / "slow.tif")


@pytest.mark.parametrize(
    ("bounds", "words"),
    [({"memory": 10**6}, "more than 0 GB of memory"), ({"seconds": 0.01}, "more than 0 s of processor time")],
)
def test_a_bound_that_is_reached_says_nothing_about_the_file(slow: Path, bounds: dict[str, float], words: str) -> None:
    with Readers(**bounds) as several:
        with pytest.raises(BoundError, match=words) as caught:
            several.scan(slow, SIZE)
        assert str(slow) in str(caught.value)
        assert not isinstance(caught.value, images.UnreadableError)
    with Readers() as several:
        assert several.scan(slow, SIZE).image.shape == SIZE


def raw_with(folder: Path, path: Path) -> list[dataset.Entry]:
    for number in range(4):
        bombs.grey().rotate(number).save(folder / f"{number}.png")
    (folder / path.name).symlink_to(path)
    names = [*(f"{number}.png" for number in range(4)), path.name]
    return [dataset.Entry(name, 0, "train", name, "") for name in names]


def test_preprocess_stops_at_a_bound_though_it_may_skip_unreadable_images(
    slow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "SECONDS", 0.01)
    entries = raw_with(tmp_path, slow)
    preprocess = Preprocess(size=list(SIZE), on_unreadable="skip", canonical=Canonical())
    with pytest.raises(UserError, match=r"slow.tif: decoding it took more than"):
        prepare.decode_all(tmp_path, entries, preprocess, tmp_path)
    monkeypatch.undo()
    (tmp_path / "all.npy").unlink()
    assert len(prepare.decode_all(tmp_path, entries, preprocess, tmp_path)) == 5


def test_a_killed_process_is_named_and_another_one_goes_on(slow: Path) -> None:
    before = set(psutil.Process().children())
    with Readers() as several:
        several.start_for([slow])
        (process,) = set(psutil.Process().children()) - before
        threading.Timer(0.5, process.kill).start()  # as the kernel does when memory runs out
        with pytest.raises(BoundError, match=r"slow.tif: decoding ended unexpectedly \(SIGKILL\)"):
            while True:
                several.scan(slow, SIZE)
        assert several.scan(slow, SIZE).image.shape == SIZE
    assert set(psutil.Process().children()) <= before


def test_the_process_ends_with_the_one_that_asks(slow: Path) -> None:
    code = "import sys; from pathlib import Path; from mammo.imaging.readers import Readers\nwith Readers() as r:\n"
    code += "    r.scan(Path(sys.argv[1]), (40, 40)); print(flush=True)\n"
    code += "    while True: r.scan(Path(sys.argv[1]), (40, 40))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}
    with subprocess.Popen([sys.executable, "-c", code, slow], env=environment, stdout=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        asking.stdout.readline()
        (process,) = psutil.Process(asking.pid).children()
        asking.kill()
    _, alive = psutil.wait_procs([process], timeout=20)
    assert alive == []


SHORT = """
import os, resource, sys
from pathlib import Path
from mammo.core import dataset
from mammo.core.settings import Preprocess, Canonical
from mammo.imaging import prepare, readers
from mammo.imaging.readers import Readers
folder, spare = Path(sys.argv[1]), int(sys.argv[2]) * 2**20
entries = [dataset.Entry(name, 0, "train", name, "") for name in sys.argv[4:]]
def limit(pid):
    used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    inherited = resource.prlimit(pid, resource.RLIMIT_AS)[1]
    most = used + spare if inherited == resource.RLIM_INFINITY else min(used + spare, inherited)
    resource.prlimit(pid, resource.RLIMIT_AS, (most, most))
original = readers.Worker.ask
def ask(self, request):
    original(self, request | {"path": str(folder / "small.tif")})  # its libraries are loaded
    limit(self._process.pid)
    return original(self, request)
readers.Worker.ask = ask
preprocess = Preprocess(size=2 * [int(sys.argv[3])], on_unreadable="skip", canonical=Canonical())
with Readers() as several:
    several.scan(folder / "small.png", (40, 40))
limit(os.getpid())
try:
    prepare.decode_all(folder, entries, preprocess, folder)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("kind", "spare", "size"), [("png", 60, 40), ("jpg", 30, 3100), ("tif", 60, 40)])
def test_a_sound_file_is_not_called_damaged_for_lack_of_memory(
    kind: str, spare: int, size: int, tmp_path: Path
) -> None:
    for suffix in ("png", "tif"):
        bombs.grey().save(tmp_path / f"small.{suffix}")
    side = 6000
    values = np.arange(side, dtype=np.uint8 if kind == "jpg" else np.uint16)
    Image.fromarray(np.add.outer(values, values)).save(tmp_path / f"large.{kind}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}
    command = [sys.executable, "-c", SHORT, tmp_path, str(spare), str(size), f"large.{kind}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    said = done.stdout + done.stderr
    assert "BoundError" in said, said
    assert f"large.{kind}: {bounded.LACK}" in said
    assert "damaged" not in said
    assert "skipped" not in said


# The real commands


FEW = ("JPEG, a million comments", "TIFF, 60,000 pages", "PNG, a million chunks", "PGM, absurd size")


def delivered(raw: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Deliver sound images and bombs; return the names of the bombs' files."""
    entries, called = [], {}
    for number in range(12):
        name = f"{dataset.SPLITS[number // 2 % 3]}/{number % 2}/{number:04d}.png"
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        bombs.grey().rotate(number).save(raw / name)
        entries.append(dataset.Entry(name, number % 2, dataset.SPLITS[number // 2 % 3], str(number), ""))
    for number, bomb in enumerate(names):
        suffix, build, _ = bombs.BOMBS[bomb]
        called[bomb] = name = f"train/0/x{number:04d}{suffix}"
        (raw / name).write_bytes(build())
        entries.append(dataset.Entry(name, 0, "train", f"x{number}", ""))
    dataset.write_index(raw, sorted(entries, key=lambda entry: entry.image))
    return called


def preprocessed(folder: Path, names: tuple[str, ...]) -> None:
    called = delivered(folder / "data/raw", names)
    write_params(folder, preprocess={"size": [40, 40], "on_unreadable": "skip"}, split={"by": "folder"})
    done = run_stage("preprocess", "data/raw", "data/prepared", "metrics/preprocess.json", folder=folder)
    assert done.returncode == 0, done.stderr
    said = {line.split()[0]: line for line in done.stdout.splitlines() if line.startswith("  ")}
    for bomb, name in called.items():
        words = bombs.BOMBS[bomb][2]
        assert (words in said[name]) if words else name not in said, bomb
    assert "Traceback" not in done.stderr


def test_preprocess_names_them_and_goes_on(tmp_path: Path) -> None:
    preprocessed(tmp_path, FEW)


@pytest.mark.proof
def test_preprocess_names_every_one(tmp_path: Path) -> None:
    preprocessed(tmp_path, tuple(bombs.IMAGES))


@pytest.mark.proof
def test_predict_names_every_one_and_goes_on_within_its_bounds(trained: Path, tmp_path: Path) -> None:
    called = delivered(tmp_path / "scans", tuple(bombs.BOMBS))
    usage: list[int] = []
    done_by = threading.Event()

    def watch() -> None:
        while not done_by.wait(0.2):
            own = [child for child in psutil.Process().children(recursive=True) if child.is_running()]
            usage.append(max((memory(child) for child in own), default=0))

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.monotonic()
    done = mammo("--model", trained / "data/model", "--csv", "out.csv", "scans", folder=tmp_path)
    seconds = time.monotonic() - begun
    done_by.set()
    watcher.join()
    print(f"{len(called)} bombs in {seconds:.0f} s, at most {max(usage) / 1e6:.0f} MB in one process")
    assert done.returncode == 3, done.stderr[-2000:]
    rows = {row["file"]: row for row in files.read_csv(tmp_path / "out.csv", ("file", "reading", "reason"))}
    for bomb, name in called.items():
        row, words = rows[f"scans/{name}"], bombs.BOMBS[bomb][2]
        assert words in row["reason"], bomb
        assert (row["reading"] == "unreadable") == bool(words), bomb
    assert "Traceback" not in done.stderr
    assert max(usage) < 2_000_000_000  # TensorFlow included, and four files side by side


def memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def test_predict_goes_on_after_a_bound_and_says_so_with_its_exit_code(
    trained: Path, slow: Path, tmp_path: Path
) -> None:
    code = "from mammo.imaging import decoder; decoder.SECONDS = 0.01; import sys; from mammo.commands import main; "
    command = [sys.executable, "-c", code + "sys.exit(main())", "predict", "--model", trained / "data/model"]
    bombs.grey().save(tmp_path / "sound.png")
    done = subprocess.run(
        [*command, "--csv", "out.csv", slow, "sound.png"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "stages")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    given_up, sound = files.read_csv(tmp_path / "out.csv", ("file", "probability", "reading", "reason"))
    assert (given_up["reading"], given_up["probability"]) == ("not read", "")
    assert "more than 0 s of processor time" in given_up["reason"]
    assert "damaged" not in given_up["reason"]
    assert sound["probability"]
    assert f"{slow} decoding it took" in done.stderr

"""The fuzz campaign: whatever the bytes, a result or one clear line, within 10 seconds and 1 GB.

`make proof` tries 20,000 inputs; FUZZ_INPUTS sets another number, FUZZ_SEED another beginning. What it finds becomes a
test in test_fuzz_findings.py or a bomb in bombs.py.
"""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from mammo.core import model_info, settings
from mammo.core.errors import UserError
from mammo.imaging import decoder, readers
from mammo.imaging.limits import UnreadableError
from mammo.imaging.readers import Readers
from mammo.sources import own

import bombs
import fuzzing
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as how
from hypothesis import strategies as st

INPUTS = int(os.environ.get("FUZZ_INPUTS", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
SHARES = {
    "DICOM": 0.3,
    "JPEG": 0.15,
    "PNG": 0.15,
    "TIFF": 0.15,
    "PGM": 0.05,
    "labels": 0.06,
    "model": 0.06,
    "params": 0.08,
}
SECONDS, MEGABYTES = 10.0, 1000  # of processor time; at the peak, above what was held
SIZE = (56, 56)
FEW = 10  # inputs per kind in `make test`

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:.*pydicom.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),  # as outside of tests: limits refuse
]

Tried = Callable[[bytes], str]


class Images:
    """Reads bytes as an image file does, and measures processor time and memory of this process and the other."""

    def __init__(self, path: Path, several: Readers) -> None:
        self.path, self.several = path, several

    def __call__(self, content: bytes) -> str:
        """Return `read` or `refused`; fails at anything else."""
        self.path.write_bytes(content)
        processes = [psutil.Process(), *psutil.Process().children()]
        for process in processes:
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        held = [peak(process) for process in processes]  # this one may hold TensorFlow for other tests
        begun = sum(map(seconds, processes))
        try:
            scanned = self.several.scan(self.path, SIZE)
            assert scanned.image.shape == SIZE
            assert scanned.image.dtype == "uint8"
            assert scanned.properties.bytes == len(content)
            answer = "read"
        except UnreadableError as reason:
            check_line(str(reason))
            answer = "refused"
        assert sum(map(seconds, processes)) - begun < SECONDS
        for process, before in zip(processes, held, strict=True):
            assert peak(process) - before < MEGABYTES
        return answer


def seconds(process: psutil.Process) -> float:
    """Processor time so far."""
    return sum(process.cpu_times()[:2])


def peak(process: psutil.Process) -> int:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def check_line(text: str) -> None:
    assert text.strip()
    assert "\n" not in text
    assert "Traceback" not in text
    assert len(text) < 2000


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tried]]:
    folder = tmp_path_factory.mktemp("fuzz")
    with Readers() as several:
        several.start_for([folder / "x.dcm"])
        yield {kind: Images(folder / f"scan{suffix}", several) for kind, (suffix, _) in fuzzing.IMAGES.items()}


def reads_text(path: Path, read: Callable[[], object]) -> Tried:
    def tried(content: bytes) -> str:
        path.write_bytes(content)
        begun = time.process_time()
        try:
            read()
            answer = "read"
        except UserError as error:
            assert str(error).strip()
            assert "Traceback" not in str(error)
            answer = "refused"
        assert time.process_time() - begun < SECONDS
        return answer

    return tried


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tried]:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "images").mkdir()
    (folder / "model").mkdir()
    for number in range(10):
        bombs.grey().save(folder / f"images/{number}.png")

    def listed() -> None:
        found = own.own(folder / "images", r"^([^_]+)_")
        assert len(found) > 0

    return {
        "labels": reads_text(folder / "images/labels.csv", listed),
        "model": reads_text(folder / "model/model.json", lambda: model_info.read(folder / "model")),
        "params": reads_text(folder / "params.yaml", lambda: settings.read(folder / "params.yaml")),
    }


def campaign(kind: str, build: Callable[[Random], bytes], tried: Tried, number: int) -> Counter[str]:
    counts: Counter[str] = Counter()

    @seed(SEED)
    @how(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(st.randoms(use_true_random=True))
    def each(random: Random) -> None:
        content = build(random)
        try:
            counts[tried(content)] += 1
        except BaseException:
            if kept := os.environ.get("FUZZ_KEEP"):
                Path(kept).mkdir(exist_ok=True)
                (Path(kept) / f"{kind}_{sum(counts.values())}").write_bytes(content)
            raise

    each()
    return counts


def builders(trained: Path) -> dict[str, Callable[[Random], bytes]]:
    info = json.loads((trained / "data/model/model.json").read_text())
    return {kind: build for kind, (_, build) in fuzzing.IMAGES.items()} | {
        "labels": fuzzing.labels,
        "model": lambda random: fuzzing.as_json(random, info),
        "params": fuzzing.params,
    }


@pytest.mark.proof
def test_every_input_gives_a_result_or_one_line(
    trained: Path, images: dict[str, Tried], texts: dict[str, Tried]
) -> None:
    begun = time.monotonic()
    total: Counter[str] = Counter()
    for kind, build in builders(trained).items():
        counts = campaign(kind, build, (images | texts)[kind], round(INPUTS * SHARES[kind]))
        print(f"{kind}: {counts['read']:,} read, {counts['refused']:,} refused")
        assert counts["read"] > 0.02 * counts.total(), "the odd parts must not be all that is tried"
        total += counts
    print(f"{total.total():,} inputs in {time.monotonic() - begun:.0f} s")
    assert total.total() >= INPUTS


@pytest.mark.parametrize("kind", [*fuzzing.IMAGES, "labels", "params"])
def test_a_few_inputs_of_each_kind(kind: str, images: dict[str, Tried], texts: dict[str, Tried]) -> None:
    build = {**{name: build for name, (_, build) in fuzzing.IMAGES.items()}, "labels": fuzzing.labels}
    counts = campaign(kind, build.get(kind, fuzzing.params), (images | texts)[kind], FEW)
    assert counts.total() >= FEW


def test_the_campaign_notices_a_crash_and_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crashing(content: bytes) -> str:
        return str(1 // (len(content) % 7 - 3))

    with pytest.raises(ZeroDivisionError):
        campaign("PGM", fuzzing.pgm, crashing, 200)
    monkeypatch.setattr(decoder, "SECONDS", 0.01)
    shutil.copyfile(slow_file(tmp_path), tmp_path / "scan.tif")
    with Readers() as several, pytest.raises(readers.BoundError):
        Images(tmp_path / "scan.tif", several)((tmp_path / "slow.tif").read_bytes())


def slow_file(folder: Path) -> Path:
    from test_bombs import slow_tiff

    return slow_tiff(folder / "slow.tif")

"""Speed and memory beside the peers', in one run: `make bench`, or `python bench/run.py [ROW …]` for single rows.

Every work runs in a process of its own, the works of a row in turn, and every figure is a ratio with its spread. Real
images where MAMMOGRAMS names their folder, phantoms otherwise. Linux only: memory is read from /proc.
"""

import argparse
import datetime
import functools
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "stages"))

import material
from mammo.core import dataset, files, settings
from material import ROOT
from measure import Worker, in_turn, spread, watched

BENCH = ROOT / "bench"
OURS, NOTEBOOK, PYTORCH = BENCH / "ours.py", BENCH / "notebook.py", BENCH / "pytorch.py"
PEERS = ROOT / ".venv-bench" / "bin" / "python"
DECODED = 1200  # images a round of decoding
LEARNED = 960  # images an epoch
FEW, MANY = 1000, 3000  # images at which memory is measured
EPOCHS = 10  # of the whole pipeline, as the notebook has
ROUNDS = 5
LONG_ROUNDS = 2


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    work: str
    ours: str
    peer: str
    ratio: str
    bar: str
    met: bool | None = None
    """Whether the median meets the bar; None where there is none."""


@dataclass
class Bench:
    """What all rows share."""

    work: Path
    """A temporary folder."""
    rounds: int
    most: int
    """Images at most, of every row."""

    @functools.cached_property
    def images(self) -> tuple[Path, str]:
        """Folder of the images measured on and what they are."""
        return material.tree(self.work)

    @functools.cached_property
    def size(self) -> int:
        """How many there are, at most `most`."""
        return min(sum(1 for _ in self.images[0].rglob("*.jpg")), self.most)

    def raw(self, number: int) -> Path:
        """A folder as download leaves it, with so many of the images."""
        target = self.work / f"raw_{number}"
        if not target.exists():
            material.raw(self.images[0], target, number)
        return target

    def prepared(self, number: int) -> Path:
        """A folder as preprocess leaves it, with so many of the images."""
        run = self.work / f"run_{number}"
        if not (run / "prepared").exists():
            material.params(run)
            _stage(run, "preprocess", self.raw(number), "prepared", "preprocess.json")
        return run / "prepared"


def _stage(run: Path, name: str, *paths: object) -> None:
    command = [sys.executable, ROOT / "stages" / f"{name}.py", *paths]
    done = subprocess.run([str(part) for part in command], cwd=run, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stdout}{done.stderr}")


def _compared(
    work: str, seconds: dict[str, list[float]], ours: str, peer: str, number: int, least: float | None, said: str
) -> Row:
    """A row on speed: the peer's seconds by ours, in each round."""
    ratios = [theirs / own for theirs, own in zip(seconds[peer], seconds[ours], strict=True)]
    rate = {name: f"{number / statistics.median(seconds[name]):,.0f} images/s" for name in (ours, peer)}
    met = None if least is None else statistics.median(ratios) >= least
    bar = "" if least is None else f"≥ {least:g}×"
    return Row(work, rate[ours], f"{said}: {rate[peer]}", spread(ratios), bar, met)


def preprocessing(bench: Bench) -> Iterator[Row]:
    """Decoding and resizing: the notebook's way, and full-size decoding alone."""
    number = min(DECODED, bench.size)
    raw = bench.raw(number)
    ours = Worker(sys.executable, OURS, "preprocessing", raw, bench.work)
    full = Worker(sys.executable, OURS, "decoding", raw)
    notebook = Worker(sys.executable, NOTEBOOK, "decoding", raw)
    workers = {"ours": ours, "full": full, "notebook": notebook}
    seconds = in_turn(workers, bench.rounds)
    for worker in workers.values():
        worker.close()
    said = "notebook's way (colour, grey, resize, float32; one thread)"
    yield _compared("preprocessing", seconds, "ours", "notebook", number, 3, said)
    cores = ours.about["cores"]
    said = f"grey decoding at full size alone, {cores} threads"
    yield _compared("preprocessing", seconds, "ours", "full", number, 1, said)
    gap = full.about
    yield Row(
        f"effect of scaled decoding on the pixels of {gap['images']} images",
        f"mean {gap['mean']:.2f}, 99 % below {gap['percentile_99']:.0f}, greatest {gap['greatest']}",
        "grey levels of 255 from full-size decoding",
        "",
        "",
    )


def epoch(bench: Bench) -> Iterator[Row]:
    """A training epoch with augmentation: the notebook's way, PyTorch, and the ceiling."""
    number = min(LEARNED, bench.size)
    prepared = bench.prepared(number)
    data = dataset.load(prepared)
    np.save(bench.work / "images.npy", data.images)
    np.save(bench.work / "labels.npy", data.labels)
    batch, rate = (settings.value("train", key, material.ROOT / "params.yaml") for key in ("batch", "learning_rate"))
    workers = {
        "ours float32": Worker(sys.executable, OURS, "epoch", prepared, "float32", number),
        "ours bfloat16": Worker(sys.executable, OURS, "epoch", prepared, "bfloat16", number),
        "ceiling float32": Worker(sys.executable, OURS, "ceiling", prepared, "float32", number),
        "ceiling bfloat16": Worker(sys.executable, OURS, "ceiling", prepared, "bfloat16", number),
        "notebook": Worker(sys.executable, NOTEBOOK, "epoch", prepared, number),
    }
    best = None
    if PEERS.exists():
        arrays = bench.work / "images.npy", bench.work / "labels.npy"
        workers["pytorch"] = Worker(PEERS, PYTORCH, *arrays, batch, rate)
        best = workers["pytorch"].about["best"]
    else:
        print(f"{PEERS} is missing: the rows on PyTorch are left out; `make bench` installs it", file=sys.stderr)
    seconds = in_turn(workers, bench.rounds)
    for worker in workers.values():
        worker.close()
    for precision, least in (("float32", 1.2), ("bfloat16", 2.0)):
        work, ours = f"training epoch with augmentation, {precision}", f"ours {precision}"
        said = "notebook's way (float32 arrays, ImageDataGenerator, fit)"
        yield _compared(work, seconds, ours, "notebook", number, least, said)
        if best:
            said = f"PyTorch without augmentation, {best}"
            yield _compared(work, seconds, ours, "pytorch", number, 2, said)
        said = f"train_on_batch on one fixed batch, {precision}"
        yield _compared(work, seconds, ours, f"ceiling {precision}", number, 0.95, said)


def memory(bench: Bench) -> Iterator[Row]:
    """Peak anonymous memory of preprocess and train, one epoch, and its growth with the number of images."""
    peaks: dict[str, dict[int, float]] = {"ours": {}, "notebook": {}}
    few, many = min(FEW, bench.most // 3), min(MANY, bench.most)
    for number in (few, many):
        raw, run = bench.raw(number), bench.work / f"memory_{number}"
        material.params(run, train={"epochs": 1}, data={"source": "folder"})
        files.write_json(run / "gate.json", {"leaking": False})
        decode = ("preprocess.py", raw, "prepared", "preprocess.json")
        learn = ("train.py", "prepared", "gate.json", "model", "history.csv", "train.json")
        peaks["ours"][number] = max(
            watched((sys.executable, ROOT / "stages" / script, *paths), run, may_fail_with="COLLAPSED")[1]
            for script, *paths in (decode, learn)
        )
        peaks["notebook"][number] = watched((sys.executable, NOTEBOOK, "whole", raw, 1), run)[1]
    ratio = peaks["ours"][many] / peaks["notebook"][many]
    growth = {name: (peak[many] - peak[few]) / (many - few) for name, peak in peaks.items()}
    said = {name: f"{peak[many] / 1e9:.2f} GB" for name, peak in peaks.items()}
    work = f"peak anonymous memory, preprocess and train, {many:,} images"
    yield Row(work, said["ours"], f"notebook's way: {said['notebook']}", f"{ratio:.2f}", "≤ 1/3", ratio <= 1 / 3)
    share = growth["ours"] / growth["notebook"]
    work = f"its growth an image ({few:,} to {many:,})"
    grown = {name: f"{value / 1e3:.1f} kB" for name, value in growth.items()}
    yield Row(work, grown["ours"], f"notebook's way: {grown['notebook']}", f"{share:.3f}", "≤ 1/20", share <= 1 / 20)


def repro(bench: Bench) -> Iterator[Row]:
    """`dvc repro` with nothing to do, beside repositories of one stage: without data, and with the same images."""
    project, single, images = _project(bench), bench.work / "single", bench.work / "single_images"
    single.mkdir()
    (single / "input.txt").write_text("1\n")
    _one_stage(single, "input.txt", "output.txt", "cp input.txt output.txt")
    images.mkdir()
    shutil.copytree(project / "data" / "raw", images / "input")
    _one_stage(images, "input", "output", "cp -r input output")
    works = {
        "ours": lambda: _dvc(project, "repro", "-q"),
        "single": lambda: _dvc(single, "repro", "-q"),
        "images": lambda: _dvc(images, "repro", "-q"),
    }
    seconds = in_turn(works, 2 * bench.rounds)
    said = {name: f"{statistics.median(values):.2f} s" for name, values in seconds.items()}
    for peer, what in (("single", "one stage, one small file"), ("images", "one stage that copies the same images")):
        ratios = [own / one for own, one in zip(seconds["ours"], seconds[peer], strict=True)]
        met = statistics.median(ratios) <= 1.3
        yield Row(
            "`dvc repro` with nothing to do", said["ours"], f"{what}: {said[peer]}", spread(ratios), "≤ 1.3×", met
        )  # fmt: skip


def _one_stage(folder: Path, dependency: str, output: str, command: str) -> None:
    """A repository of one stage that has run."""
    _git_and_dvc(folder)
    _dvc(folder, "stage", "add", "-q", "-n", "copy", "-d", dependency, "-o", output, command)
    _dvc(folder, "repro", "-q")


def pipeline(bench: Bench) -> Iterator[Row]:
    """From files to scores with intervals, the same epochs."""
    number = bench.size
    raw = bench.raw(number)

    def ours(precision: str) -> float:
        run = bench.work / "pipeline"
        shutil.rmtree(run, ignore_errors=True)
        asked = {"epochs": EPOCHS, "patience": EPOCHS, "precision": precision}
        material.params(run, train=asked, data={"source": "folder"})
        files.write_json(run / "gate.json", {"leaking": False})
        files.write_json(run / "audit.json", {"shortcut": {"roc_auc": {"value": 0.5, "low": 0.5, "high": 0.5}}})
        begun = time.perf_counter()
        _stage(run, "preprocess", raw, "prepared", "preprocess.json")
        _stage(run, "train", "prepared", "gate.json", "model", "history.csv", "train.json")
        _stage(run, "evaluate", "prepared", "model", "audit.json", "history.csv", "metrics", "plots")
        return time.perf_counter() - begun

    def notebook() -> float:
        return watched((sys.executable, NOTEBOOK, "whole", raw, EPOCHS), bench.work)[0]

    works = {
        "float32": lambda: ours("float32"),
        "bfloat16": lambda: ours("bfloat16"),
        "notebook": notebook,
    }
    seconds = in_turn(works, min(bench.rounds, LONG_ROUNDS), warm=False)
    for precision in ("float32", "bfloat16"):
        ratios = [theirs / own for theirs, own in zip(seconds["notebook"], seconds[precision], strict=True)]
        said = {name: f"{statistics.median(values):.0f} s" for name, values in seconds.items()}
        met = statistics.median(ratios) >= 1.5
        work = f"preprocess, train {EPOCHS} epochs, evaluate; {number:,} images, {precision}"
        peer = f"notebook's way, scored with intervals over patients: {said['notebook']}"
        yield Row(work, said[precision], peer, spread(ratios), "≥ 1.5×", met)


def _project(bench: Bench) -> Path:
    """A copy of what git knows of this project, run once on a small set, so that nothing is left to do."""
    project = bench.work / "project"
    listing = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listing.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)
    (project / "dvc.lock").unlink(missing_ok=True)
    (project / ".dvc" / "config.local").unlink(missing_ok=True)
    _git_and_dvc(project)
    _dvc(project, "repro", "-q")
    return project


def _git_and_dvc(folder: Path) -> None:
    subprocess.run(("git", "init", "-q"), cwd=folder, check=True)
    if not (folder / ".dvc").is_dir():
        _dvc(folder, "init", "-q")


def _dvc(folder: Path, *arguments: str) -> float:
    """Run DVC; gives the seconds."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["DVC_NO_ANALYTICS"] = "1"
    begun = time.perf_counter()
    done = subprocess.run(("dvc", *arguments), cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"dvc {' '.join(arguments)} failed in {folder}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - begun


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    row.__name__: row for row in (preprocessing, epoch, memory, repro, pipeline)
}
TABLES = ("scores", "duplicates")  # scripts that print a table of their own


def processor() -> str:
    """The processor's model, cores and what decides speed most."""
    text = Path("/proc/cpuinfo").read_text()
    named = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    flags = set(text.split())
    known = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags]
    cores = len(os.sched_getaffinity(0))
    return f"{named[0] if named else platform.machine()}, {cores} cores, {known[0] if known else 'no vector extension'}"


def table(rows: Sequence[Row], heading: str) -> str:
    """Markdown."""
    lines = [
        heading,
        "",
        "| work | ours | against | ratio: median (min–max) | bar | met |",
        "|---|---:|---|---:|---:|---|",
    ]
    for row in rows:
        met = "" if row.met is None else "yes" if row.met else "**no**"
        lines.append(f"| {row.work} | {row.ours} | {row.peer} | {row.ratio} | {row.bar} | {met} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the rows asked for and print one table."""
    parser = argparse.ArgumentParser(description="Speed and memory beside the peers'.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join((*ROWS, *TABLES)) + "; default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of every row; default {ROUNDS}")
    parser.add_argument("--images", type=int, default=MANY, help="at most, of every row; few are for a quick try alone")
    options = parser.parse_args()
    asked = options.rows or [*ROWS, *TABLES]
    if unknown := set(asked) - {*ROWS, *TABLES}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join((*ROWS, *TABLES))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the temporary folder is removed
    begun, load = time.perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench_") as work:
        bench = Bench(Path(work), options.rounds, options.images)
        rows, failed = [], False
        for name in asked:
            if name in ROWS:
                print(f"measuring {name} …", file=sys.stderr, flush=True)
                try:
                    rows += ROWS[name](bench)
                except RuntimeError as failure:  # the other rows are measured all the same
                    print(f"{name} could not be measured: {failure}", file=sys.stderr)
                    failed = True
        if rows:
            minutes = (time.perf_counter() - begun) / 60
            heading = f"{processor()}; {datetime.date.today()}; {bench.images[1]}; {minutes:.0f} minutes; "
            print(table(rows, heading + f"load before the run {load:.1f}"), flush=True)
    for name in asked:
        if name in TABLES:
            print(f"\n{name}\n", flush=True)
            failed |= subprocess.run((sys.executable, BENCH / f"{name}.py"), check=False).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()

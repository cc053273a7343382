"""Speed and memory compared with peers: `make bench`, or `python bench/run.py [ROW …]` for single rows.

Every task runs in its own process, the tasks of a row in turn; results are ratios with their range. The images are
mammograms from the folder in MAMMOGRAMS if it is set, else phantoms. Linux only: memory is read from /proc.
"""

import argparse
import contextlib
import functools
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from mammo.core import dataset, files, predictions, settings

import material
import measure
import numpy as np
from measure import ROOT, Worker, in_turn, watched, with_range

BENCH, STAGES = ROOT / "bench", ROOT / "stages"
OURS, NOTEBOOK, PYTORCH = BENCH / "ours.py", BENCH / "notebook.py", BENCH / "pytorch.py"
PEERS = ROOT / ".venv-bench" / "bin" / "python"
DECODED = 1200  # images per round of decoding
LEARNED = 960  # images per epoch
FEW, MANY = 1000, 3000  # numbers of images for which memory is measured
EPOCHS = 10  # of the whole pipeline, as in the notebook
ROUNDS = 5
LONG_ROUNDS = 2
BARS = {"float32": ("≥ 1.2×", "≥ 2×", "≥ 0.95×"), "bfloat16": ("≥ 2×", "≥ 2×", "≥ 0.95×")}
"""Bars for an epoch in each precision, against the notebook, PyTorch and the ceiling."""


class Row(NamedTuple):
    """A row of the table."""

    work: str
    ours: str
    peer: str
    ratio: str = ""
    bar: str = ""
    met: str = ""


def meets(ratio: float, bar: str) -> str:
    """Return `yes` or `**no**`: whether a ratio meets a bar such as `≥ 1.2×` or `≤ 1/3`."""
    sign, limit = bar.removesuffix("×").split()
    bound = float(Fraction(limit))
    met = ratio >= bound if sign == "≥" else ratio <= bound
    return "yes" if met else "**no**"


def timed(
    work: str, seconds: Mapping[str, list[float]], ours: str, peer: str, about: str, bar: str, show: Callable
) -> Row:
    """Return a row of the table from times.

    Args:
        work: description of the task.
        seconds: seconds of each task by name, per round.
        ours: name of our task.
        peer: name of the peer's task.
        about: description of the peer.
        bar: `≥` bounds the peer's seconds divided by ours, `≤` bounds ours divided by the peer's.
        show: formats the median seconds.

    """
    rounds = zip(seconds[ours], seconds[peer], strict=True)
    ratios = [theirs / own if bar.startswith("≥") else own / theirs for own, theirs in rounds]
    own, theirs = (show(statistics.median(seconds[name])) for name in (ours, peer))
    return Row(work, own, f"{about}: {theirs}", with_range(ratios), bar, meets(statistics.median(ratios), bar))


def images_per_second(number: int) -> Callable[[float], str]:
    """Return a function that formats the seconds for `number` images as a rate."""
    return lambda seconds: f"{number / seconds:,.0f} images/s"


@dataclass
class Bench:
    """Settings and files shared by all rows."""

    work: Path
    """A temporary folder."""
    rounds: int = ROUNDS
    most: int = MANY
    """Maximum number of images per row."""

    @functools.cached_property
    def params(self) -> settings.Params:
        """The settings of every row."""
        return settings.read(ROOT / "params.yaml")

    @functools.cached_property
    def images(self) -> tuple[Path, str]:
        """Folder of the images, and their description."""
        return material.tree(self.work, self.params)

    @functools.cached_property
    def size(self) -> int:
        """Number of images, at most `most`."""
        return min(sum(1 for _ in self.images[0].rglob("*.jpg")), self.most)

    @functools.cached_property
    def project(self) -> Path:
        """A copy of this project's files that are not ignored by git, with all stages up to date."""
        project = self.work / "project"
        listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        for name in names:
            if name and (ROOT / name).is_file():
                (project / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, project / name)
        (project / "dvc.lock").unlink(missing_ok=True)
        (project / ".dvc" / "config.local").unlink(missing_ok=True)
        subprocess.run(("git", "init", "-q"), cwd=project, check=True)
        dvc(project, "repro", "-q")
        return project

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions that this processor has instructions for."""
        return ("float32", "bfloat16") if measure.has_bfloat16() else ("float32",)

    def folder(self, name: str, **changed: dict[str, object]) -> Path:
        """Create a working directory with params.yaml, some of its values `changed`."""
        return material.folder_with(self.params, self.work / name, **changed)

    def raw(self, number: int) -> Path:
        """Create a folder like the output of download, with `number` images."""
        target = self.work / f"raw_{number}"
        if not target.exists():
            material.raw(self.images[0], target, number)
        return target

    def prepared(self, number: int) -> Path:
        """Create a folder like the output of preprocess, with `number` images."""
        run = self.work / f"run_{number}"
        if not (run / "prepared").exists():
            self.folder(run.name)
            watched((sys.executable, STAGES / "preprocess.py", self.raw(number), *PREPROCESS), run)
        return run / "prepared"


PREPROCESS = ("prepared", "preprocess.json")
TRAIN = ("prepared", "gate.json", "model", "history.csv", "train.json")
EVALUATE = ("prepared", "model", "shortcut.csv", "history.csv", "metrics", "plots")


def dvc(folder: Path, *arguments: str) -> float:
    """Run DVC; return the seconds."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    return watched(("dvc", *arguments), folder, env=environment)[0]


def preprocessing(bench: Bench) -> Iterator[Row]:
    """Measure decoding and resizing against the notebook and against full-size decoding alone."""
    number = min(DECODED, bench.size)
    raw, folder = bench.raw(number), bench.folder("preprocessing")
    with (
        Worker(sys.executable, OURS, "preprocessing", raw, cwd=folder) as ours,
        Worker(sys.executable, OURS, "decoding", raw, cwd=folder) as full,
        Worker(sys.executable, NOTEBOOK, "decoding", raw, cwd=folder) as notebook,
    ):
        seconds = in_turn({"ours": ours, "full": full, "notebook": notebook}, bench.rounds)
    show = images_per_second(number)
    about = "notebook's way (colour, grey, resize, float32; one thread)"
    yield timed("preprocessing", seconds, "ours", "notebook", about, "≥ 3×", show)
    about = f"grey decoding at full size alone, {ours.about['cores']} threads"
    yield timed("preprocessing", seconds, "ours", "full", about, "≥ 1×", show)
    gap = full.about
    yield Row(
        f"effect of scaled decoding on the pixels of {gap['images']} images",
        f"mean {gap['mean']:.2f}, 99 % below {gap['percentile_99']:.0f}, maximum {gap['maximum']}",
        "grey levels of 255 from full-size decoding",
    )


def epoch(bench: Bench) -> Iterator[Row]:
    """Measure a training epoch with augmentation against the notebook, PyTorch and the ceiling."""
    number = min(LEARNED, bench.size)
    prepared, folder = bench.prepared(number), bench.folder("epoch")
    commands: dict[str, tuple[object, ...]] = {"notebook": (sys.executable, NOTEBOOK, "epoch", prepared, number)}
    for precision in bench.precisions:
        for work in ("epoch", "ceiling"):
            commands[f"{work} {precision}"] = (sys.executable, OURS, work, prepared, precision, number)
        if PEERS.exists():
            commands[f"PyTorch {precision}"] = (PEERS, PYTORCH, *_arrays(bench, prepared), precision)
    if not PEERS.exists():
        print(f"{PEERS} is missing: the PyTorch rows are skipped; `make bench` installs it", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(*command, cwd=folder)) for name, command in commands.items()}
        seconds = in_turn(workers, bench.rounds)
    for precision in bench.precisions:
        peers = {
            "notebook": "notebook's way (float32 arrays, ImageDataGenerator, fit)",
            f"PyTorch {precision}": f"PyTorch without augmentation, {precision}",
            f"ceiling {precision}": f"train_on_batch on one fixed batch, {precision}",
        }
        for (peer, about), bar in zip(peers.items(), BARS[precision], strict=True):
            if peer in workers:
                best = workers[peer].about.get("best")
                about = f"{about}, {best}" if best else about
                work, show = f"training epoch with augmentation, {precision}", images_per_second(number)
                yield timed(work, seconds, f"epoch {precision}", peer, about, bar, show)


def _arrays(bench: Bench, prepared: Path) -> tuple[object, ...]:
    """Save the arrays for bench/pytorch.py; return its arguments except the precision."""
    data = dataset.load(prepared)
    paths = bench.work / "images.npy", bench.work / "labels.npy"
    for path, array in zip(paths, (data.images, data.labels), strict=True):
        np.save(path, array)
    return *paths, bench.params.train.batch, bench.params.train.learning_rate


def memory(bench: Bench) -> Iterator[Row]:
    """Measure the peak anonymous memory of preprocess and one training epoch, and its growth per image."""
    peaks: dict[str, list[float]] = {"ours": [], "notebook": []}
    few, many = min(FEW, bench.most // 3), min(MANY, bench.most)
    for number in (few, many):
        raw = bench.raw(number)
        run = bench.folder(f"memory_{number}", train={"epochs": 1}, data={"source": "folder"})
        files.write_json(run / "gate.json", {"leaking": False})
        commands = (STAGES / "preprocess.py", raw, *PREPROCESS), (STAGES / "train.py", *TRAIN)
        stages = [watched((sys.executable, *command), run, may_fail_with="COLLAPSED")[1] for command in commands]
        peaks["ours"].append(max(stages))
        peaks["notebook"].append(watched((sys.executable, NOTEBOOK, "whole", raw), run)[1])
    most = (peak[1] for peak in peaks.values())
    growth = ((peak[1] - peak[0]) / (many - few) for peak in peaks.values())
    for work, (ours, theirs), show, bar in (
        (
            f"peak anonymous memory, preprocess and train, {many:,} images",
            most,
            lambda size: f"{size / 1e9:.2f} GB",
            "≤ 1/3",
        ),
        (f"its growth per image ({few:,} to {many:,})", growth, lambda size: f"{size / 1e3:.1f} kB", "≤ 1/20"),
    ):
        ratio = ours / theirs
        yield Row(work, show(ours), f"notebook's way: {show(theirs)}", f"{ratio:.3f}", bar, meets(ratio, bar))


def repro(bench: Bench) -> Iterator[Row]:
    """Measure `dvc repro` with nothing to do against one-stage repositories with and without the images."""
    single, images = bench.work / "single", bench.work / "single_images"
    stage = {"cmd": "cp -r input output", "deps": ["input"], "outs": ["output"]}
    files.write_json(single / "dvc.yaml", {"stages": {"copy": stage}})  # JSON is YAML
    subprocess.run(("git", "init", "-q"), cwd=single, check=True)
    dvc(single, "init", "-q")
    shutil.copytree(single, images)
    (single / "input").write_text("1\n")
    shutil.copytree(bench.project / "data" / "raw", images / "input")
    dvc(single, "repro", "-q")
    dvc(images, "repro", "-q")
    folders = {"ours": bench.project, "single": single, "images": images}
    works = {name: functools.partial(dvc, folder, "repro", "-q") for name, folder in folders.items()}
    seconds = in_turn(works, 2 * bench.rounds, warm=False)  # each was just run
    for peer, about in (("single", "one stage, one small file"), ("images", "one stage that copies the same images")):
        work = "`dvc repro` with nothing to do"
        yield timed(work, seconds, "ours", peer, about, "≤ 1.3×", lambda seconds: f"{seconds:.2f} s")


def write_baseline(run: Path) -> None:
    """Write predictions of the brightness baseline, which the audit would leave, for the test images of a run."""
    test = [entry for entry in dataset.read_index(run / "prepared") if entry.split == "test"]
    rows = (predictions.Prediction(entry.image, entry.patient_key, entry.label, 0.5, 1) for entry in test)
    predictions.write(run / "shortcut.csv", rows)


def pipeline(bench: Bench) -> Iterator[Row]:
    """Measure the pipeline from files to scores with intervals, with the same number of epochs."""
    raw, epochs = bench.raw(bench.size), {"epochs": EPOCHS, "patience": EPOCHS}

    def ours(precision: str) -> float:
        shutil.rmtree(bench.work / "pipeline", ignore_errors=True)
        run = bench.folder("pipeline", train={**epochs, "precision": precision}, data={"source": "folder"})
        files.write_json(run / "gate.json", {"leaking": False})
        begun = time.perf_counter()
        for name, *paths in (("preprocess", raw, *PREPROCESS), ("train", *TRAIN), ("evaluate", *EVALUATE)):
            watched((sys.executable, STAGES / f"{name}.py", *paths), run)
            if name == "preprocess":
                write_baseline(run)
        return time.perf_counter() - begun

    def notebook() -> float:
        return watched((sys.executable, NOTEBOOK, "whole", raw), bench.folder("whole", train=epochs))[0]

    works: dict[str, Callable[[], float]] = {name: functools.partial(ours, name) for name in bench.precisions}
    seconds = in_turn({**works, "notebook": notebook}, min(bench.rounds, LONG_ROUNDS), warm=False)
    for precision in bench.precisions:
        work = f"preprocess, train {EPOCHS} epochs, evaluate; {bench.size:,} images, {precision}"
        about = "notebook's way, scored with intervals over patients"
        yield timed(work, seconds, precision, "notebook", about, "≥ 1.5×", lambda seconds: f"{seconds:.0f} s")


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    row.__name__: row for row in (preprocessing, epoch, memory, repro, pipeline)
}
TABLES = ("predict", "scores", "duplicates")  # scripts that print a table of their own


def measured(bench: Bench, names: Sequence[str]) -> tuple[list[Row], bool]:
    """Measure the rows of these names; return them, and whether any of them failed."""
    rows: list[Row] = []
    failed = False
    for name in names:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        try:
            for row in ROWS[name](bench):
                rows.append(row)
                print("  " + ", ".join(filter(None, row)), file=sys.stderr, flush=True)
        except RuntimeError as failure:
            print(f"{name} could not be measured: {failure}", file=sys.stderr, flush=True)
            failed = True
    return rows, failed


def table(rows: Sequence[Row], heading: str) -> str:
    """Return the rows as a Markdown table."""
    head = "| work | ours | against | ratio: median (min–max) | bar | met |\n|---|---:|---|---:|---:|---|"
    return "\n".join([heading, "", head, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    """Measure the requested rows and print one table."""
    parser = argparse.ArgumentParser(description="Speed and memory compared with peers.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join((*ROWS, *TABLES)) + "; default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"number of rounds per row; default {ROUNDS}")
    parser.add_argument("--images", type=int, default=MANY, help="images per row at most; default %(default)s")
    options = parser.parse_args()
    names = options.rows or [*ROWS, *TABLES]
    if unknown := set(names) - {*ROWS, *TABLES}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join((*ROWS, *TABLES))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # to remove the folder and end the processes
    begun, load = time.perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench_") as work:
        bench = Bench(Path(work), options.rounds, options.images)
        rows, failed = measured(bench, [name for name in names if name in ROWS])
        if rows:
            minutes = f"{(time.perf_counter() - begun) / 60:.0f} minutes"
            heading = measure.heading(bench.images[1], minutes, f"load before the run {load:.1f}")
            print(table(rows, heading), flush=True)
    for name in names:
        if name in TABLES:
            print(f"\n{name}\n", flush=True)
            failed |= subprocess.run((sys.executable, BENCH / f"{name}.py"), check=False).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()

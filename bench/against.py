"""Time and memory of preprocess and `mammo predict` beside those of another commit, on the same images in one run.

    python bench/against.py [IMAGES] [COMMIT] [TASK …]

Both commits run from clones, in turn, each with its own parameters and a network trained for a few epochs. Processor
and memory include the processes that a command starts; memory is anonymous memory at its peak, added up. A second
measurement with few images is subtracted, so that loading does not count.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mammo.core import files, settings
from mammo.core.dataset import Entry, write_index

import cv2
import material
import numpy as np
import psutil
import yaml
from measure import POLL, ROOT, anonymous, cloned, heading

SINCE = "0409f8e"
IMAGES, FEW, TRAINED, ROUNDS = 10_000, 200, 300, 3
TASKS = ("preprocess", "predict")
SIDE = 224  # pixels of the images that are learned
COMMAND = "import sys; sys.path.insert(0, sys.argv.pop(1)); from mammo.commands import main; sys.exit(main())"


class Cost(NamedTuple):
    """What a command took."""

    wall: float
    """Seconds."""
    processor: float
    """Seconds of processor time, of all its processes."""
    memory: float
    """Bytes."""


def cost(command: Sequence[object], folder: Path) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.

    """
    with tempfile.TemporaryFile("w+") as output:
        begun, peak = time.perf_counter(), 0
        process = subprocess.Popen(list(map(str, command)), cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        own = psutil.Process(process.pid)
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, anonymous(process.pid) + sum(anonymous(child.pid) for child in own.children()))
            time.sleep(POLL)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begun
        output.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{output.read()[-3000:]}")
    return Cost(wall, used.ru_utime + used.ru_stime, peak)


class Side:
    """A clone of the project at a commit, with a folder to work in."""

    def __init__(self, work: Path, commit: str) -> None:
        """Clone the commit and write its own params.yaml, for images of one's own and a quick training."""
        self.clone, self.folder = cloned(commit, work / f"clone_{commit}"), work / f"run_{commit}"
        self.folder.mkdir()
        params = yaml.safe_load((self.clone / "params.yaml").read_text())
        params["data"]["source"] = "folder"
        params["train"] |= {"network": "compact", "epochs": 6, "patience": 6}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))

    def stage(self, name: str, *paths: object) -> Cost:
        """Run a stage."""
        return cost((sys.executable, self.clone / "stages" / f"{name}.py", *paths), self.folder)

    def preprocess(self, raw: Path) -> Cost:
        """Run preprocess from nothing."""
        shutil.rmtree(self.folder / "prepared", ignore_errors=True)
        return self.stage("preprocess", raw, "prepared", "preprocess.json")

    def predict(self, raw: Path) -> Cost:
        """Predict every image with the network that `train` left."""
        command = (sys.executable, "-c", COMMAND, self.clone / "stages", "predict", "--model", "model")
        return cost((*command, "--csv", "out.csv", raw), self.folder)

    def train(self, raw: Path) -> None:
        """Train a network for a few epochs."""
        self.preprocess(raw)
        (self.folder / "gate.json").write_text('{"leaking": false}')
        self.stage("train", "prepared", "gate.json", "model", "history.csv", "train.json")


def easy(raw: Path) -> None:
    """Create `raw` like the output of the stage download, with images that any network learns within a few epochs."""
    random = np.random.default_rng(1)
    entries = []
    for number in range(TRAINED):
        label = number % 2
        image = random.normal(90, 20, (SIDE, SIDE))
        image[SIDE // 3 : SIDE // 2, SIDE // 3 : SIDE // 2] += 60 * label
        name = f"train/{label}/{number:04d}_1.png"
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(raw / name), image.clip(0, 255).astype(np.uint8))
        entries.append(Entry(name, label, "train", str(number), files.sha256(raw / name)))
    write_index(raw, sorted(entries, key=lambda entry: entry.image))


def steady(many: Cost, few: Cost) -> Cost:
    """Return what the further images of the larger run took; memory is that of the larger run."""
    return Cost(many.wall - few.wall, many.processor - few.processor, many.memory)


def ratios(works: Sequence[Callable[[Path], Cost]], raw: Path, few: Path, rounds: int) -> list[list[float]]:
    """Return the ratios (second to first) of wall time, processor time and memory, by round, run in turn."""
    found = []
    for number in range(rounds):
        costs: dict[int, Cost] = {}
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            costs[which] = steady(works[which](raw), works[which](few))
            print(f"round {number + 1}, {('before', 'now')[which]}: {costs[which]}", file=sys.stderr, flush=True)
        found.append([now / before for before, now in zip(costs[0], costs[1], strict=True)])
    return [list(column) for column in zip(*found, strict=True)]


def main(images: int, since: str, tasks: Sequence[str] = TASKS, rounds: int = ROUNDS) -> None:
    """Print a table with a row per task."""
    with tempfile.TemporaryDirectory(prefix="against_") as temporary:
        work = Path(temporary)
        delivered, what = material.tree(work, settings.read(ROOT / "params.yaml"))
        for name, number in (("many", images), ("few", min(FEW, images // 4))):
            material.raw(delivered, work / name, number)
        easy(work / "trained")
        sides = [Side(work, since), Side(work, "HEAD")]
        for side in sides:
            side.train(work / "trained")
        print(heading(f"{images:,} {what}; ratio to commit {since}, median of {rounds} rounds (range)") + "\n")
        print("| task | wall time | processor time | peak memory |\n|---|---:|---:|---:|")
        for task in tasks:
            columns = ratios([getattr(side, task) for side in sides], work / "many", work / "few", rounds)
            cells = [f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})" for each in columns]
            print(f"| {task} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES,
        sys.argv[2] if len(sys.argv) > 2 else SINCE,
        sys.argv[3:] or TASKS,
    )

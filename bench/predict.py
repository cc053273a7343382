"""Time and memory of `mammo predict`, beside those of another commit on the same images in one run.

    python bench/predict.py [IMAGES] [COMMIT]

Needs data/model, so run `dvc repro` first. The images are mammograms from the folder in MAMMOGRAMS if it is set, else
phantoms. Both commits run the same model folder, in turn. Processor time and memory include the processes that the
command starts.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mammo.core import settings
from mammo.predicting import request, scans
from mammo.predicting.predict import Predictor

import material
from against import COMMAND, SINCE, Cost, cost
from measure import ROOT, earlier, heading, with_range

MODEL = ROOT / "data/model"
STARTS, WHOLES, SINGLES = 5, 3, 20
FIRST = 64  # images predicted before those are timed that a loaded network predicts alone


def command(stages: Path, work: Path, what: Sequence[Path]) -> Cost:
    """Return what the whole command takes for files or folders, with the code in the folder `stages`."""
    how = ("predict", "--model", MODEL, "--despite-phantoms", "--csv", work / "out.csv")
    return cost((sys.executable, "-c", COMMAND, stages, *how, *what), work)


def in_turn(sides: dict[str, Path], work: Path, what: Sequence[Path], rounds: int) -> dict[str, list[Cost]]:
    """Return the costs of each side, run in turn."""
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sides if number % 2 == 0 else reversed(sides):
            costs[name].append(command(sides[name], work, what))
    return costs


def alone(paths: Sequence[Path]) -> float:
    """Return the median seconds of one image in a process that has loaded the network."""
    info = request.read_model(MODEL, "half", despite_phantoms=True)
    predictor = Predictor(MODEL, info, info.thresholds["half"])
    list(predictor.predict(paths[:FIRST]))
    singles = []
    for path in paths[:SINGLES]:
        begun = time.perf_counter()
        list(predictor.predict([path]))
        singles.append(time.perf_counter() - begun)
    return statistics.median(singles)


def row(work: str, costs: dict[str, list[Cost]], field: str, shown: str, scale: float, bar: str) -> str:
    """Return a row of the table: a field of the costs of each side, times `scale`, and the ratio of before to now."""
    values = {name: [getattr(each, field) * scale for each in found] for name, found in costs.items()}
    now, before = values["now"], values.get("before", [])
    ratio = with_range([old / new for old, new in zip(before, now, strict=False)]) if before else ""
    cells = [shown.format(statistics.median(each)) if each else "not in this clone" for each in (now, before)]
    return f"| {work} | {' | '.join(cells)} | {ratio} | {bar} |"


def main(number: int, since: str = SINCE) -> None:
    """Print a table."""
    if not MODEL.is_dir():
        sys.exit(f"{MODEL} does not exist: run `dvc repro`")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder, what = material.tree(work, settings.read(ROOT / "params.yaml"))
        material.raw(folder, work / "raw", number)
        paths = scans.find([str(work / "raw")]).paths
        before = earlier(since, work / "clone")
        sides = {"now": ROOT / "stages"} | ({"before": before} if before else {})
        one, many = in_turn(sides, work, paths[:1], STARTS), in_turn(sides, work, [work / "raw"], WHOLES)
        loaded = alone(paths)
    print(heading(what) + "\n")
    print(f"| predict | now | commit {since} | before / now: median (min–max) | bar |\n|---|---:|---:|---:|---:|")
    print(row("one image, cold", one, "wall", "{:.2f} s", 1, "≥ 10×, ≤ 0.5 s"))
    print(row("its processor time", one, "processor", "{:.2f} s", 1, ""))
    print(row("its memory", one, "memory", "{:.0f} MB", 1e-6, "≤ 200 MB"))
    print(row(f"{len(paths):,} images, with loading", many, "wall", "{:.1f} s", 1, "≥ 1×"))
    print(row("their processor time", many, "processor", "{:.1f} s", 1, ""))
    print(row("their memory", many, "memory", "{:.0f} MB", 1e-6, ""))
    print(f"| one image, loaded | {loaded * 1000:.0f} ms | | | |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1200, *sys.argv[2:3])

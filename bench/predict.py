"""Time of `mammo predict` for one image, with and without loading, and its images per second.

Run: `python bench/predict.py [IMAGES]`; needs data/model, so run `dvc repro` first. The images are mammograms from the
folder in MAMMOGRAMS if it is set, else phantoms.
"""

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mammo.core import settings
from mammo.predicting import request, scans
from mammo.predicting.predict import Predictor

import material
from measure import ROOT, heading, watched

MODEL = ROOT / "data/model"
COMMAND = "import sys; sys.path.insert(0, sys.argv.pop(1)); from mammo.commands import main; sys.exit(main())"
STARTS, SINGLES = 3, 20
FIRST = 64  # images predicted before the timing starts


def cold(image: Path) -> float:
    """Return the seconds that the whole command takes for one image."""
    command = (sys.executable, "-c", COMMAND, ROOT / "stages", "predict", "--model", MODEL, "--despite-phantoms", image)
    return watched(command, ROOT)[0]


def main(number: int) -> None:
    """Print a table with one row."""
    with tempfile.TemporaryDirectory() as work:
        folder, what = material.tree(Path(work), settings.read(ROOT / "params.yaml"))
        material.raw(folder, Path(work) / "raw", number)
        paths = scans.find([work + "/raw"]).paths
        starts = [cold(paths[0]) for _ in range(STARTS)]
        info = request.read_model(MODEL, "half", despite_phantoms=True)
        predictor = Predictor(MODEL, info, info.thresholds["half"])
        list(predictor.predict(paths[:FIRST]))
        singles = []
        for path in paths[:SINGLES]:
            begun = time.perf_counter()
            list(predictor.predict([path]))
            singles.append(time.perf_counter() - begun)
        begun, processor = time.perf_counter(), time.process_time()
        unreadable = sum(answer.probability is None for answer in predictor.predict(paths))
        seconds, processor = time.perf_counter() - begun, time.process_time() - processor
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(heading() + "\n\n| predict | one image, cold | one image, loaded | many |\n|---|---:|---:|---:|")
    print(
        f"| {what} | {statistics.median(starts):.1f} s | {statistics.median(singles) * 1000:.0f} ms "
        f"| {len(paths) / seconds:.0f} images/s ({len(paths):,} images, {unreadable} unreadable; "
        f"{len(paths) / processor:.0f} per second of processor time; {memory:.0f} MB) |"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1200)

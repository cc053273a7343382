"""How long all scores of 20,000 test images take with their intervals. Run: `python bench/scores.py`."""

import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "stages"))

from mammo.scoring import statistics

IMAGES, PATIENTS = 20_000, 5_000
TARGET = 60  # seconds on two cores


def split() -> dict[str, np.ndarray]:
    """A test split of 5,000 patients, a quarter with cancer, whose images resemble each other."""
    random = np.random.default_rng(1)
    patient = random.integers(0, PATIENTS, IMAGES)
    labels = (patient < PATIENTS // 4).astype(int)
    strength = labels + random.normal(size=PATIENTS)[patient] + random.normal(size=IMAGES)
    return {
        "labels": labels,
        "probabilities": 1 / (1 + np.exp(-strength)),
        "patients": np.array([f"patient {number}" for number in patient]),
    }


def main() -> None:
    """Print one row: every number and curve that evaluate writes, with 2,000 resamples each."""
    case = split()
    start, processor = time.perf_counter(), time.process_time()
    locked = statistics.thresholds(case["labels"], case["probabilities"])
    statistics.scores(**case, threshold=locked["balanced_accuracy"], seed=1)
    statistics.image_scores(case["labels"], case["probabilities"], locked["balanced_accuracy"], seed=1)
    statistics.delong_interval(case["labels"], case["probabilities"])
    statistics.operating_points(**case, thresholds=locked, seed=1)
    statistics.calibration(**case, seed=1)
    statistics.net_benefit(**case, seed=1)
    statistics.roc_curve(**case, seed=1)
    statistics.pr_curve(**case, seed=1)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("| scores | measured | target |\n|---|---:|---:|")
    print(
        f"| {IMAGES:,} test images, all scores, curves and intervals, {statistics.RESAMPLES:,} resamples "
        f"| {seconds:.1f} s ({processor:.1f} s of processor time), {memory:.0f} MB | under {TARGET} s |"
    )
    sys.exit(seconds >= TARGET)


if __name__ == "__main__":
    main()

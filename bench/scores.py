"""Time of all scores of 20,000 test images with their intervals. Run: `python bench/scores.py`."""

import resource
import sys
import time

import numpy as np
from measure import ROOT, heading

sys.path.insert(0, str(ROOT / "stages"))

from mammo import scoring
from mammo.scoring import Bootstrap, Cases

IMAGES, PATIENTS = 20_000, 5_000
TARGET = 60  # seconds on two cores


def split() -> Cases:
    """Return a test split of 5,000 patients, a quarter with cancer, with correlated images per patient."""
    random = np.random.default_rng(1)
    patient = random.integers(0, PATIENTS, IMAGES)
    labels = (patient < PATIENTS // 4).astype(int)
    strength = labels + random.normal(size=PATIENTS)[patient] + random.normal(size=IMAGES)
    return Cases(labels, 1 / (1 + np.exp(-strength)), patient)


def main() -> bool:
    """Time every number and curve that evaluate writes; print one row, return whether the target is met."""
    cases, bootstrap = split(), Bootstrap(1)
    begun, processor = time.perf_counter(), time.process_time()
    locked = scoring.locked_thresholds(cases)
    scoring.scores(cases, locked["balanced_accuracy"], bootstrap)
    scoring.image_scores(cases, locked["balanced_accuracy"], bootstrap)
    scoring.delong_interval(cases)
    scoring.operating_points(cases, locked, bootstrap)
    scoring.reliability(cases, bootstrap)
    scoring.net_benefit(cases, bootstrap)
    scoring.roc_curve(cases, bootstrap)
    scoring.pr_curve(cases, bootstrap)
    seconds, processor = time.perf_counter() - begun, time.process_time() - processor
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(heading("generated probabilities") + "\n\n| scores | measured | target |\n|---|---:|---:|")
    print(
        f"| {IMAGES:,} test images, all scores, curves and intervals, {bootstrap.resamples:,} resamples "
        f"| {seconds:.1f} s ({processor:.1f} s of processor time), {memory:.0f} MB | under {TARGET} s |"
    )
    return seconds < TARGET


if __name__ == "__main__":
    sys.exit(not main())

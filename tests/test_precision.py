"""Proof: what bfloat16 costs in ROC AUC, over ten seeds, paired; the figures behind the default of train.precision."""

import contextlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from mammo.core import dataset, settings

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats
from sklearn.metrics import roc_auc_score
from test_seeds import prepare

SEEDS = range(1, 11)
EPOCHS = {"phantom": 15, "folder": 8}
MARGIN = 0.03  # ROC AUC; a loss this large would speak against a precision

pytestmark = pytest.mark.proof


def auc(prepared: Path, source: str, precision: str, scratch: Path, seed: int) -> float:
    """ROC AUC on the test split."""
    from mammo.learning import networks, training

    data = dataset.load(prepared)
    committed = settings.read(ROOT / "params.yaml")
    networks.use_threads(committed.train.threads)
    test = data.part("test")
    changed = {"seed": seed, "epochs": EPOCHS[source], "patience": EPOCHS[source], "precision": precision}
    train = committed.train.model_copy(update=changed)
    history, state, key = scratch / "history.csv", scratch / "state", f"{source} {precision} {seed}"
    network = training.fit(data, train, committed.augment, history, state, key).network
    return float(roc_auc_score(data.labels[test], networks.probabilities(networks.forward(network), data.images, test)))


def compared(prepared: Path, source: str, scratch: Path) -> float:
    """Print each seed's pair; gives the lower end of the 95 % interval of the mean difference (paired t).

    Each precision has a process of its own, since the first one to compute decides the instructions of oneDNN.
    """
    print(
        f"\n{source}, {EPOCHS[source]} epochs, test ROC AUC\n\n| seed | float32 | bfloat16 |\n|---:|---:|---:|",
        flush=True,
    )
    values = []
    with contextlib.ExitStack() as stack:
        pools = {
            precision: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            for precision in ("float32", "bfloat16")
        }
        for seed in SEEDS:
            pair = [
                pool.submit(auc, prepared, source, precision, scratch / precision, seed).result()
                for precision, pool in pools.items()
            ]
            values.append(pair)
            print(f"| {seed} | {pair[0]:.3f} | {pair[1]:.3f} |", flush=True)
    float32, bfloat16 = np.array(values).T
    gap = bfloat16 - float32
    low, high = stats.t.interval(0.95, len(gap) - 1, gap.mean(), stats.sem(gap))
    print(f"| mean | {float32.mean():.3f} | {bfloat16.mean():.3f} |")
    print(f"\nbfloat16 less float32: {gap.mean():+.3f} ({low:+.3f} to {high:+.3f})")
    return float(low)


def test_bfloat16_costs_no_accuracy_on_phantoms(tmp_path: Path) -> None:
    assert compared(prepare(tmp_path, "phantom"), "phantom", tmp_path) > -MARGIN


def test_bfloat16_costs_no_accuracy_on_real_mammograms(tmp_path: Path, mammograms: Path) -> None:
    assert compared(prepare(tmp_path, "folder", mammograms), "folder", tmp_path) > -MARGIN

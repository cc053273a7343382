"""Proofs: the specified network trains with 20 of 20 seeds, and learns nothing where there is nothing to learn."""

import shutil
from pathlib import Path

from mammo.core import dataset, settings
from mammo.scoring import Bootstrap, Cases, scores

import cv2
import numpy as np
import pytest
from conftest import ROOT, run_stage
from miniature import change

SEEDS = range(1, 21)
# Enough for the slowest seed to have begun; the committed run goes on for longer.
EPOCHS = {"phantom": 12, "folder": 8}


def prepare(folder: Path, source: str, images: Path | None = None, lesions: bool = True) -> Path:
    """data/prepared of the settings in params.yaml, from phantoms or from a folder of images."""
    shutil.copy(ROOT / "params.yaml", folder)
    own = images or folder / "own"
    own.mkdir(exist_ok=True)
    change(folder, data={"source": source, "folder": str(own), "phantom": {"lesions": lesions}})
    for name, paths in {
        "download": ["data/raw"],
        "preprocess": ["data/raw", "data/prepared", "metrics/preprocess.json"],
    }.items():
        done = run_stage(name, *paths, folder=folder)
        assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / "data/raw")
    return folder / "data/prepared"


def verdicts(prepared: Path, source: str, scratch: Path) -> list[bool]:
    """Train with every seed; True where the network has learned. One row a seed is printed."""
    from mammo.learning import networks, training

    data = dataset.load(prepared)
    committed = settings.read(ROOT / "params.yaml")
    networks.use_threads(committed.train.threads)
    learned = []
    print(f"\n{source}, {EPOCHS[source]} epochs\n\n| seed | training AUC (95 %) | spread | validation AUC | learned |")
    print("|---:|---|---:|---:|---|", flush=True)
    for seed in SEEDS:
        changed = {"seed": seed, "epochs": EPOCHS[source], "patience": EPOCHS[source]}
        train_settings = committed.train.model_copy(update=changed)
        history, state, key = scratch / "history.csv", scratch / "state", f"{source} {seed}"
        step = networks.forward(training.fit(data, train_settings, committed.augment, history, state, key).network)
        verdict = training.judge(
            {split: networks.probabilities(step, data.images, data.part(split)) for split in ("train", "valid")}, data
        )
        auc, valid = verdict["train"]["roc_auc"], verdict["valid"]
        learned.append(not verdict["collapsed"])
        row = (
            f"| {seed} | {auc['value']:.3f} ({auc['low']:.3f}–{auc['high']:.3f}) | {valid['probability_spread']:.3f} "
            f"| {valid['roc_auc']['value']:.3f} | {'yes' if learned[-1] else 'NO'} |"
        )
        print(row, flush=True)
    return learned


def test_the_set_of_these_proofs_is_prepared(tmp_path: Path) -> None:
    own, draw = tmp_path / "own", np.random.default_rng(1)
    for number in range(12):
        picture = own / dataset.SPLITS[number // 4] / str(number % 2) / f"{number}_LEFT_CC.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(picture), draw.integers(0, 256, (64, 64), np.uint8))
    assert len(dataset.load(prepare(tmp_path, "folder", own)).images) == 12


@pytest.mark.proof
def test_twenty_of_twenty_seeds_learn_phantoms(tmp_path: Path) -> None:
    learned = verdicts(prepare(tmp_path, "phantom"), "phantom", tmp_path)
    assert sum(learned) == len(SEEDS) == 20


@pytest.mark.proof
def test_twenty_of_twenty_seeds_learn_the_real_training_images(tmp_path: Path, mammograms: Path) -> None:
    learned = verdicts(prepare(tmp_path, "folder", mammograms), "folder", tmp_path)
    assert sum(learned) == len(SEEDS) == 20


@pytest.mark.proof
def test_without_lesions_the_network_is_at_chance(tmp_path: Path) -> None:
    from mammo.learning import networks, training

    data = dataset.load(prepare(tmp_path, "phantom", lesions=False))
    committed = settings.read(ROOT / "params.yaml")
    networks.use_threads(committed.train.threads)
    history, state = tmp_path / "history.csv", tmp_path / "state"
    network = training.fit(data, committed.train, committed.augment, history, state, "no lesions").network
    test = data.part("test")
    probability = networks.probabilities(networks.forward(network), data.images, test)
    auc = scores(Cases(data.labels[test], probability, data.patients[test]), 0.5, Bootstrap(1))["roc_auc"]
    print(f"\nphantoms without lesions: test AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})")
    assert auc.low < 0.5 < auc.high

"""Training on some of the patients, once per seed, and prediction of the others; resumable."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mammo.core import dataset, files, predictions, pseudonyms
from mammo.core.dataset import Dataset, Entry
from mammo.core.errors import UserError
from mammo.core.predictions import Prediction
from mammo.imaging import prepare
from mammo.learning import ensembles, export, exported, training
from mammo.scoring import Cases, locked_thresholds

import crossvalidation
import numpy as np
from crossvalidation import Trained

SEEDS = ("image", "seed", "probability")


def fit_and_predict(
    raw: Path, trained: Trained, assign: Callable[[Sequence[Entry]], list[Entry]], state: Path, out: Path
) -> None:
    """Fit on the training images that `assign` makes of those of RAW, once per seed; write predictions to OUT.

    OUT holds predictions.csv and valid.csv, the mean probabilities of the test and validation images, called at the
    threshold locked on the latter; seeds.csv, the test probabilities of each seed; and history.csv.

    Raises:
        UserError: a network has collapsed, or a split lacks a class.

    """
    prepared = crossvalidation.emptied(state / "prepared")
    readable = prepare.decode_all(raw, dataset.read_index(raw), trained.preprocess, prepared)
    dataset.write_index(prepared, pseudonyms.hidden(assign(readable), pseudonyms.read(raw)))
    data = dataset.load(prepared)
    fitted = {seed: fit(trained, seed, prepared, state) for seed in trained.seeds}
    mean = {
        split: np.mean([probability[split] for probability, _ in fitted.values()], axis=0)
        for split in ("valid", "test")
    }
    threshold = locked_thresholds(Cases(data.labels[data.part("valid")], mean["valid"]))[crossvalidation.RULE]
    with files.written(out) as folder:
        folder.mkdir()
        for split, table in (("test", "predictions"), ("valid", "valid")):
            rows = predicted(data, split, mean[split], threshold, len(fitted))
            predictions.write(folder / f"{table}.csv", rows)
        names = [data.names[position] for position in data.part("test")]
        alone = [
            (image, seed, chance)
            for seed, (probability, _) in fitted.items()
            for image, chance in zip(names, probability["test"].tolist(), strict=True)
        ]
        files.write_csv(folder / "seeds.csv", SEEDS, alone)
        epochs = [(*row, seed) for seed, (_, history) in fitted.items() for row in history]
        files.write_csv(folder / "history.csv", (*training.HISTORY, "seed"), epochs)
    shutil.rmtree(state)


def fit(trained: Trained, seed: int, prepared: Path, state: Path) -> tuple[dict[str, np.ndarray], list[list[Any]]]:
    """Train with one seed; return the probabilities of the validation and test images, and the history.

    Raises:
        UserError: the network has collapsed.

    """
    train, own = trained.with_train(seed=seed, seeds=[]), state / str(seed)
    fitted = ensembles.fit_resumably(prepared, train, trained.augment, own / "history.csv", own)
    data = dataset.load(prepared)
    scorer = exported.Exported(export.litert(fitted.network, train.flip_at_test))
    probability = {split: scorer.outputs(data.images, data.part(split)).probabilities for split in ("valid", "test")}
    if training.interquartile_range(probability["valid"]) <= training.COLLAPSED_IQR:
        raise UserError(
            f"{state.parent.name}, fold {state.name}, seed {seed}: the network has collapsed: "
            "it gives the same probability for all images"
        )
    return probability, fitted.progress.history


def predicted(data: Dataset, split: str, chances: np.ndarray, threshold: float, seeds: int) -> list[Prediction]:
    """Return the table of one split's images."""
    entries = [data.entries[position] for position in data.part(split)]
    return [
        Prediction(entry.image, entry.patient_key, entry.label, chance, int(chance >= threshold), seeds=seeds)
        for entry, chance in zip(entries, chances.tolist(), strict=True)
    ]

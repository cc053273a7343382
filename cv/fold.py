"""One fold of a row of cross-validation: a network fitted without its patients, which are then predicted."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mammo import folds
from mammo.core import dataset, files, settings, stage
from mammo.core.errors import UserError
from mammo.learning import augmentation, checkpoint, networks, training
from mammo.scoring import statistics
from preprocess import Preprocess, decode_all, report

# isort: split
import keras  # after networks, which quietens TensorFlow

RULE = "balanced_accuracy"  # whose threshold, locked on validation, calls cancer


def main(raw: Path, out: Path) -> None:
    """Fit the row and fold that OUT = …/ROW/FOLD names on the images of RAW; write its predictions to OUT."""
    name, fold = out.parent.name, int(out.name)
    row = folds.row(name)
    state = stage.STATE / name / str(fold)
    prepared = state / "prepared"
    shutil.rmtree(prepared, ignore_errors=True)  # of an interrupted run, maybe half written
    prepared.mkdir(parents=True)
    how = settings.read("preprocess", Preprocess, folds.PIPELINE, row.get("preprocess"))
    prepare(raw, prepared, how, fold, row.get(folds.SHARE, 1.0))
    network, progress, train = trained_on(prepared, row, state)
    data = dataset.load(prepared)
    step = networks.forward(network, train.flip_at_test)
    valid, test = data.part("valid"), data.part("test")
    chances = networks.probabilities(step, data.images, valid)
    if training.spread(chances) <= training.COLLAPSED_SPREAD:
        raise UserError(f"{name}, fold {fold}: the network has collapsed: it says the same of every image")
    threshold = statistics.thresholds(data.labels[valid], chances)[RULE]
    with files.written(out) as target:
        target.mkdir()
        rows = (
            (entry.image, entry.patient or entry.image, entry.label, chance, int(chance >= threshold))
            for entry, chance in zip(
                (data.entries[position] for position in test),
                networks.probabilities(step, data.images, test).tolist(),
                strict=True,
            )
        )
        files.write_csv(target / "predictions.csv", folds.PREDICTIONS, rows)
        files.write_csv(target / "history.csv", training.HISTORY, progress.history)
    shutil.rmtree(state)


def prepare(raw: Path, prepared: Path, how: Preprocess, fold: int, share: float) -> None:
    """The images of RAW decoded into the folder PREPARED, with the splits of a fold and its share of patients."""
    delivered = dataset.read_index(raw)
    unreadable = decode_all(raw, delivered, how, prepared)
    report(unreadable, how.on_unreadable)
    readable = [entry for entry in delivered if entry.image not in unreadable]
    dataset.write_index(prepared, folds.assigned(readable, fold, folds.read("folds", folds.Folds), share))


def trained_on(
    prepared: Path, row: Mapping[str, Any], state: Path
) -> tuple[keras.Model, training.Progress, training.Train]:
    """The network of a row fitted on the folder `prepared`, resumed from `state` after an interruption."""
    train = settings.read("train", training.Train, folds.PIPELINE, row.get("train"))
    ranges = settings.read("augment", augmentation.Augment, folds.PIPELINE, row.get("augment"))
    networks.use_threads(train.threads)
    asked = {"train": train.model_dump(), "augment": ranges.model_dump(), "instructions": training.instructions()}
    inputs = [prepared / "images.npy", prepared / "index.csv", *networks.given(train.weights)]
    key = checkpoint.digest(asked, inputs)
    network, progress = training.fit(dataset.load(prepared), train, ranges, state / "history.csv", state, key)
    return network, progress, train


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

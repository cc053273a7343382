"""Fit one fold of a variant: train without the fold's patients, then predict their images."""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))  # this clone's code, not an installed copy

from mammo.core import dataset, files, predictions, stage
from mammo.core.errors import UserError
from mammo.core.predictions import Prediction
from mammo.imaging import prepare
from mammo.learning import networks, training
from mammo.scoring import Cases, locked_thresholds

import crossvalidation

RULE = "balanced_accuracy"  # rule of the threshold, locked on validation


def main(raw: Path, out: Path) -> None:
    """Fit the variant and fold named by OUT = …/VARIANT/FOLD on the images of RAW; write predictions to OUT."""
    name, fold = out.parent.name, int(out.name)
    settings = crossvalidation.read()
    params = crossvalidation.params(settings, name)
    state = stage.STATE / name / str(fold)
    prepared = crossvalidation.emptied(state / "prepared")
    readable = prepare.decode_all(raw, dataset.read_index(raw), params.preprocess, prepared)
    share = settings.variants[name].settings.patients
    dataset.write_index(prepared, crossvalidation.assign(readable, fold, settings.folds, share))
    fitted = training.fit_resumably(prepared, params.train, params.augment, state / "history.csv", state)
    data = dataset.load(prepared)
    step = networks.forward(fitted.network, params.train.flip_at_test)
    probability = {split: networks.probabilities(step, data.images, data.part(split)) for split in ("valid", "test")}
    if training.interquartile_range(probability["valid"]) <= training.COLLAPSED_IQR:
        raise UserError(f"{name}, fold {fold}: the network has collapsed: it gives the same probability for all images")
    threshold = locked_thresholds(Cases(data.labels[data.part("valid")], probability["valid"]))[RULE]
    tested = [data.entries[position] for position in data.part("test")]
    rows = [
        Prediction(entry.image, entry.patient_key, entry.label, chance, int(chance >= threshold))
        for entry, chance in zip(tested, probability["test"].tolist(), strict=True)
    ]
    with files.written(out) as folder:
        folder.mkdir()
        predictions.write(folder / "predictions.csv", rows)
        files.write_csv(folder / "history.csv", training.HISTORY, fitted.progress.history)
    shutil.rmtree(state)


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

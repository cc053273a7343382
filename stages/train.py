"""Fit the network on the training split and select it on the validation split; resumable."""

from collections.abc import Mapping
from pathlib import Path

from mammo.core import dataset, files, model_info, set_description, settings, stage
from mammo.core.dataset import Dataset
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo, Verdict
from mammo.core.set_description import Provenance
from mammo.core.wording import counted
from mammo.learning import ensembles, export, exported, networks, novelty, training
from mammo.learning.exported import Outputs
from mammo.scoring import Cases, learned_recalibration, locked_thresholds

import numpy as np

# isort: split
import keras  # after networks, which silences TensorFlow
import tensorflow as tf


def main(prepared: Path, gate: Path, model: Path, history: Path, metrics: Path) -> None:
    """Fit the network on PREPARED; write MODEL/model.keras, model.tflite, model.json, HISTORY per epoch, METRICS.

    GATE holds the audit's verdict, which is stored with the model.
    """
    params = settings.read()
    train = params.train
    data = dataset.load(prepared)
    fitted = ensembles.fit_resumably(prepared, train, params.augment, history, stage.STATE)
    content = export.litert(fitted.network, train.flip_at_test)
    scorer = exported.Exported(content)
    seen = {split: scorer.outputs(data.images, data.part(split)) for split in ("train", "valid")}
    verdict = training.judge({split: outputs.probabilities for split, outputs in seen.items()}, data)
    progress = fitted.progress
    files.write_json(metrics, {"epochs": progress.epoch, "best_epoch": progress.best_epoch, **verdict})
    if verdict["collapsed"]:
        raise UserError(
            "THE NETWORK HAS COLLAPSED: it learned nothing or gives nearly the same probability for all images "
            f"(training AUC {verdict['train']['roc_auc']['value']:.3f}, interquartile range of the validation "
            f"probabilities {verdict['valid']['probability_spread']:.4f}). Nothing is scored. "
            f"{training.advice(progress.epoch)}; the numbers are in {metrics}."
        )
    about, audit, origin = (
        dataset.read_about(prepared),
        model_info.read_verdict(gate),
        set_description.read_provenance(prepared),
    )
    info = describe(fitted, data, train, about, audit, seen, origin)
    with files.written(model) as folder:
        folder.mkdir()
        networks.save(fitted.network, folder / "model.keras")
        (folder / exported.NAME).write_bytes(content)
        hashes = {"index": files.sha256(prepared / "index.csv"), "exported": files.sha256(folder / exported.NAME)}
        model_info.write(folder, info.model_copy(update=hashes))
    ensembles.forget(train, stage.STATE)
    auc = verdict["valid"]["roc_auc"]
    print(
        f"train: {counted(progress.epoch, 'epoch')}, kept {ensembles.kept(train, progress)}; "
        f"validation ROC AUC {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})"
    )


def describe(
    fitted: training.Fitted,
    data: Dataset,
    train: settings.Train,
    about: dataset.About,
    audit: Verdict,
    seen: Mapping[str, Outputs],
    data_set: Provenance | None,
) -> ModelInfo:
    """Return the model info: input, thresholds and recalibration from validation, arithmetic, training statistics.

    `seen` holds the outputs of the exported network for training and validation.
    """
    learned, validation = data.part("train"), data.part("valid")
    means = np.array([data.images[position].mean() for position in learned])
    selecting = Cases(data.labels[validation], seen["valid"].probabilities, split="valid")
    return ModelInfo.model_validate(
        {
            "epoch": fitted.progress.best_epoch,
            "network": ensembles.title(train),
            "weights": fitted.network.count_params(),
            "trained_on": {
                "source": about.source,
                "images": len(learned),
                "patients": len(set(data.patients[learned])),
                "cancer": int(data.labels[learned].sum()),
                "data_set": data_set,
            },
            "audit": audit,
            "flip_at_test": train.flip_at_test,
            "preprocess": {
                "size": data.images.shape[1:],
                "canonical": about.canonical,
                "for_processing": about.for_processing,
            },
            "thresholds": locked_thresholds(selecting),
            "recalibration": learned_recalibration(selecting),
            "arithmetic": {
                "precision": train.precision,
                "threads": train.threads,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "instructions": training.instructions(train.precision),
                "litert": exported.version(),
            },
            "training_intensity": {
                f"percentile_{share}": float(np.percentile(means, share)) for share in (0, 1, 25, 50, 75, 99, 100)
            },
            "training_features": novelty.reference(seen["train"].features, seen["valid"].features),
        }
    )


def _precision(**_: Path) -> str:
    return settings.read().train.precision


if __name__ == "__main__":
    stage.run(main, elsewhere=("model", "history", "metrics"), precision=_precision)

"""The network, fitted on the training split and chosen on the validation split; resumable."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mammo import augmentation, checkpoint, dataset, files, networks, novelty, settings, stage, statistics, training
from mammo.dataset import Dataset
from mammo.errors import UserError

# isort: split
import keras  # after networks, which quietens TensorFlow
import tensorflow as tf


def main(prepared: Path, gate: Path, model: Path, history: Path, metrics: Path) -> None:
    """Fit the network on PREPARED; write MODEL/model.keras and model.json, HISTORY by epoch, METRICS.

    GATE holds the audit's verdict, which the model carries along.
    """
    train = settings.read("train", training.Train)
    ranges = settings.read("augment", augmentation.Augment)
    source = settings.value("data", "source")
    canonical = settings.value("preprocess", "canonical")
    verdict_of_audit = files.read_json(gate)
    data = dataset.load(prepared)
    networks.use_threads(train.threads)
    state = stage.STATE
    weights = networks.given(train.weights)
    asked = {"train": train.model_dump(), "augment": ranges.model_dump(), "instructions": training.instructions()}
    key = checkpoint.digest(asked, [prepared / "images.npy", prepared / "index.csv", *weights])
    try:
        network, progress = training.fit(data, train, ranges, history, state, key)
    except tf.errors.OpError as error:
        if train.precision == "float32":
            raise
        raise UserError(
            f"TensorFlow cannot compute in {train.precision} on this processor; set train.precision: float32"
        ) from error
    step = networks.forward(network, train.flip_at_test)
    probability = {split: networks.probabilities(step, data.images, data.part(split)) for split in ("train", "valid")}
    verdict = judge(probability, data)
    files.write_json(metrics, {"epochs": progress.epoch, "best_epoch": progress.best_epoch, **verdict})
    if verdict["collapsed"]:
        raise UserError(
            "THE NETWORK HAS COLLAPSED: it learned nothing or says nearly the same of every image "
            f"(training AUC {verdict['train']['roc_auc']['value']:.3f}, interquartile range of the validation "
            f"probabilities {verdict['valid']['probability_spread']:.4f}). Nothing is scored. "
            f"Try another train.seed or train.learning_rate; the figures are in {metrics}."
        )
    with files.written(model) as folder:
        folder.mkdir()
        networks.save(network, folder / "model.keras")
        files.write_json(
            folder / "model.json",
            {
                "epoch": progress.best_epoch,
                **card(network, data, canonical, train, source, verdict_of_audit, probability["valid"]),
            },
        )
    checkpoint.remove(state)


def judge(probability: Mapping[str, np.ndarray], data: Dataset) -> dict[str, Any]:
    """What the fitted network makes of training (not augmented) and validation images."""
    auc = {
        split: statistics.delong_interval(data.labels[data.part(split)], values)
        for split, values in probability.items()
    }
    verdict = {
        split: {"roc_auc": vars(auc[split]), "probability_spread": training.spread(values)}
        for split, values in probability.items()
    }
    return {**verdict, "collapsed": not training.has_learned(auc["train"], training.spread(probability["valid"]))}


def card(
    network: keras.Model,
    data: Dataset,
    canonical: dict[str, bool],
    train: training.Train,
    source: str,
    audit: dict[str, Any],
    probability: np.ndarray,
) -> dict[str, Any]:
    """What a prediction needs to know: data, geometry, thresholds locked on validation, arithmetic, what is usual."""
    learned, validation = data.part("train"), data.part("valid")
    look = networks.features(network)
    features = [networks.probabilities(look, data.images, part) for part in (learned, validation)]
    means = np.array([data.images[position].mean() for position in learned])
    return {
        "network": train.network,
        "weights": network.count_params(),
        "trained_on": {
            "source": source,
            "images": len(learned),
            "patients": len(set(data.patients[learned])),
            "cancer": int(data.labels[learned].sum()),
        },
        "audit": audit,
        "flip_at_test": train.flip_at_test,
        "preprocess": {"size": list(data.images.shape[1:]), "canonical": canonical},
        "thresholds": statistics.thresholds(data.labels[validation], probability),
        "arithmetic": {
            "precision": train.precision,
            "threads": train.threads,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "instructions": training.instructions(),
        },
        "training_intensity": {
            f"percentile_{share}": float(np.percentile(means, share)) for share in (0, 1, 25, 50, 75, 99, 100)
        },
        "training_features": novelty.reference(*features),
    }


if __name__ == "__main__":
    stage.run(main)

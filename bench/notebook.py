"""The work as in a typical notebook, one task per process: float32 arrays, `ImageDataGenerator`, `fit`.

    python bench/notebook.py decoding RAW | epoch PREPARED NUMBER | whole RAW

Decoding and fitting are written as in notebooks on this data set, with two corrections so that both sides do the same
work: patients are in one split only, and scores are of the test split, with intervals. The network is the specified
one, without batch normalisation, with Adam; size, epochs, batch, augmentation and learning rate are those of
params.yaml in the working directory.
"""

import os
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
from measure import ROOT, serve

sys.path.insert(0, str(ROOT / "stages"))

from mammo.core import dataset, settings, splits

OURS_ALONE = {"intensity_range", "erase"}  # augmentations that ImageDataGenerator lacks
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.simplefilter("ignore")


def decoded(raw: Path, names: list[str], size: list[int]) -> np.ndarray:
    """Decode images as float32 in [0, 1], (n, height, width, 1)."""
    images = []
    for name in names:
        image = cv2.imread(str(raw / name))
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        image = cv2.resize(image, size[::-1])
        images.append(image.astype(np.float32) / 255)
    return np.array(images)[..., None]


def compiled(params: settings.Params):
    """Return the specified network, compiled with Adam."""
    import tensorflow as tf

    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            tf.keras.Input((*params.preprocess.size, 1)),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(8, activation="relu"),
            layers.Dense(2, activation="softmax"),
        ]
    )
    optimizer = tf.keras.optimizers.Adam(params.train.learning_rate)
    network.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def flowing(images: np.ndarray, labels: np.ndarray, params: settings.Params):
    """Return an iterator over augmented batches."""
    import tensorflow as tf

    ranges = params.augment.model_dump(exclude=OURS_ALONE)
    generator = tf.keras.preprocessing.image.ImageDataGenerator(**ranges)
    return generator.flow(images, labels, batch_size=params.train.batch)


def decoding(raw: Path) -> None:
    """Serve the decoding of all images of RAW into one float32 array, in one thread."""
    names, size = [entry.image for entry in dataset.read_index(raw)], settings.read().preprocess.size
    cv2.setNumThreads(1)
    serve(lambda: decoded(raw, names, size))


def epoch(prepared: Path, number: int) -> None:
    """Serve one epoch of `fit` on NUMBER images with augmentation, without validation."""
    params, data = settings.read(), dataset.load(prepared)
    images = data.images[:number].astype(np.float32)[..., None] / 255
    network, batches = compiled(params), flowing(images, data.labels[:number], params)
    serve(lambda: network.fit(batches, epochs=1, verbose=0))


def whole(raw: Path) -> None:
    """Decode, fit with validation, and score the test split with intervals over patients."""
    params = settings.read()
    entries = splits.assign(dataset.read_index(raw), params.split)
    parts = {}
    for split in dataset.SPLITS:
        chosen = [entry for entry in entries if entry.split == split]
        images = decoded(raw, [entry.image for entry in chosen], params.preprocess.size)
        parts[split] = images, np.array([entry.label for entry in chosen])
    patients = np.array([entry.patient for entry in entries if entry.split == "test"])
    network, batches = compiled(params), flowing(*parts["train"], params)
    network.fit(batches, validation_data=parts["valid"], epochs=params.train.epochs, verbose=0)
    probability = network.predict(parts["test"][0], verbose=0)[:, 1]
    print(scored(parts["test"][1], probability, patients, params.evaluate.resamples))


def scored(labels: np.ndarray, probability: np.ndarray, patients: np.ndarray, resamples: int) -> dict[str, np.ndarray]:
    """Return 95 % intervals of the headline scores by a bootstrap over patients, with scikit-learn's scores."""
    from sklearn import metrics

    random = np.random.default_rng(1)
    rows = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    drawn = []
    while len(drawn) < resamples:
        chosen = np.concatenate([rows[place] for place in random.integers(0, len(rows), len(rows))])
        truth, chance = labels[chosen], probability[chosen]
        if truth.min() == truth.max():
            continue
        (tn, fp), (fn, tp) = metrics.confusion_matrix(truth, chance >= 0.5)
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        drawn.append(
            (
                metrics.roc_auc_score(truth, chance),
                metrics.average_precision_score(truth, chance),
                (tp + tn) / len(truth),
                (sensitivity + specificity) / 2,
                sensitivity,
                specificity,
                tp / max(tp + fp, 1),
                2 * tp / max(2 * tp + fp + fn, 1),
            )
        )
    names = ("roc_auc", "average_precision", "accuracy", "balanced_accuracy")
    names += ("sensitivity", "specificity", "precision", "f1")
    return dict(zip(names, np.percentile(drawn, [2.5, 97.5], axis=0).T, strict=True))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["decoding", raw]:
            decoding(Path(raw))
        case ["epoch", prepared, number]:
            epoch(Path(prepared), int(number))
        case ["whole", raw]:
            whole(Path(raw))
        case _:
            sys.exit(__doc__)

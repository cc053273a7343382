"""The last layer of a frozen network by logistic regression with an L2 penalty, as strong as the data call for.

The features are the standardised means of a frozen network's maps. Their mean and variance over the training images and
the coefficients become the weights of the layers that a training would have fitted, so the network is one like any
other. The strength of the penalty is the one of `STRENGTHS` with the highest ROC AUC in five-fold cross-validation
within the training images, with each patient in one fold.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mammo.core import dataset, files, splits
from mammo.core.dataset import Dataset
from mammo.core.errors import UserError
from mammo.core.settings import Augment, Train
from mammo.learning import networks, training
from mammo.learning.training import HISTORY, Fitted, Progress

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

# isort: split
from mammo.learning import backbones

import keras  # after networks, which silences TensorFlow
import tensorflow as tf

STRENGTHS = tuple(10.0**power for power in np.arange(-5, 1.5, 0.5))
"""Inverse strengths of the penalty, scikit-learn's C, the strongest first."""
FOLDS = 5
MOST_STEPS = 2000


class Images(NamedTuple):
    """Features of training images, each `train.epochs` times, differently augmented."""

    features: np.ndarray
    """(n, channels)."""
    labels: np.ndarray
    """(n,) 0 healthy, 1 cancer."""
    fold: np.ndarray
    """(n,) fold of the image's patient."""


def fit_resumably(prepared: Path, train: Train, augment: Augment, history: Path, state: Path) -> Fitted:
    """Fit the last layer of a frozen network; the arguments are those of `training.fit_resumably`.

    `train.epochs` is the number of augmented copies of each training image. Nothing is stored in `state`: an
    interrupted fit starts again, and takes as long as so many epochs of prediction.

    Raises:
        UserError: the initial weights cannot be loaded, or the network is not frozen.

    """
    if train.network not in backbones.BACKBONES:
        allowed = ", ".join(backbones.BACKBONES)
        raise UserError(f"train.head is logistic, but train.network is {train.network}; it needs one of {allowed}")
    networks.use_threads(train.threads)
    data = dataset.load(prepared)
    mean, deviation = training.intensity(data.images, data.part("train"))
    network = training.begun(data.images.shape[1:], train, mean, deviation)
    body = keras.Model(network.inputs, network.get_layer(backbones.NORMALISATION).input)
    learned = _features(body, data, train, augment)
    with threadpool_limits(limits=1):  # sums of BLAS depend on the number of threads
        centre, variance = learned.features.mean(axis=0), learned.features.var(axis=0)
        network.get_layer(backbones.NORMALISATION).set_weights([centre, variance])
        scale = np.sqrt(variance + network.get_layer(backbones.NORMALISATION).epsilon)
        learned = learned._replace(features=(learned.features - centre) / scale)
        strength = selected_strength(learned, train.class_weight)
        fitted = regression(strength, train.class_weight).fit(learned.features, learned.labels)
    slope = fitted.coef_[0]
    # The difference of both classes' scores is the log-odds of cancer.
    kernel, bias = np.stack([-slope, slope], axis=1) / 2, np.array([-1, 1]) * fitted.intercept_ / 2
    network.get_layer("class").set_weights([kernel, bias])
    progress = Progress(epoch=train.epochs, best_epoch=train.epochs)
    forward = networks.forward(network, train.flip_at_test)
    for split in ("train", "valid"):
        part = data.part(split)
        probability = networks.probabilities(forward, data.images, part)
        progress.history.append([train.epochs, split, *training.epoch_scores(data.labels[part], probability)])
    files.write_csv(history, HISTORY, progress.history)
    (_, _, _, auc, _), (_, _, _, validation_auc, _) = progress.history
    print(f"train: C {strength:.3g}  ROC AUC: training {auc:.3f}, validation {validation_auc:.3f}", flush=True)
    return Fitted(networks.finished(train.network, network, mean, deviation, tuple(train.maps)), progress)


def _features(body: keras.Model, data: Dataset, train: Train, augment: Augment) -> Images:
    """Return the features of the augmented training images before they are standardised."""
    positions = data.part("train")
    entries = [data.entries[position] for position in positions]
    place = dict(zip(positions.tolist(), splits.folds(entries, FOLDS, train.seed).tolist(), strict=True))
    step = tf.function(lambda images: body(tf.cast(images, tf.float32), training=False), jit_compile=False)
    features, labels, fold = [], [], []
    for epoch in range(1, train.epochs + 1):
        order = training.epoch_order(positions, train.seed, epoch)
        fold += [place[position] for position in order.tolist()]
        for images, truth in training.augmented(data, positions, train, augment, epoch):
            full = np.zeros((train.batch, *images.shape[1:]), np.uint8)  # one shape, compiled once
            full[: len(images)] = images
            features.append(step(tf.constant(full)).numpy()[: len(images)].astype(np.float64))
            labels.append(truth)
    return Images(np.concatenate(features), np.concatenate(labels), np.array(fold))


def regression(strength: float, class_weight: str) -> LogisticRegression:
    """Return a logistic regression with the inverse strength C of its penalty."""
    weights = "balanced" if class_weight == "balanced" else None
    return LogisticRegression(C=strength, class_weight=weights, max_iter=MOST_STEPS, tol=1e-6)


def selected_strength(learned: Images, class_weight: str, strengths: Sequence[float] = STRENGTHS) -> float:
    """Return the strength with the highest mean ROC AUC of the folds; of equal ones, the strongest penalty.

    A fold that lacks a class does not count.
    """
    folds = [fold for fold in range(FOLDS) if len(set(learned.labels[learned.fold == fold])) == 2]
    best, chosen = -1.0, strengths[0]
    for strength in strengths:
        aucs = []
        for fold in folds:
            held_out = learned.fold == fold
            model = regression(strength, class_weight).fit(learned.features[~held_out], learned.labels[~held_out])
            aucs.append(roc_auc_score(learned.labels[held_out], model.decision_function(learned.features[held_out])))
        if aucs and float(np.mean(aucs)) > best + 1e-9:
            best, chosen = float(np.mean(aucs)), strength
    return chosen

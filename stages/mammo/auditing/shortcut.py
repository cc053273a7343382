"""Brightness baseline: how well global intensity alone separates the classes."""

from dataclasses import astuple
from typing import NamedTuple

from mammo.auditing.findings import Finding
from mammo.core import parallel, splits
from mammo.core.dataset import Dataset
from mammo.core.predictions import Prediction
from mammo.core.randomness import seed_of
from mammo.scoring import Bootstrap, Cases, Interval, scores, with_interval

import numpy as np
from sklearn.ensemble import RandomForestClassifier

TREES = 300
SEEN = 50_000  # images per tree at most: the trees of a million would take hours and 10 GB
FOLDS = 5  # of the cross-validation: one split alone is noisy
HISTOGRAM_BINS = 32


class Baseline(NamedTuple):
    """The brightness baseline of a set of images."""

    cross_validated: Interval | None
    """ROC AUC over all patients, each predicted by a forest that saw none of her images; None: too few patients."""
    test: Interval
    """ROC AUC on the test split of a forest fitted on the training split."""
    predictions: list[Prediction]
    """The latter's predictions, in the order of the test images; predicted class at 0.5."""


def brightness_features(image: np.ndarray) -> np.ndarray:
    """Return 38 features of global brightness, which do not depend on positions in the image.

    Histogram of 32 bins (shares); mean, standard deviation, shares of black (< 10) and of white (> 245) pixels, median
    and 95th percentile. Grey levels are divided by 255.

    Args:
        image: uint8, (height, width).

    Returns:
        float32, (38,).

    """
    histogram = np.bincount(image.ravel() // (256 // HISTOGRAM_BINS), minlength=HISTOGRAM_BINS) / image.size
    summary = [
        image.mean() / 255,
        image.std() / 255,
        (image < 10).mean(),
        (image > 245).mean(),
        np.median(image) / 255,
        np.percentile(image, 95) / 255,
    ]
    return np.concatenate([histogram, summary]).astype(np.float32)


def forest_probabilities(known: np.ndarray, labels: np.ndarray, unknown: np.ndarray, seed: int) -> np.ndarray:
    """Return the probability of cancer by a random forest; independent of the number of cores.

    Args:
        known: (n, features), `brightness_features` of the training images.
        labels: (n,), 0 or 1.
        unknown: (m, features), the same features of the images to classify.
        seed: seed of the forest.

    Returns:
        float64, (m,).

    """
    forest = RandomForestClassifier(
        TREES,
        min_samples_leaf=5,
        max_samples=SEEN if len(known) > SEEN else None,
        class_weight="balanced",
        random_state=seed_of(seed, "intensity forest") % 2**32,
        n_jobs=parallel.cores(),
    )
    forest.fit(known, labels)
    forest.set_params(n_jobs=1)  # threads would sum the trees' votes in random order, which changes the rounding
    return forest.predict_proba(unknown)[:, 1]


def brightness_baseline(data: Dataset, features: np.ndarray, seed: int) -> Baseline:
    """Return the ROC AUC of a random forest on global intensity features, which contain no anatomy.

    A network with no higher ROC AUC may use nothing but intensity.

    Args:
        data: n images.
        features: (n, features), `brightness_features` of the images.
        seed: seed of the forest, the folds and the bootstrap.

    """
    train, test = data.part("train"), data.part("test")
    chances = forest_probabilities(features[train], data.labels[train], features[test], seed)
    rows = [
        Prediction(data.names[position], data.patients[position], data.labels[position], chance, int(chance >= 0.5))
        for position, chance in zip(test.tolist(), chances.tolist(), strict=True)
    ]
    on_test = scores(Cases(data.labels[test], chances, data.patients[test]), 0.5, Bootstrap(seed))["roc_auc"]
    return Baseline(_cross_validated(data, features, seed), on_test, rows)


def _cross_validated(data: Dataset, features: np.ndarray, seed: int) -> Interval | None:
    """Return the ROC AUC of the pooled predictions of all folds; None if the training part of a fold lacks a class."""
    fold, labels = splits.folds(data.entries, FOLDS, seed), data.labels
    chances = np.zeros(len(labels))
    for number in np.unique(fold):
        tested = fold == number
        if len(np.unique(labels[~tested])) < 2:
            return None
        chances[tested] = forest_probabilities(features[~tested], labels[~tested], features[tested], seed)
    return scores(Cases(labels, chances, data.patients), 0.5, Bootstrap(seed))["roc_auc"]


def in_words(baseline: Baseline, without_patient: int) -> str:
    """Return the ROC AUC of the baseline, the cross-validated one first; `without_patient` counts unknown patients."""
    on_test = f"{with_interval(*astuple(baseline.test))} on the test split"
    if baseline.cross_validated is None:
        return f"{on_test}; too few patients for a cross-validation"
    crossed = f"{with_interval(*astuple(baseline.cross_validated))} in {FOLDS}-fold cross-validation over all patients"
    doubt = f" ({without_patient} images have no patient, so the folds cannot keep patients together)"
    return f"{crossed}{doubt if without_patient else ''}, {on_test}"


def intensity_shortcut(baseline: Baseline, features: int, without_patient: int) -> list[Finding]:
    """Return a finding if intensity alone (this number of `features`) is better than chance."""
    bar = baseline.cross_validated or baseline.test
    if bar.low <= 0.5:
        return []
    detail = (
        f"a random forest on {features} global intensity features, without seeing any anatomy, reaches a ROC AUC of "
        f"{in_words(baseline, without_patient)}"
    )
    return [Finding("shortcut", "warning", detail=detail)]

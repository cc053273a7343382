"""Brightness baseline: how well global intensity alone separates the classes."""

from mammo.auditing.findings import Finding
from mammo.core import parallel
from mammo.core.dataset import Dataset
from mammo.core.randomness import seed_of
from mammo.scoring import Bootstrap, Cases, Interval, scores

import numpy as np
from sklearn.ensemble import RandomForestClassifier

TREES = 300
HISTOGRAM_BINS = 32


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
        class_weight="balanced",
        random_state=seed_of(seed, "intensity forest") % 2**32,
        n_jobs=parallel.cores(),
    )
    forest.fit(known, labels)
    forest.set_params(n_jobs=1)  # threads would sum the trees' votes in random order, which changes the rounding
    return forest.predict_proba(unknown)[:, 1]


def brightness_baseline(data: Dataset, features: np.ndarray, seed: int) -> Interval:
    """Return the test ROC AUC of a random forest on global intensity features, which contain no anatomy.

    A network with no higher ROC AUC may use nothing but intensity.

    Args:
        data: n images.
        features: (n, features), `brightness_features` of the images.
        seed: seed of the forest and of the bootstrap.

    """
    train, test = data.part("train"), data.part("test")
    probabilities = forest_probabilities(features[train], data.labels[train], features[test], seed)
    return scores(Cases(data.labels[test], probabilities, data.patients[test]), 0.5, Bootstrap(seed))["roc_auc"]


def intensity_shortcut(auc: Interval, features: int) -> list[Finding]:
    """Return a finding if intensity alone (this number of `features`) is better than chance."""
    if auc.low <= 0.5:
        return []
    detail = (
        f"a random forest on {features} global intensity features reaches a test ROC AUC of "
        f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}) without seeing any anatomy"
    )
    return [Finding("shortcut", "warning", detail=detail)]

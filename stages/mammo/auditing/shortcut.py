"""The brightness baseline: how well global intensity alone tells the classes apart."""

from mammo.auditing.findings import Finding
from mammo.core import parallel
from mammo.core.dataset import Dataset
from mammo.core.randomness import seed_of
from mammo.scoring import Bootstrap, Cases, Interval, scores

import numpy as np
from sklearn.ensemble import RandomForestClassifier

TREES = 300


def forest_probabilities(known: np.ndarray, labels: np.ndarray, unknown: np.ndarray, seed: int) -> np.ndarray:
    """Return the probability of cancer by a random forest, the same on any number of cores.

    Args:
        known: (n, features) of `appearance.intensity_features`, of the training images.
        labels: (n,) of 0 and 1.
        unknown: (m, features), of the images to classify.
        seed: of the forest.

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
    forest.set_params(n_jobs=1)  # threads would add the trees' votes in changing order, with changing last digits
    return forest.predict_proba(unknown)[:, 1]


def brightness_baseline(data: Dataset, features: np.ndarray, seed: int) -> Interval:
    """Return the ROC AUC on the test split of a random forest that knows global intensity and no anatomy.

    A network that is no better has not been shown to see anything else.

    Args:
        data: n images.
        features: (n, features) of `appearance.intensity_features`.
        seed: of the forest and of the bootstrap.

    """
    train, test = data.part("train"), data.part("test")
    probabilities = forest_probabilities(features[train], data.labels[train], features[test], seed)
    return scores(Cases(data.labels[test], probabilities, data.patients[test]), 0.5, Bootstrap(seed))["roc_auc"]


def intensity_shortcut(auc: Interval, features: int) -> list[Finding]:
    """Return a finding where intensity alone, in so many `features`, is better than chance."""
    if auc.low <= 0.5:
        return []
    detail = (
        f"a random forest on {features} global intensity figures reaches a test ROC AUC of "
        f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}) without seeing any anatomy"
    )
    return [Finding("shortcut", "warning", detail=detail)]

"""What global intensity alone tells of the label: the bar that a network has to clear to have seen anything."""

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from mammo.core import parallel
from mammo.core.randomness import seed_of

TREES = 300


def learned_and_asked(known: np.ndarray, labels: np.ndarray, asked: np.ndarray, seed: int) -> np.ndarray:
    """The probability of cancer by a random forest, the same on any number of cores.

    Args:
        known: (n, figures) of `appearance.intensity_figures`, of the images to learn from.
        labels: (n,) of 0 and 1.
        asked: (m, figures), of the images to tell.
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
    return forest.predict_proba(asked)[:, 1]

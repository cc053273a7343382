"""Likely label errors, ranked: where a model that never saw an image's patient contradicts its label the most.

Confident learning (Northcutt, Jiang & Chuang 2021, J. Artif. Intell. Res. 70:1373). An image is suspected if its
probability of the other class reaches the mean that the model gives to images labelled so; the suspected are ranked by
the normalised margin, the probability of the label minus that of the other class. It suggests what to look at. A
suspicion is no proof: a hard case looks the same, and the weaker the model, the more of them there are.
"""

from typing import Any, NamedTuple

import numpy as np


class Suspicions(NamedTuple):
    """What a model says against the labels."""

    order: np.ndarray
    """(n,) positions of all images: the suspected first, each part from the smallest margin up."""
    margins: np.ndarray
    """(n,) probability of the label minus that of the other class, from -1 to 1."""
    suspected: np.ndarray
    """(n,) bool."""


def ranked(labels: Any, probabilities: Any) -> Suspicions:
    """Rank images by how likely their label is wrong.

    Args:
        labels: (n,) 0 (healthy) or 1 (cancer), both present.
        probabilities: (n,) of cancer, each from a model that was not trained on the image's patient.

    """
    labels, chances = np.asarray(labels).astype(int), np.asarray(probabilities, dtype=np.float64)
    by_class = np.stack([1 - chances, chances], axis=1)
    usual = np.array([by_class[labels == kind, kind].mean() for kind in (0, 1)])
    every = np.arange(len(labels))
    given, other = by_class[every, labels], by_class[every, 1 - labels]
    margins = given - other
    # Of the classes that an image confidently belongs to, the more probable one counts.
    suspected = (other >= usual[1 - labels]) & ((given < usual[labels]) | (other > given))
    return Suspicions(np.lexsort((every, margins, ~suspected)), margins, suspected)


def precision_at(order: np.ndarray, wrong: np.ndarray, most: int) -> float:
    """Return the share of the first `most` images in `order` whose label is `wrong`, (n,) bool."""
    return float(np.asarray(wrong)[order[:most]].mean())

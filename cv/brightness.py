"""The brightness baseline on the patients of cross-validation: a random forest on features without any anatomy."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mammo.auditing import shortcut
from mammo.auditing.shortcut import brightness_features
from mammo.core import dataset, parallel, pseudonyms
from mammo.core.dataset import Entry
from mammo.core.predictions import Prediction
from mammo.imaging import images, laterality

import numpy as np

NAME = "shortcut"  # the row of the brightness baseline
SIZE = (224, 224)  # pixels of its input images, which are not otherwise preprocessed


class Images(NamedTuple):
    """All readable images."""

    entries: list[Entry]
    """Rows of data/raw/index.csv."""
    shown: list[Entry]
    """The same with the names that git may keep, and the breast that each image shows, if it is known."""
    features: np.ndarray
    """(n, features) of brightness."""

    @property
    def sides(self) -> dict[str, str]:
        """The breast that each image shows, L or R, or B for both, by its name that git may keep."""
        return {entry.image: entry.laterality for entry in self.shown if entry.laterality}


def read(raw: Path) -> Images:
    """Read the images of RAW; leave out those that are unreadable, which the folds report."""

    def features(entry: Entry) -> np.ndarray | None:
        try:
            return brightness_features(images.read(raw / entry.image, SIZE))
        except images.UnreadableError:
            return None

    delivered = dataset.read_index(raw)
    every = zip(delivered, parallel.each(features, delivered, "brightness"), strict=True)
    known = [(entry, values) for entry, values in every if values is not None]
    entries, brightness = [entry for entry, _ in known], np.array([values for _, values in known])
    sided, _ = laterality.completed(entries, lambda position: images.read(raw / entries[position].image, SIZE))
    return Images(entries, pseudonyms.hidden(sided, pseudonyms.read(raw)), brightness)


def predicted(known: Images, assigned: Sequence[Entry], seed: int) -> list[Prediction]:
    """Return the predictions of the forest for the test images, fitted on training and validation; called at 0.5.

    Args:
        known: all images.
        assigned: their entries in the same order, each with its split.
        seed: of the forest.

    """
    labels, split = (np.array([getattr(entry, name) for entry in assigned]) for name in ("label", "split"))
    learned, tested = np.isin(split, ("train", "valid")), split == "test"
    chances = shortcut.forest_probabilities(known.features[learned], labels[learned], known.features[tested], seed)
    shown = [known.shown[position] for position in np.flatnonzero(tested)]
    return sorted(
        Prediction(entry.image, entry.patient_key, entry.label, chance, int(chance >= 0.5))
        for entry, chance in zip(shown, chances.tolist(), strict=True)
    )

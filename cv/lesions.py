"""A fold of a variant whose network first learns to find lesions that are drawn into healthy mammograms.

It is no stage: `python lesions.py ../data/raw data/settings/VARIANT.json lesions/VARIANT/FOLD` is run for each fold.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))  # this clone's code, not an installed copy

from mammo.core import dataset, files, stage
from mammo.core.dataset import Dataset, Entry
from mammo.core.randomness import generator
from mammo.imaging import prepare
from mammo.learning import ensembles, networks
from mammo.sources.phantom import lesions
from mammo.sources.phantom.anatomy import FIELD

import crossvalidation
import cv2
import fitting
import numpy as np

EPOCHS = 4  # on the drawn images, before the recipe's own
EDGE = 5  # mm between the centre of a mass and the edge of the breast, at least
BRIGHTNESS = (0.10, 0.30)  # of a mass where the tissue is black; none where it is white


def main(raw: Path, settings: Path, out: Path) -> None:
    """Fit the variant and fold named by OUT = …/VARIANT/FOLD as `fold.py` does with one seed, from weights learned on
    drawn lesions.

    The lesions are drawn into the healthy images of the fold's own training and validation patients. OUT also gets
    drawn.csv, the history of that first training.
    """
    folds, trained = crossvalidation.read().folds, crossvalidation.trained(settings)
    assign = partial(crossvalidation.assign, fold=int(out.name), folds=folds, share=trained.patients)
    name = f"lesions-{out.parent.name}-{out.name}"
    trained, state = trained.model_copy(update={"seeds": trained.seeds[:1]}), stage.STATE / name
    prepared, drawn = (crossvalidation.emptied(state / folder) for folder in ("prepared", "drawn"))
    readable = prepare.decode_all(raw, dataset.read_index(raw), trained.preprocess, prepared)
    dataset.write_index(prepared, assign(readable))
    draw(dataset.load(prepared), drawn, trained.seeds[0])
    first = trained.with_train(epochs=EPOCHS, seed=trained.seeds[0], seeds=[])
    network = ensembles.fit_resumably(drawn, first, trained.augment, state / "history.csv", state / "first").network
    networks.WEIGHTS.mkdir(parents=True, exist_ok=True)
    networks.save(network, networks.WEIGHTS / f"{name}.keras")
    started = trained.model_copy(update={"train": trained.with_train(weights=f"{name}.keras")})
    history = (state / "history.csv").read_text()
    fitting.fit_and_predict(raw, started, assign, state, out)
    files.write_text(out / "drawn.csv", history)


def draw(data: Dataset, out: Path, seed: int) -> None:
    """Write to OUT two copies of each healthy training and validation image: with a cancer, and without.

    The cancer is a spiculated mass anywhere in the breast. Half of the copies without have its rotational mean in its
    place, as benign masses of phantoms are, so that neither brightness nor being drawn tells the class.
    """
    healthy = [place for split in ("train", "valid") for place in data.part(split) if data.labels[place] == 0]
    images = dataset.new_array(out / dataset.IMAGES, 2 * len(healthy), data.images.shape[1:])
    entries: list[Entry] = []
    for place in healthy:
        entry = data.entries[place]
        for label, image in enumerate(copies(data.images[place], seed, entry.image)):
            images[len(entries)] = image
            entries.append(replace(entry, image=f"{label}/{entry.image}", label=label))
    images.flush()
    dataset.write_index(out, entries)


def copies(image: np.ndarray, seed: int, name: str) -> Sequence[np.ndarray]:
    """Return a healthy image as it is or with a benign mass, and with a cancer; uint8, (height, width) each."""
    random = generator(seed, "drawn lesion", name)
    pitch = FIELD / len(image)  # mm, as if every image were that high
    mask = np.pad((image > 0).astype(np.uint8), 1)
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 5)[1:-1, 1:-1] * pitch > EDGE
    where = np.argwhere(inside if inside.any() else np.ones_like(inside))
    y, x = (where[random.integers(len(where))] + 0.5) * pitch
    mass, brightness = lesions.spiculated_mass(random, float(x), float(y)), random.uniform(*BRIGHTNESS)
    benign = lesions.benign_mass(mass) if random.uniform() < 0.5 else None
    return [image if one is None else added(image, one, brightness) for one in (benign, mass)]


def added(image: np.ndarray, mass: lesions.Mass, brightness: float) -> np.ndarray:
    """Return the image with a mass in it, black outside the breast."""
    height, width = image.shape
    value = image / 255
    drawn = lesions.rendered(mass, height)[:, :width] * brightness
    return np.where(image > 0, np.rint((value + drawn * (1 - value)) * 255), 0).astype(np.uint8)


if __name__ == "__main__":
    stage.run(main, reads_scores=True, side_by_side="out")

"""Size of the network of every recipe, and the time in which it predicts a prepared image.

    python bench/recipe_times.py

The networks are not trained, which changes neither. Their LiteRT files, which `mammo predict` runs, predict
one image by one thread, in turn: every recipe once per round.
"""

import statistics
import time

from mammo.core import recipes
from mammo.core.settings import Params
from mammo.learning import ensembles, export, exported, networks

import keras
import numpy as np
from measure import ROOT, heading, with_range

RECIPES = ROOT / "recipes"
FIRST = "baseline"  # the same network as the recipe default
NAMES = [FIRST, *(name for name in recipes.names(RECIPES) if name not in (FIRST, recipes.DEFAULT))]
ROUNDS = 30
MEAN, DEVIATION = 0.3, 0.2  # of the pixels; any would do


def network(params: Params) -> keras.Model:
    """Return the network of a recipe as it is saved, with random weights."""
    size = params.preprocess.size
    members = [
        networks.finished(
            one.network,
            networks.build(one.network, size, MEAN, DEVIATION, one.seed, networks.Start(maps=tuple(one.maps))),
            MEAN,
            DEVIATION,
            tuple(one.maps),
        )
        for one in params.train.trainings
    ]
    return members[0] if len(members) == 1 else ensembles.averaged(members)


def seconds(model: exported.Exported, image: np.ndarray) -> float:
    """Return the seconds that one image takes."""
    begun = time.perf_counter()
    model.outputs(image[None], np.array([0]))
    return time.perf_counter() - begun


def main() -> None:
    """Print the table."""
    loaded, images, sizes, times = {}, {}, {}, {name: [] for name in NAMES}
    for name in NAMES:
        params = recipes.params(name, ROOT / "params.yaml", RECIPES)
        made = network(params)
        content = export.litert(made, params.train.flip_at_test)
        loaded[name], sizes[name] = exported.Exported(content), (made.count_params(), len(content))
        images[name] = np.random.default_rng(1).integers(0, 256, params.preprocess.size, np.uint8)
        seconds(loaded[name], images[name])
    for _ in range(ROUNDS):
        for name in NAMES:
            times[name].append(seconds(loaded[name], images[name]))
    print(heading())
    print("\n| recipe | weights | LiteRT file | one image | times `baseline` |\n|---|---:|---:|---:|---|")
    for name in NAMES:
        weights, size = sizes[name]
        ratios = [one / first for one, first in zip(times[name], times[FIRST], strict=True)]
        milliseconds = statistics.median(times[name]) * 1e3
        print(f"| `{name}` | {weights:,} | {size / 1e6:.1f} MB | {milliseconds:.1f} ms | {with_range(ratios)} |")


if __name__ == "__main__":
    main()

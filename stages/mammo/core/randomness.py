"""Random generators derived from the seeds in params.yaml."""

import hashlib

import numpy as np


def seed_of(seed: int, purpose: str, *place: int | str) -> int:
    """Return a 128-bit seed for one purpose and place; it does not depend on the machine or the order of calls.

    Args:
        seed: the seed in params.yaml.
        purpose: use of the numbers, e.g. `"augment"`; makes two uses of one seed independent.
        place: further coordinates, e.g. epoch and index of the image.

    """
    text = "/".join([str(seed), purpose, *map(str, place)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def generator(seed: int, purpose: str, *place: int | str) -> np.random.Generator:
    """Return a NumPy generator (Philox, counter-based) for `seed_of(seed, purpose, *place)`."""
    return np.random.Generator(np.random.Philox(key=seed_of(seed, purpose, *place)))

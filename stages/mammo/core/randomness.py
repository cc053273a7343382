"""The one place where randomness is derived from a seed."""

import hashlib

import numpy as np


def seed_of(seed: int, purpose: str, *place: int | str) -> int:
    """A 128-bit seed for one purpose at one place, the same on every machine and in every order of calls.

    Args:
        seed: the seed in params.yaml.
        purpose: what the numbers are for, e.g. `"augment"`; keeps two uses of one seed apart.
        place: further coordinates, e.g. epoch and index of the image.

    """
    text = "/".join([str(seed), purpose, *map(str, place)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def generator(seed: int, purpose: str, *place: int | str) -> np.random.Generator:
    """A NumPy generator (Philox, counter-based) for `seed_of(seed, purpose, *place)`."""
    return np.random.Generator(np.random.Philox(key=seed_of(seed, purpose, *place)))

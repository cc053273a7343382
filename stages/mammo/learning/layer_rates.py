"""Learning rates by depth: the lower a layer, the smaller its steps.

Howard and Ruder 2018 (arXiv:1801.06146), with one factor per block as in Clark et al. 2020 (arXiv:2003.10555).
"""

import re
from typing import Any

import keras  # after networks, which silences TensorFlow

BLOCK = re.compile(r"block_(\d+)_")
LOWEST = "stem"  # beginning of the names of the layers before the first block


def block(name: str) -> int | None:
    """Return the number of the block that a layer belongs to, by its name; None for the layers after the last block."""
    if found := BLOCK.match(name):
        return int(found[1])
    return -1 if name.startswith(LOWEST) else None


def blocks(network: keras.Model) -> list[int]:
    """Return the numbers of the blocks of a network, in order; empty for a network that has none."""
    found = {block(layer.name) for layer in network.layers}
    return sorted(number for number in found if number is not None and number >= 0)


def factors(network: keras.Model, decay: float) -> list[float]:
    """Return the factor of the learning rate of each trainable variable, in their order.

    Layers after the last block have 1, those of the last block `decay`, of the one before it `decay` squared, and so
    on.
    """
    numbers = blocks(network)
    found: dict[str, float] = {}
    for layer in network.layers:
        number = block(layer.name)
        below = 0 if number is None else sum(other >= number for other in numbers) + (number < 0)
        found |= {variable.path: decay**below for variable in layer.trainable_variables}
    return [found[variable.path] for variable in network.trainable_variables]


class Adam(keras.optimizers.Adam):
    """AdamW (Loshchilov and Hutter 2019) with a factor of the learning rate per variable; only kernels decay."""

    def __init__(self, rate: Any, network: keras.Model, depth_decay: float, weight_decay: float) -> None:
        super().__init__(rate)
        self._factors = factors(network, depth_decay)
        names = [variable.path.rpartition("/")[2] for variable in network.trainable_variables]
        self._decays = [0.0 if name in ("bias", "gamma", "beta") else weight_decay for name in names]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Make the step of one variable."""
        place = self._get_variable_index(variable)
        rate = learning_rate * self._factors[place]
        if self._decays[place]:
            self.assign_sub(variable, variable * (rate * self._decays[place]))
        super().update_step(gradient, variable, rate)

"""Load what scores images: the exported network or, of a model of an older commit that has none, the Keras network."""

from pathlib import Path
from typing import Protocol

from mammo.core.model_info import ModelInfo
from mammo.learning import exported
from mammo.learning.exported import Outputs

import numpy as np


class Scorer(Protocol):
    """A network that gives probabilities and features."""

    def outputs(self, images: np.ndarray, positions: np.ndarray, what: str = "") -> Outputs:
        """Return the outputs for the images at `positions`, as `Exported.outputs` does."""


def load(model: Path, info: ModelInfo) -> Scorer:
    """Load the network of the folder MODEL, which `info` describes; TensorFlow only where no exported network exists.

    Raises:
        UserError: its file is missing, or is not the one that `info` describes.

    """
    if info.exported:
        return exported.load(model, info)
    from mammo.learning import model_folder  # imports TensorFlow

    return model_folder.scorer(model, info)

"""Load the Keras network of a model folder and check that it and model.json belong together."""

from pathlib import Path
from typing import NamedTuple

from mammo.core import model_info
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.learning import networks, novelty
from mammo.learning.exported import Outputs

import numpy as np

# isort: split
import keras  # after networks, which silences TensorFlow


class KerasScorer(NamedTuple):
    """The network of a model of an older commit, which has no exported network."""

    forward: networks.Forward
    features: networks.Forward

    def outputs(self, images: np.ndarray, positions: np.ndarray, what: str = "") -> Outputs:
        """Return the outputs for the images at `positions`, as `Exported.outputs` does."""
        chances = networks.probabilities(self.forward, images, positions, what)
        return Outputs(chances, networks.probabilities(self.features, images, positions))


def scorer(model: Path, info: ModelInfo) -> KerasScorer:
    """Return what scores images with MODEL/model.keras; raises as `load` does."""
    network = load(model, info)
    return KerasScorer(networks.forward(network, info.flip_at_test), networks.features(network))


def load(model: Path, info: ModelInfo) -> keras.Model:
    """Load MODEL/model.keras, and set the number of threads with which it was trained.

    Raises:
        UserError: it cannot be read, or `info` (MODEL/model.json) describes another network.

    """
    path = model / "model.keras"
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `dvc repro` or `dvc pull`")
    networks.use_threads(info.arithmetic.threads)
    network = networks.load(path)
    expected = (None, *info.preprocess.size, 1), (None, 2)
    found = network.input_shape, network.output_shape
    if found != expected:
        raise UserError(
            f"{path} takes images of shape {found[0]} and returns {found[1]}; by {model_info.NAME} these are "
            f"{expected[0]} and {expected[1]}: the two files are not of one model"
        )
    if not all(np.isfinite(weight).all() for weight in network.get_weights()):
        raise UserError(f"{path} is damaged: it holds weights that are not numbers")
    black = np.zeros((1, *info.preprocess.size), np.uint8)
    channels = networks.probabilities(networks.features(network), black, np.arange(1)).shape[1]
    novelty.refuse_unusable(info.training_features, channels, model / model_info.NAME)
    return network

"""Load the network of a model folder and check that it and model.json belong together."""

from pathlib import Path

from mammo.core import model_info
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.learning import networks

import numpy as np

# isort: split
import keras  # after networks, which silences TensorFlow


def load(model: Path, info: ModelInfo) -> keras.Model:
    """Load MODEL/model.keras.

    Raises:
        UserError: it cannot be read, or `info` (MODEL/model.json) describes another network.

    """
    path = model / "model.keras"
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
    _refuse_other_features(network, info, model)
    return network


def _refuse_other_features(network: keras.Model, info: ModelInfo, model: Path) -> None:
    """Raise an error where novelty could not be told from the features in `info`."""
    known = info.training_features
    black = np.zeros((1, *info.preprocess.size), np.uint8)
    channels = networks.probabilities(networks.features(network), black, np.arange(1)).shape[1]
    where = f"{model / model_info.NAME}: training_features"
    if len(known.mean) != channels:
        raise UserError(f"{where} are of {len(known.mean)} feature maps, the network has {channels}")
    covariance = np.array(known.covariance)
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        covariance = covariance + np.inf
    if not np.allclose(covariance, covariance.T) or not np.isfinite(covariance).all():
        raise UserError(f"{where}.covariance is not symmetric and positive definite, so it is no covariance")

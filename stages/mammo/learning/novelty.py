"""Novelty detection: whether an image is unlike the training images, from the features of the last convolution.

Lee, Lee, Lee and Shin 2018 (A simple unified framework for detecting out-of-distribution samples and adversarial
attacks), with one Gaussian for both classes: the Mahalanobis distance from the mean of the training images.
"""

from pathlib import Path

from mammo.core.errors import UserError
from mammo.core.model_info import Features

import numpy as np

RIDGE = 1e-3  # share of the mean variance added to each variance, which may be 0


def reference(training: np.ndarray, held_out: np.ndarray) -> Features:
    """Return the mean, covariance and limit that `distances` needs, for model.json.

    Args:
        training: (n, channels), features of the training images.
        held_out: features of validation images; their largest distance becomes the limit.

    """
    mean = training.mean(axis=0)
    centred = training - mean
    covariance = np.einsum("ni,nj->ij", centred, centred) / len(training)  # BLAS's sum depends on the cores
    covariance += np.eye(len(mean)) * (RIDGE * np.trace(covariance) / len(mean) + 1e-12)
    known = Features(mean=mean.tolist(), covariance=covariance.tolist(), limit=0)
    return known.model_copy(update={"limit": float(f"{distances(held_out, known).max():.6g}")})


def distances(features: np.ndarray, known: Features) -> np.ndarray:
    """Return the Mahalanobis distance of each row of `features` (n, channels) from the training images, (n,)."""
    centred = features - np.array(known.mean)
    solved = np.linalg.solve(np.array(known.covariance), centred.T)
    return np.sqrt(np.einsum("ni,in->n", centred, solved))


def refuse_unusable(known: Features, channels: int, where: Path) -> None:
    """Refuse features of training images with which novelty cannot be computed.

    Args:
        known: the features in the file `where`.
        channels: number of feature maps of the network.
        where: path of the model info, for error messages.

    Raises:
        UserError: they are of another number of maps, or their covariance is none.

    """
    if len(known.mean) != channels:
        raise UserError(f"{where}: training_features are of {len(known.mean)} feature maps, the network has {channels}")
    covariance = np.array(known.covariance)
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        covariance = covariance + np.inf
    if not np.allclose(covariance, covariance.T) or not np.isfinite(covariance).all():
        raise UserError(
            f"{where}: training_features.covariance is not symmetric and positive definite, so it is no covariance"
        )

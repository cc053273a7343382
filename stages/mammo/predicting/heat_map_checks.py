"""Check heat maps: whether they point at known lesions, and whether they depend on what the network learned."""

from typing import Any

from mammo.core.predictions import PredictedSplit
from mammo.core.randomness import generator
from mammo.imaging import appearance
from mammo.learning.networks import Forward
from mammo.predicting.heat_maps import explainer, heat_maps
from mammo.reporting.heat_map_pictures import peak
from mammo.scoring import Bootstrap, Interval, share

import cv2
import numpy as np
from scipy.stats import rankdata

# isort: split
import keras  # after networks, which silences TensorFlow

REACH = 10  # pixels around a lesion that count as part of it
SANITY_IMAGES = 100  # evenly spaced test images whose maps are compared with those of a randomised network


def check(
    network: keras.Model, explain: Forward, test: PredictedSplit, lesions: np.ndarray | None, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Return the content of metrics/explanation.json.

    It holds the pointing game on true positives, if `lesions` (uint8, (n, height, width), for all of `test.data`) are
    known, and the correlation of the maps of `explain`, the explainer of `network`, with those of a randomised copy.
    """
    content: dict[str, Any] = {}
    images, found = test.data.images, test.positions[(test.labels == 1) & (test.predicted == 1)]
    if lesions is not None:
        found = np.array([position for position in found if lesions[position].any()], dtype=int)
        if len(found):
            peaks = np.array([peak(heat) for heat in heat_maps(explain, images, found, "point")])
            patients = test.data.patients[found]
            content["true_positives"] = len(found)
            content |= pointing_game(peaks, images, lesions, found, patients, bootstrap)
    spread = np.linspace(0, len(test.positions) - 1, SANITY_IMAGES)
    some = test.positions[np.unique(spread.round().astype(int))]
    steps = (explain, explainer(randomised(network, bootstrap.seed)))
    maps = (heat_maps(step, images, some, "sanity") for step in steps)
    similar = [rank_correlation(a, b, breast(images[at])) for at, a, b in zip(some, *maps, strict=True)]
    content["randomised_network"] = {"rank_correlation": {"value": float(np.mean(similar))}, "images": len(some)}
    return content


def pointing_game(
    peaks: np.ndarray,
    images: np.ndarray,
    lesions: np.ndarray,
    positions: np.ndarray,
    patients: np.ndarray,
    bootstrap: Bootstrap,
) -> dict[str, Interval | dict[str, float]]:
    """Return the share of heat map peaks in the lesion (Zhang et al. 2018, Int. J. Comput. Vis. 126:1084).

    Each lesion is dilated by `REACH` pixels.

    Args:
        peaks: (k, 2), row and column of each image's peak, as returned by `peak`.
        images: uint8, (n, height, width).
        lesions: uint8, (n, height, width): 0 outside the lesion.
        positions: (k,), indices of the images, each with a lesion.
        patients: (k,), patient of each image.
        bootstrap: the resamples.

    Returns:
        `pointing_game`, the share of peaks in their lesion, with its patient-clustered interval; `chance`, the expected
        share for random points in the breast; `other_patients_peaks`, the share for the peaks of other patients'
        images, which is equally high if all lesions are in the same place. The last is omitted if there is only one
        patient.

    """
    hit, drawn, borrowed = np.zeros(len(peaks), bool), np.zeros(len(peaks)), []
    real = peaks[:, 0] >= 0
    for index, position in enumerate(positions):
        around = _dilated(lesions[position] > 0)
        drawn[index] = around[breast(images[position])].mean()
        hit[index] = real[index] and around[tuple(peaks[index])]
        foreign = patients != patients[index]
        if foreign.any():
            borrowed.append(around[tuple(peaks[foreign & real].T)].sum() / foreign.sum())
    found = share(hit, patients, bootstrap)
    score: dict[str, Interval | dict[str, float]] = {"pointing_game": found, "chance": {"value": float(drawn.mean())}}
    return score | ({"other_patients_peaks": {"value": float(np.mean(borrowed))}} if borrowed else {})


def breast(image: np.ndarray) -> np.ndarray:
    """Return the mask of the breast, bool, (height, width); all True if no breast is found."""
    body = appearance.body(255 - image if appearance.is_inverted(image) else image).astype(bool)
    return body if body.any() else np.ones_like(body)


def _dilated(lesion: np.ndarray) -> np.ndarray:
    across = np.arange(-REACH, REACH + 1)
    disc = (across[:, None] ** 2 + across[None, :] ** 2 <= REACH**2).astype(np.uint8)
    return cv2.dilate(lesion.astype(np.uint8), disc) > 0


def randomised(network: keras.Model, seed: int) -> keras.Model:
    """Return a copy of `network` with the values of each weight array shuffled.

    In the randomisation test (Adebayo et al. 2018, NeurIPS) a map that stays the same does not depend on what was
    learned. Shuffling keeps the distribution of each layer's weights.
    """
    copy = keras.models.clone_model(network)
    copy.set_weights(
        [
            generator(seed, "randomised", place).permutation(weights.ravel()).reshape(weights.shape)
            for place, weights in enumerate(network.get_weights())
        ]
    )
    return copy


def rank_correlation(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    """Return Spearman's correlation of two maps over the pixels `where`; 0 if one of them is constant."""
    ranks = np.stack([rankdata(heat[where]) for heat in (one, other)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    lengths = np.sqrt((ranks**2).sum(axis=1))
    return float((ranks[0] * ranks[1]).sum() / (lengths[0] * lengths[1])) if lengths.all() else 0.0

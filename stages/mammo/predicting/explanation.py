"""Where a network looks: heat maps of any network, whether they point at the lesion, whether they show what it learned.

A heat map shows what speaks for cancer in an image. It is gradient × input (Shrikumar et al. 2016, arXiv:1605.01713):
the change of the network's log-odds of cancer with each pixel, times the pixel. In a network of convolutions, maxima
and ReLUs that is each pixel's share in the log-odds against a black image (Ancona et al. 2018, ICLR), whether a Flatten
or a pooling stands behind the convolutions. Single pixels are noise, so shares are averaged by a Gaussian; what speaks
against cancer is cut off.

It was chosen by the pointing game on validation images of phantoms: its peaks lie in the lesion itself more often than
those of Grad-CAM (Selvaraju et al. 2017), HiResCAM (Draelos & Carin 2020, arXiv:2011.08891) and the plain gradient.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import rankdata

from mammo.core import files, parallel
from mammo.core.randomness import generator
from mammo.imaging.appearance import is_inverted, marks_and_body
from mammo.learning.networks import BATCH, Forward
from mammo.scoring import Bootstrap, Interval, share

# isort: split
import keras  # after networks, which quietens TensorFlow
import tensorflow as tf

BLUR = 2.0  # pixels, standard deviation
REACH = 10  # pixels around a lesion that still count as the lesion
SMALLEST = 1e-30  # probability; its logarithm is still finite in float32
OPACITY = 0.75  # of the heat where it is at least half the maximum
GLOW = np.array([[220, 40, 0], [255, 225, 80]])  # red, green, blue of the lowest and the highest heat
SMALLEST_PANEL, MARGIN = 400, 8  # pixels in a picture of one image; small images are enlarged


def explainer(network: keras.Model) -> Forward:
    """The compiled explanation: float32 images (batch, height, width, 1) to each pixel's share in the log-odds.

    Taken from the logarithms of the two probabilities, since a probability near 0 or 1 has no slope left.
    """

    @tf.function(jit_compile=False)
    def step(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            logarithm = tf.math.log(tf.maximum(network(images, training=False), SMALLEST))
            odds = logarithm[:, 1] - logarithm[:, 0]
        return (images * tape.gradient(odds, images))[..., 0]

    return step


def heat_maps(step: Forward, images: np.ndarray, positions: np.ndarray, what: str = "") -> Iterator[np.ndarray]:
    """The heat maps of the images at `positions`, one after the other.

    Every step takes exactly `BATCH` images, as `networks.probabilities` does: a map does not depend on its neighbours.

    Args:
        step: of `explainer`.
        images: uint8, (n, height, width).
        positions: which of them.
        what: shown before a progress bar; none without it.

    Yields:
        float32, (height, width), from 0 to 1, the maximum; all 0 where nothing speaks for cancer.

    """
    starts = range(0, len(positions), BATCH)
    for first in parallel.progress(starts, what, unit="batches") if what else starts:
        chosen = positions[first : first + BATCH]
        batch = np.zeros((BATCH, *images.shape[1:], 1), np.float32)
        batch[: len(chosen), :, :, 0] = images[chosen]
        yield from map(_heat, step(tf.constant(batch)).numpy()[: len(chosen)])


def _heat(shares: np.ndarray) -> np.ndarray:
    heat = np.maximum(cv2.GaussianBlur(shares, (0, 0), BLUR), 0)
    return heat / (heat.max() or 1)


def peak(heat: np.ndarray) -> tuple[int, int]:
    """Row and column of the highest value, the first of equal ones; (-1, -1) of an empty map, which points nowhere."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return (int(row), int(column)) if heat[row, column] > 0 else (-1, -1)


def breast(image: np.ndarray) -> np.ndarray:
    """Where the breast is, bool, (height, width); everywhere, if none stands out."""
    body = marks_and_body(255 - image if is_inverted(image) else image)[1]
    return body if body.any() else np.ones_like(body)


def pointing_game(
    peaks: np.ndarray,
    images: np.ndarray,
    lesions: np.ndarray,
    positions: np.ndarray,
    patients: np.ndarray,
    bootstrap: Bootstrap,
) -> dict[str, Interval | dict[str, float]]:
    """Does the peak of the heat map lie in the lesion (Zhang et al. 2018, Int. J. Comput. Vis. 126:1084)?

    A lesion reaches `REACH` pixels beyond its edge.

    Args:
        peaks: (k, 2) row and column of each image's peak, as `peak` gives them.
        images: uint8, (n, height, width).
        lesions: uint8, (n, height, width): 0 outside the lesion.
        positions: (k,) which of them, each with a lesion.
        patients: (k,) of each.
        bootstrap: the resamples.

    Returns:
        `pointing_game`, the share of peaks in their lesion, with its patient-clustered interval; `chance`, the same of
        points drawn evenly in the breast (exactly: the lesion's share of it); `other_patients_peaks`, the same of the
        peaks found in the other patients' images: as high where all lesions lie at one place. The last is left out
        where there is one patient.

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


def _dilated(lesion: np.ndarray) -> np.ndarray:
    across = np.arange(-REACH, REACH + 1)
    disc = (across[:, None] ** 2 + across[None, :] ** 2 <= REACH**2).astype(np.uint8)
    return cv2.dilate(lesion.astype(np.uint8), disc) > 0


def randomised(network: keras.Model, seed: int) -> keras.Model:
    """A copy of `network` that has learned nothing: each of its weight arrays shuffled.

    The randomisation test of Adebayo et al. 2018 (NeurIPS): a map that stays the same was none of what was learned.
    Shuffled, not drawn anew, so that every layer keeps the distribution of its weights, whatever its kind.
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
    """Spearman's correlation of two maps over the pixels `where`; 0 where one of them is the same everywhere."""
    ranks = np.stack([rankdata(heat[where]) for heat in (one, other)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    lengths = np.sqrt((ranks**2).sum(axis=1))
    return float((ranks[0] * ranks[1]).sum() / (lengths[0] * lengths[1])) if lengths.all() else 0.0


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image in grey with its heat map above it, from a red glow to opaque yellow.

    Args:
        image: uint8, (height, width).
        heat: 0 to 1, (height, width).

    Returns:
        uint8, (height, width, 3), red, green, blue.

    """
    glow = heat[..., None].astype(np.float64)
    colour = GLOW[0] + (GLOW[1] - GLOW[0]) * glow
    opacity = OPACITY * np.minimum(2 * glow, 1)
    return np.rint(image[..., None] * (1 - opacity) + colour * opacity).astype(np.uint8)


def write_picture(path: Path, image: np.ndarray, heat: np.ndarray, caption: str) -> None:
    """A PNG of one image: left as the network saw it, right with its heat map, the peak circled; below, the caption."""
    times = -(-SMALLEST_PANEL // image.shape[1])
    height, width = (times * side for side in image.shape)
    picture = Image.new("RGB", (2 * width + MARGIN, height), "white")
    for left, panel in ((0, image), (width + MARGIN, overlay(image, heat))):
        enlarged = cv2.resize(panel, (width, height), interpolation=cv2.INTER_CUBIC)
        picture.paste(Image.fromarray(enlarged), (left, 0))
    if heat.any():
        row, column = ((place + 0.5) * times for place in peak(heat))
        ImageDraw.Draw(picture).circle((width + MARGIN + column, row), SMALLEST_PANEL / 40, outline="white", width=2)
    font = ImageFont.load_default(14)
    lines = [""]
    for word in f"{caption} Right: what speaks for cancer, by its own scale; the peak is circled.".split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= picture.width - 2 * MARGIN:
            lines[-1] = longer
        else:
            lines.append(word)
    sheet = Image.new("RGB", (picture.width, height + 20 * len(lines) + 2 * MARGIN), "white")
    sheet.paste(picture)
    ImageDraw.Draw(sheet).multiline_text((MARGIN, height + MARGIN), "\n".join(lines), "black", font, spacing=5)
    with files.written(path) as beside, beside.open("wb") as file:
        sheet.save(file, "PNG")

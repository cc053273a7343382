"""Heat maps of any network: what speaks for cancer in an image.

A map is gradient × input (Shrikumar et al. 2016, arXiv:1605.01713): the change of the network's log-odds of cancer with
each pixel, times the pixel. In a network of convolutions, maxima and ReLUs that is each pixel's share in the log-odds
against a black image (Ancona et al. 2018, ICLR), whether a Flatten or a pooling stands behind the convolutions. Single
pixels are noise, so shares are averaged by a Gaussian; what speaks against cancer is cut off.

It was chosen by the pointing game on validation images of phantoms: its peaks lie in the lesion itself more often than
those of Grad-CAM (Selvaraju et al. 2017), HiResCAM (Draelos & Carin 2020, arXiv:2011.08891) and the plain gradient.
"""

from collections.abc import Iterator

from mammo.learning import networks

import cv2
import numpy as np

# isort: split
import keras  # after networks, which quietens TensorFlow
import tensorflow as tf

BLUR = 2.0  # pixels, standard deviation
SMALLEST = 1e-30  # probability; its logarithm is still finite in float32


def explainer(network: keras.Model) -> networks.Forward:
    """Return the compiled explanation: float32 images (batch, height, width, 1) to each pixel's share in the log-odds.

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


def heat_maps(
    step: networks.Forward, images: np.ndarray, positions: np.ndarray, what: str = ""
) -> Iterator[np.ndarray]:
    """Yield the heat maps of the images at `positions`: float32, (height, width), from 0 to 1, the maximum.

    Where nothing speaks for cancer, a map is all 0. The arguments are those of `networks.outputs`, with a step of
    `explainer`.
    """
    for shares in networks.outputs(step, images, positions, what):
        heat = np.maximum(cv2.GaussianBlur(shares, (0, 0), BLUR), 0)
        yield heat / (heat.max() or 1)

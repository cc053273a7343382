"""Heat maps of any network: evidence for cancer in an image.

A map is gradient × input (Shrikumar et al. 2016, arXiv:1605.01713): the derivative of the log-odds of cancer by each
pixel, times the pixel. In a network of convolutions, max pooling and ReLUs this is each pixel's contribution to the
log-odds relative to a black image (Ancona et al. 2018, ICLR), with Flatten or pooling after the convolutions.
Single pixels are noisy, so a Gaussian smooths the contributions; negative values are set to 0.

The method was selected by the pointing game on phantom validation images: its peaks are in the lesion more often than
those of Grad-CAM (Selvaraju et al. 2017), HiResCAM (Draelos & Carin 2020, arXiv:2011.08891) and the plain gradient.
"""

from collections.abc import Iterator

from mammo.learning import networks

import cv2
import numpy as np

# isort: split
import keras  # after networks, which silences TensorFlow
import tensorflow as tf

BLUR = 2.0  # pixels, standard deviation
SMALLEST = 1e-30  # probability whose logarithm is finite in float32


def explainer(network: keras.Model) -> networks.Forward:
    """Return a compiled function of float32 images (batch, height, width, 1): each pixel's share in the log-odds.

    The log-odds are used since the gradient of a probability near 0 or 1 vanishes.
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

    A map without evidence for cancer is 0 everywhere. The arguments are those of `networks.outputs`, with a step from
    `explainer`.
    """
    for shares in networks.outputs(step, images, positions, what):
        heat = np.maximum(cv2.GaussianBlur(shares, (0, 0), BLUR), 0)
        yield heat / (heat.max() or 1)

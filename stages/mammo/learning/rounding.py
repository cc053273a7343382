"""TensorFlow's arithmetic without approximate instructions.

Processors have instructions for approximate reciprocals, 1/x and 1/√x, whose last bits their makers choose. TensorFlow
uses them, and its optimiser of graphs puts them in place of divisions, so that Intel's and AMD's processors train other
networks. Divisions and square roots are the same on all (IEEE 754).

Imported by `networks`, which silences TensorFlow first.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras.src import backend

OPTIMISATIONS = ("arithmetic_optimization", "constant_folding")
"""Of TensorFlow's optimiser of graphs: the first makes reciprocals of divisions, the second computes them."""


def settle() -> None:
    """Let this process divide where TensorFlow and Keras would multiply by an approximate reciprocal."""
    tf.config.optimizer.set_experimental_options(dict.fromkeys(OPTIMISATIONS, False))
    backend.nn.batch_normalization = _batch_normalisation


def _batch_normalisation(
    x: Any, mean: Any, variance: Any, axis: int, offset: Any = None, scale: Any = None, epsilon: float = 1e-3
) -> Any:
    """Do what Keras's function of the same arguments does, by a square root and a division."""
    shape = [-1 if place == axis % len(x.shape) else 1 for place in range(len(x.shape))]
    mean, variance = tf.reshape(mean, shape), tf.reshape(variance, shape)
    factor = (1.0 if scale is None else tf.reshape(scale, shape)) / tf.sqrt(variance + epsilon)
    moved = -mean * factor
    return x * factor + (moved if offset is None else tf.reshape(offset, shape) + moved)


class _Affine(layers.Layer):  # type: ignore[misc]  # keras has no types
    """A batch normalisation with constants: a factor and an offset of each channel."""

    def __init__(self, of: layers.BatchNormalization) -> None:
        super().__init__(name=of.name, dtype=of.dtype_policy)
        deviation = np.sqrt(np.asarray(of.moving_variance) + np.float32(of.epsilon))
        self.factor = (np.asarray(of.gamma) if of.scale else np.float32(1)) / deviation
        self.offset = (np.asarray(of.beta) if of.center else np.float32(0)) - np.asarray(of.moving_mean) * self.factor

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return inputs * self.factor + self.offset


def without_normalisation(network: keras.Model) -> keras.Model:
    """Return the same function, its batch normalisations replaced by constants: a converter would approximate them."""

    def cloned(layer: layers.Layer) -> layers.Layer:
        kind = type(layer)
        return _Affine(layer) if isinstance(layer, layers.BatchNormalization) else kind.from_config(layer.get_config())

    constant = keras.models.clone_model(network, clone_function=cloned)
    for layer in network.layers:
        if not isinstance(layer, layers.BatchNormalization):
            constant.get_layer(layer.name).set_weights(layer.get_weights())
    return constant

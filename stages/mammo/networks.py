"""The networks by name, how they are trained without collapsing, and how they are saved to the same bytes."""

import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mammo import files, stage
from mammo.randomness import seed_of


@contextmanager
def _greetings_kept_back() -> Iterator[None]:
    """TensorFlow's remarks on a machine without a GPU go nowhere; after an error everything written is shown."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


with _greetings_kept_back():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf
    from keras import layers

    tf.config.list_physical_devices()

NAMES = ("baseline",)
Forward = Callable[[tf.Tensor], tf.Tensor]
BATCH = 32  # images a prediction step; always full, so that a score does not depend on its neighbours


def use_threads(threads: int) -> None:
    """Fix TensorFlow's threads: sums are split by their number, so the machine's own would change the bytes.

    A GPU sums as its blocks come in unless it is told not to; on a processor the telling costs time for nothing.
    """
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:  # cannot be set again once it computes
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Layers made inside compute in `float32` or `bfloat16`; their weights are float32 either way."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class _PooledConvolution(layers.Conv2D):
    """Convolution, bias, 2×2 maximum and ReLU: the values of Conv2D with ReLU and MaxPooling2D, in less time.

    Neither bias nor ReLU changes which of four values is the greatest, so both may come after the pooling, where a
    quarter of the values is left. In bfloat16 the bias stays with the convolution: oneDNN computes both gradients at
    once. The weights are those of Conv2D.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        values = tf.nn.conv2d(inputs, self.kernel, 1, "VALID")
        if self.compute_dtype == "bfloat16":
            return tf.nn.relu(tf.nn.max_pool2d(tf.nn.bias_add(values, self.bias), 2, 2, "VALID"))
        return tf.nn.relu(tf.nn.bias_add(tf.nn.max_pool2d(values, 2, 2, "VALID"), self.bias))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        count, height, width, channels = super().compute_output_shape(input_shape)
        return count, height // 2, width // 2, channels


def trainable_baseline(size: tuple[int, int], mean: float, deviation: float, seed: int) -> keras.Model:
    """`baseline` as it is trained: with batch normalisation before the two dense ReLUs.

    As usually trained the specified network dies with most seeds: the inputs of the first dense layer move together,
    one step shifts a unit for all images at once, and its ReLU never opens again. Batch normalisation (Ioffe and
    Szegedy 2015) holds each unit's activation around zero; `fold` moves it into the weights afterwards. The last layer
    starts at zero, so that the first steps are not spent on unlearning random certainty.

    Args:
        size: height and width in pixels.
        mean: of the training images' pixels in [0, 1].
        deviation: the same.
        seed: of the initial weights, He uniform (He et al. 2015).

    """

    def start(name: str) -> keras.Initializer:
        return keras.initializers.HeUniform(seed=seed_of(seed, "weights", name) % 2**31)

    def dense(units: int, name: str) -> list[layers.Layer]:
        return [
            layers.Dense(units, kernel_initializer=start(name), name=name),
            layers.BatchNormalization(momentum=0.9, name=f"{name}_normalisation"),
            layers.ReLU(name=f"{name}_relu"),
        ]

    return keras.Sequential(
        [
            *_normalised(size, mean, deviation),
            _PooledConvolution(16, 5, kernel_initializer=start("convolution_1"), name="convolution_1"),
            _PooledConvolution(32, 3, kernel_initializer=start("convolution_2"), name="convolution_2"),
            layers.Flatten(name="flatten"),
            *dense(16, "dense_1"),
            *dense(8, "dense_2"),
            layers.Dense(2, activation="softmax", kernel_initializer="zeros", dtype="float32", name="class"),
        ],
        name="baseline",
    )


def baseline(size: tuple[int, int], mean: float, deviation: float) -> keras.Model:
    """The specified network on 8-bit grey images: 1,498,218 weights at 224×224.

    Two `Rescaling` layers without weights stand before it: to [0, 1], then by `mean` and `deviation` of the training
    images.
    """
    return keras.Sequential(
        [
            *_normalised(size, mean, deviation),
            layers.Conv2D(16, 5, activation="relu", name="convolution_1"),
            layers.MaxPooling2D(2, name="pooling_1"),
            layers.Conv2D(32, 3, activation="relu", name="convolution_2"),
            layers.MaxPooling2D(2, name="pooling_2"),
            layers.Flatten(name="flatten"),
            layers.Dense(16, activation="relu", name="dense_1"),
            layers.Dense(8, activation="relu", name="dense_2"),
            layers.Dense(2, activation="softmax", name="class"),
        ],
        name="baseline",
    )


def _normalised(size: tuple[int, int], mean: float, deviation: float) -> list[Any]:
    return [
        keras.Input((*size, 1), name="image"),
        layers.Rescaling(1 / 255, name="zero_to_one"),
        layers.Rescaling(1 / deviation, -mean / deviation, name="standardised"),
    ]


def fold(trained: keras.Model, plain: keras.Model) -> None:
    """Give `plain` the weights of `trained`, each batch normalisation folded into the dense layer before it.

    With kernel W, bias b and a normalisation of mean m, variance v, scale g and offset o, the folded layer has
    W·s and (b - m)·s + o, where s = g / sqrt(v + epsilon): the same function.
    """
    normalisations = {layer.name: layer for layer in trained.layers if isinstance(layer, layers.BatchNormalization)}
    for layer in plain.layers:
        if not layer.weights:
            continue
        kernel, bias = trained.get_layer(layer.name).get_weights()
        normalisation = normalisations.get(f"{layer.name}_normalisation")
        if normalisation is not None:
            scale, offset, mean, variance = (value.astype(np.float64) for value in normalisation.get_weights())
            factor = scale / np.sqrt(variance + normalisation.epsilon)
            kernel, bias = kernel * factor, (bias - mean) * factor + offset
        layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])


def forward(model: keras.Model) -> Forward:
    """The compiled forward pass: float32 images (batch, height, width, 1) to the probability of cancer of each."""
    return tf.function(lambda images: model(images, training=False)[:, 1], jit_compile=False)


def features(model: keras.Model) -> Forward:
    """The compiled features of `novelty`: images as for `forward` to the mean of each of the last feature maps."""
    last = next(layer for layer in reversed(model.layers) if len(layer.output.shape) == 4)
    inner = keras.Model(model.inputs, last.output)
    return tf.function(
        lambda images: tf.reduce_mean(tf.cast(inner(images, training=False), tf.float32), (1, 2)), jit_compile=False
    )


def probabilities(step: Forward, images: np.ndarray, positions: np.ndarray, what: str = "") -> np.ndarray:
    """The probability of cancer of the images at `positions`, float64, in their order.

    Every step takes exactly `BATCH` images, the last one filled up, so that the same image gets the same probability
    wherever it stands.

    Args:
        step: of `forward`, or of `features` for a row an image.
        images: uint8, (n, height, width).
        positions: which of them; at least one.
        what: shown before a progress bar; none without it.

    """
    parts = []
    starts = range(0, len(positions), BATCH)
    for first in stage.progress(starts, what, unit="batches") if what else starts:
        chosen = positions[first : first + BATCH]
        batch = np.zeros((BATCH, *images.shape[1:], 1), np.float32)
        batch[: len(chosen), :, :, 0] = images[chosen]
        parts.append(step(tf.constant(batch)).numpy()[: len(chosen)])
    return np.concatenate(parts).astype(float)


def save(model: keras.Model, path: Path) -> None:
    """Write `model` as a .keras file whose bytes depend on nothing but its layers and weights.

    Keras puts the date into the metadata, memory addresses into the configuration and the time into the archive; here
    they are fixed. `keras.models.load_model` reads the file as any other.
    """
    archive = path.with_name(f".{path.stem}.raw.keras")
    model.save(archive)
    try:
        with zipfile.ZipFile(archive) as parts:
            content = {name: parts.read(name) for name in sorted(parts.namelist())}
    finally:
        archive.unlink()
    content["metadata.json"] = json.dumps({**json.loads(content["metadata.json"]), "date_saved": ""}).encode()
    content["config.json"] = json.dumps(_without_addresses(json.loads(content["config.json"]), {})).encode()
    with files.written(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as parts:
        for name, data in content.items():
            parts.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), data)


def _without_addresses(node: Any, seen: dict[int, int]) -> Any:
    """`shared_object_id`s are memory addresses: numbered in the order of their first appearance instead."""
    if isinstance(node, list):
        return [_without_addresses(item, seen) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: seen.setdefault(value, len(seen)) if key == "shared_object_id" else _without_addresses(value, seen)
        for key, value in node.items()
    }

"""Build the networks, predict with them, and save them reproducibly."""

import gc
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mammo.core import files, messages, parallel, processor
from mammo.core.errors import UserError, in_one_line
from mammo.core.randomness import seed_of
from mammo.learning import archives

import numpy as np


@contextmanager
def _uncollected() -> Iterator[None]:
    """Suspend garbage collection, and leave what is loaded out of it: for TensorFlow it takes a second, in vain."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


with messages.kept_back(), _uncollected():  # messages about a missing GPU
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # unasked, none without AVX-512, and a third of the speed
    from mammo.learning import backbones, layer_rates, rounding
    from mammo.learning.backbones import LITE, WEIGHTS

    import keras
    import tensorflow as tf
    from keras import layers

    tf.config.list_physical_devices()
    rounding.settle()

Forward = Callable[[tf.Tensor], tf.Tensor]
HEAD = (backbones.NORMALISATION, "class")  # layers that are trained on top of a frozen network
FLIPPED_AXIS = {"vertical": 1, "horizontal": 2}
FEATURES = 128  # maximum number; neighbouring maps are averaged if there are more
DROPOUT = 0.3  # rate, on the pooled features of `compact`
BATCH = 32  # images per prediction step; always full, so that a score does not depend on the other images


def use_threads(threads: int) -> None:
    """Set the number of TensorFlow's threads, on which the rounding of sums depends.

    On a GPU also make operations deterministic; on a processor they already are, and the option only costs time.
    """
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:  # fixed after the first computation
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Make new layers compute in `float32` or `bfloat16`; their weights are always float32."""
    before = keras.config.dtype_policy()
    processor.allow(precision)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class _PooledConvolution(layers.Conv2D):
    """Faster equivalent of Conv2D with ReLU followed by 2×2 MaxPooling2D, with the same weights.

    Neither bias nor ReLU changes which of four values is the largest, so both are applied after the pooling, to a
    quarter of the values. In bfloat16 the bias stays with the convolution, since oneDNN computes both gradients at
    once.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        values = tf.nn.conv2d(inputs, self.kernel, 1, "VALID")
        if self.compute_dtype == "bfloat16":
            return tf.nn.relu(tf.nn.max_pool2d(tf.nn.bias_add(values, self.bias), 2, 2, "VALID"))
        return tf.nn.relu(tf.nn.bias_add(tf.nn.max_pool2d(values, 2, 2, "VALID"), self.bias))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        count, height, width, channels = super().compute_output_shape(input_shape)
        return count, height // 2, width // 2, channels


class Start(NamedTuple):
    """What a network starts from, and which of its layers are trained."""

    weights: str = "none"
    """Initial weights of all but the last layer: `none`; `imagenet` (backbones only, downloaded); or a file in
    data/weights: the model.keras of a network of the same name, or a backbone as Keras publishes it (…_notop.h5)."""
    frozen: bool = False
    """Train only the last layer, and `thawed` blocks; all others keep the initial weights."""
    thawed: int = 0
    """Number of last blocks."""
    maps: tuple[int, ...] = ()
    """Stages of EfficientNetLite0 whose maps are pooled; all if empty."""


UNTRAINED = Start()


def build(
    name: str, size: tuple[int, int], mean: float, deviation: float, seed: int, start: Start = UNTRAINED
) -> keras.Model:
    """Build a network for training; it maps grey levels of 0 to 255 to the probabilities of both classes.

    Args:
        name: `baseline`, `compact` or one of `backbones.BACKBONES`.
        size: height and width in pixels.
        mean: mean of the training images' pixels, scaled to [0, 1].
        deviation: standard deviation of the same pixels.
        seed: seed of the initial weights.
        start: initial weights, and layers that are trained.

    Raises:
        UserError: the weights cannot be loaded or belong to another network.

    """
    _refuse_unsuitable(name, start)
    if name == "baseline":
        return trainable_baseline(size, mean, deviation, seed)
    stored, trained = given(start.weights), start.weights.endswith(".keras")
    if name == "compact":
        model = compact(size, mean, deviation, seed)
    else:
        published = str(stored[0]) if stored else start.weights
        image, means = backbones.means(name, size, seed, "none" if trained else published, start.maps)
        model = keras.Model(image, _classes()(means), name=name)
    if trained:
        _start_from(model, stored[0])
    thawed = layer_rates.blocks(model)[-start.thawed :] if start.thawed else []
    for layer in model.layers:
        layer.trainable = not start.frozen or layer.name in HEAD or layer_rates.block(layer.name) in thawed
    return model


def _refuse_unsuitable(name: str, start: Start) -> None:
    weights = start.weights
    if weights != "none" and name == "baseline":
        raise UserError(f"train.weights is {weights!r}; baseline starts from none")
    if start.frozen and weights == "none":
        raise UserError("train.frozen is true, but train.weights is none: the frozen layers would be random")
    if start.thawed and not start.frozen:
        raise UserError(f"train.thawed is {start.thawed}, but train.frozen is false: all blocks are trained anyway")
    if start.thawed and name not in (LITE, "compact"):
        raise UserError(f"train.thawed is {start.thawed}, but {name} has no blocks; {LITE} and compact have")
    if start.maps and name != LITE:
        raise UserError(f"train.maps is {list(start.maps)}; only {LITE} has stages to choose from")
    allowed = {LITE: "none, imagenet"}.get(name, None if name in backbones.BACKBONES else "none")
    if allowed and weights not in allowed.split(", ") and not weights.endswith(".keras"):
        allowed += f" and a .keras file in {WEIGHTS}"
        raise UserError(f"train.weights is {weights!r}; allowed for {name} are {allowed}")


def _start_from(model: keras.Model, path: Path) -> None:
    """Copy the weights of a trained network of the same kind to `model`, except for the last layer.

    Raises:
        UserError: the file cannot be read or holds another network.

    """
    try:
        weights = {layer.name: layer.get_weights() for layer in load(path).layers}
    except UserError as error:
        raise UserError(f"train.weights: {error}") from error
    for layer in model.layers[:-1]:
        stored = weights.get(layer.name, [])
        if [array.shape for array in stored] != [array.shape for array in layer.get_weights()]:
            raise UserError(f"train.weights: {path} is another network: its layer {layer.name} is missing or differs")
        layer.set_weights(stored)


def given(weights: str) -> list[Path]:
    """Return the file in data/weights with the initial weights, as a list of at most one path.

    Raises:
        UserError: there is no such file, or it lies elsewhere.

    """
    if weights in ("none", "imagenet"):
        return []
    path = WEIGHTS / weights
    if not path.is_file():
        raise UserError(f"train.weights: {path} does not exist; {WEIGHTS / 'README.md'} says what belongs there")
    if not path.resolve().is_relative_to(WEIGHTS.resolve()):
        raise UserError(f"train.weights: {path} is a link out of {WEIGHTS}: copy the file there, where DVC watches it")
    return [path]


def finished(name: str, trained: keras.Model, mean: float, deviation: float, maps: tuple[int, ...] = ()) -> keras.Model:
    """Return a trained network in the form that is saved: float32, with the batch normalisation of `baseline` fused."""
    size = trained.input_shape[1:3]
    with arithmetic("float32"):
        if name == "baseline":
            model = baseline(size, mean, deviation)
            fuse(trained, model)
        else:
            model = build(name, size, mean, deviation, 0, Start(maps=maps))
            model.set_weights(trained.get_weights())
    return model


def compact(size: tuple[int, int], mean: float, deviation: float, seed: int) -> keras.Model:
    """Build a small residual network (He et al. 2016) for any input size: 304,722 weights, fast on two cores.

    The resolution is halved four times, with 16 to 128 batch-normalised feature maps; at 0.5 mm per pixel the last maps
    have a receptive field of about 25 mm. Their means describe the breast as a whole; their maxima detect a lesion
    anywhere in it.
    """
    image, *scaling = _normalised(size, mean, deviation)
    values = image
    for layer in scaling:
        values = layer(values)
    values = layers.ReLU(name="stem_relu")(_convolution(values, 16, 5, 2, "stem", seed))
    for number, channels in enumerate((32, 64, 128), 1):
        values = _residual(values, channels, f"block_{number}", seed)
    values = layers.Activation("linear", dtype="float32", name="maps")(values)
    pooled = [layers.GlobalAveragePooling2D(name="mean")(values), layers.GlobalMaxPooling2D(name="maximum")(values)]
    pooled = layers.Concatenate(name="pooled")(pooled)
    dropped = layers.Dropout(DROPOUT, seed=seed_of(seed, "dropout") % 2**31, name="dropout")(pooled)
    return keras.Model(image, _classes()(dropped), name="compact")


def _convolution(values: Any, channels: int, width: int, stride: int, name: str, seed: int) -> Any:
    start = keras.initializers.HeNormal(seed=seed_of(seed, "weights", name) % 2**31)
    layer = layers.Conv2D(channels, width, stride, padding="same", use_bias=False, kernel_initializer=start, name=name)
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_normalisation")(layer(values))


def _residual(values: Any, channels: int, name: str, seed: int) -> Any:
    """Return a residual block: two 3×3 convolutions at half the resolution, and a 1×1 shortcut on 2×2 means."""
    within = layers.ReLU(name=f"{name}_relu_1")(_convolution(values, channels, 3, 2, f"{name}_1", seed))
    within = _convolution(within, channels, 3, 1, f"{name}_2", seed)
    beside = layers.AveragePooling2D(2, padding="same", name=f"{name}_half")(values)
    beside = _convolution(beside, channels, 1, 1, f"{name}_beside", seed)
    return layers.ReLU(name=f"{name}_relu_2")(layers.Add(name=f"{name}_sum")([within, beside]))


def _classes() -> layers.Layer:
    return layers.Dense(2, activation="softmax", kernel_initializer="zeros", dtype="float32", name="class")


def trainable_baseline(size: tuple[int, int], mean: float, deviation: float, seed: int) -> keras.Model:
    """Build `baseline` as it is trained: with batch normalisation before the two dense ReLUs.

    Without it the network collapses with most seeds: the inputs of the first dense layer are highly correlated, so
    that one step can make a unit negative for all images, and its ReLU stays at zero. Batch normalisation (Ioffe and
    Szegedy 2015) keeps each unit's activation around zero; `fuse` merges it into the weights afterwards. The last
    layer starts at zero, so that the first predictions are not confident at random.

    The arguments are those of `build`; the initial weights are He uniform (He et al. 2015).
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
            _classes(),
        ],
        name="baseline",
    )


def baseline(size: tuple[int, int], mean: float, deviation: float) -> keras.Model:
    """Build the specified network for 8-bit grey images: 1,498,218 weights at 224×224.

    Two `Rescaling` layers without weights come first: to [0, 1], then by `mean` and `deviation` of the training
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


def fuse(trained: keras.Model, plain: keras.Model) -> None:
    """Copy the weights of `trained` to `plain`, each batch normalisation fused with the dense layer before it.

    With kernel W, bias b and a normalisation with mean m, variance v, scale g and offset o, the fused layer has kernel
    W·s and bias (b - m)·s + o, where s = g / sqrt(v + epsilon), and computes the same function.
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


def forward(model: keras.Model, flip: str = "none") -> Forward:
    """Return the compiled forward pass: float32 images (batch, height, width, 1) to their probabilities of cancer.

    With `flip` (`horizontal` or `vertical`) the probabilities of the image and of its mirror image are averaged.
    """

    def chance(images: tf.Tensor) -> tf.Tensor:
        return flipped_mean(model, images, model(images, training=False), flip)[:, 1]

    return tf.function(chance, jit_compile=False)


def flipped_mean(model: keras.Model, images: tf.Tensor, seen: tf.Tensor, flip: str) -> tf.Tensor:
    """Return the mean of `seen`, what `model` returns for `images`, and what it returns for their mirror images."""
    if flip == "none":
        return seen
    return (seen + model(tf.reverse(images, [FLIPPED_AXIS[flip]]), training=False)) / 2


def features(model: keras.Model) -> Forward:
    """Return the compiled features for `novelty`: images as for `forward` to `means` of the last feature maps."""
    inner = with_maps(model)
    return tf.function(lambda images: means(inner(images, training=False)[0]), jit_compile=False)


def with_maps(model: keras.Model) -> keras.Model:
    """Return `model` with two outputs: its last feature maps, (batch, height, width, channels), and its own output."""
    last = next(layer for layer in reversed(model.layers) if len(layer.output.shape) == 4)
    return keras.Model(model.inputs, [last.output, model.outputs[0]])


def means(maps: tf.Tensor) -> tf.Tensor:
    """Return the mean of each map; if there are more than `FEATURES` maps, neighbouring maps are averaged."""
    channels = maps.shape[-1]
    groups = next(count for count in range(min(channels, FEATURES), 0, -1) if channels % count == 0)
    values = tf.reduce_mean(tf.cast(maps, tf.float32), (1, 2))
    return tf.reduce_mean(tf.reshape(values, (-1, groups, channels // groups)), 2)


def outputs(step: Forward, images: np.ndarray, positions: np.ndarray, what: str = "") -> Iterator[np.ndarray]:
    """Yield the output of `step` for each of the images at `positions`, in order.

    Every batch has exactly `BATCH` images, the last one padded, so that the output of an image does not depend on its
    position.

    Args:
        step: function of a batch of images, float32 (`BATCH`, height, width, 1), with one output per image.
        images: uint8, (n, height, width).
        positions: indices of the images.
        what: label of the progress bar; no bar if empty.

    """
    starts = range(0, len(positions), BATCH)
    for first in parallel.progress(starts, what, unit="batches"):
        chosen = positions[first : first + BATCH]
        batch = np.zeros((BATCH, *images.shape[1:], 1), np.float32)
        batch[: len(chosen), :, :, 0] = images[chosen]
        yield from step(tf.constant(batch)).numpy()[: len(chosen)]


def probabilities(step: Forward, images: np.ndarray, positions: np.ndarray, what: str = "") -> np.ndarray:
    """Return the probability of cancer of the images at `positions` (at least one): float64, (n,).

    With a `step` of `features` instead of `forward`, return a row of features per image, (n, channels). The arguments
    are those of `outputs`.
    """
    return np.stack(list(outputs(step, images, positions, what))).astype(float)


def load(path: Path) -> keras.Model:
    """Read a saved network.

    Raises:
        UserError: it cannot be read, or is no network of this project.

    """
    if reason := archives.foreign(path):
        raise UserError(f"{path} cannot be read: {reason}")
    try:
        return keras.models.load_model(path)
    except Exception as error:  # Keras raises many types
        raise UserError(f"{path} cannot be read: {in_one_line(error)}") from error


def save(model: keras.Model, path: Path) -> None:
    """Write `model` as a .keras file whose bytes depend only on its layers and weights.

    Keras writes the date to the metadata, memory addresses to the configuration and the time to the archive; here
    they are constant. `keras.models.load_model` reads the file like any other.
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
    """Replace memory addresses (`shared_object_id`) by numbers in the order of first appearance."""
    if isinstance(node, list):
        return [_without_addresses(item, seen) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: seen.setdefault(value, len(seen)) if key == "shared_object_id" else _without_addresses(value, seen)
        for key, value in node.items()
    }

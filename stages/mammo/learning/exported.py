"""Run an exported network with LiteRT: this is what is scored and what predicts, without TensorFlow.

A network takes one image at a time on one thread of LiteRT, several images side by side: its bits then depend neither
on the other images nor on the number of cores.
"""

import importlib.metadata
import queue
from pathlib import Path
from typing import NamedTuple

from mammo.core import files, messages, model_info, parallel
from mammo.core.errors import UserError, in_one_line
from mammo.core.model_info import ModelInfo
from mammo.learning import novelty

import numpy as np
from ai_edge_litert.interpreter import Interpreter

NAME = "model.tflite"
Signature = dict[str, tuple[list[int], str]]
"""Shape and type of the input and of each output, by name."""
INTERPRETERS = 8  # at most, side by side; each holds its own copy of the weights
INPUT, PROBABILITIES, FEATURES = "image", "probabilities", "features"
"""Names of the input and of the outputs."""


def version() -> str:
    """Return the version of LiteRT that is installed."""
    return importlib.metadata.version("ai-edge-litert")


class Outputs(NamedTuple):
    """What a network gives for n images."""

    probabilities: np.ndarray
    """(n,) probabilities of cancer, float64."""
    features: np.ndarray
    """(n, channels) means of the last feature maps, for `novelty`, float64."""


class Exported:
    """An exported network, ready to run."""

    def __init__(self, content: bytes, name: str = NAME) -> None:
        """Load the bytes of a LiteRT file; error messages refer to it as `name`.

        Raises:
            UserError: this LiteRT cannot run it.

        """
        self._content, self._name = content, name
        self._idle: queue.LifoQueue[Interpreter] = queue.LifoQueue()
        with messages.kept_back():  # that it is ready, once per process, or the error
            try:
                self._idle.put(self._interpreter())
                failure = ""
            except (ValueError, RuntimeError) as error:
                failure = in_one_line(error)
        if failure:
            raise UserError(f"{name} cannot be run by LiteRT {version()}: {failure}")

    def _interpreter(self) -> Interpreter:
        interpreter = Interpreter(model_content=self._content, num_threads=1)
        interpreter.allocate_tensors()
        return interpreter

    @property
    def signature(self) -> Signature:
        """Shape and type of the input and of each output, by name; a side of any length is -1."""
        interpreter = self._idle.queue[0]
        if len(interpreter.get_signature_list()) != 1:
            return {}
        runner = interpreter.get_signature_runner()
        tensors = runner.get_input_details() | runner.get_output_details()
        return {name: (each["shape_signature"].tolist(), each["dtype"].__name__) for name, each in tensors.items()}

    def outputs(self, images: np.ndarray, positions: np.ndarray, what: str = "") -> Outputs:
        """Return the outputs for the images at `positions`, in order.

        Args:
            images: uint8, (n, height, width).
            positions: indices of the images, at least one.
            what: label of the progress bar; no bar if empty.

        Raises:
            UserError: a probability or feature is no number.

        """
        work = parallel.each(lambda at: self._run(images[at]), positions.tolist(), what, threads=INTERPRETERS)
        chances, features = zip(*work, strict=True)
        outputs = Outputs(np.array(chances, dtype=float), np.array(features, dtype=float))
        if not all(np.isfinite(values).all() for values in outputs):
            raise UserError(f"{self._name} gives probabilities or features that are not numbers")
        return outputs

    def _run(self, image: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            interpreter = self._idle.get_nowait()
        except queue.Empty:
            interpreter = self._interpreter()
        ran = interpreter.get_signature_runner()(**{INPUT: image[None, :, :, None].astype(np.float32)})
        self._idle.put(interpreter)
        return ran[PROBABILITIES][0, 1], ran[FEATURES][0]


def load(model: Path, info: ModelInfo) -> Exported:
    """Load MODEL/model.tflite.

    Args:
        model: folder of a model.
        info: its model info, with the hash of the file.

    Raises:
        UserError: the file is missing, is not the one that the model info describes, or cannot be run.

    """
    path, described = model / NAME, model / model_info.NAME
    if not path.is_file():
        raise UserError(f"{path} does not exist, but {described} describes it: run `dvc repro` or `dvc pull`")
    if files.sha256(path) != info.exported:
        raise UserError(f"{path} is not the file that {described} describes: it was changed, or is of another model")
    exported = Exported(path.read_bytes(), str(path))
    found = exported.signature
    channels = found.get(FEATURES, ([0], ""))[0][-1]
    expected = {
        INPUT: ([-1, *info.preprocess.size, 1], "float32"),
        PROBABILITIES: ([-1, 2], "float32"),
        FEATURES: ([-1, channels], "float32"),
    }
    if found != expected:
        raise UserError(
            f"{path} takes and returns {found}; by {model_info.NAME} these are {expected}: "
            "the two files are not of one model"
        )
    novelty.refuse_unusable(info.training_features, channels, described)
    black = np.zeros((1, *info.preprocess.size), np.uint8)
    exported.outputs(black, np.arange(1))  # raises an error where weights are no numbers
    return exported

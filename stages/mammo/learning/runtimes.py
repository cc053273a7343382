"""Run exported files by the runtimes of their formats, each of which needs no other package of this project.

`Runtime` is what they share; LiteRT is `exported.Exported`.
"""

from pathlib import Path
from typing import Any, Protocol

from mammo.core.errors import UserError, in_one_line
from mammo.learning.exported import FEATURES, INPUT, PROBABILITIES, Exported, Outputs, Signature
from mammo.learning.scorer import Scorer

import numpy as np

BATCH = 32  # images per call


class Runtime(Scorer, Protocol):
    """An exported file that is ready to run."""

    @property
    def signature(self) -> Signature:
        """Shape and type of the input and of each output, by name; a side of any length is -1."""


class _InBatches:
    """Runs batches of images through `_run`."""

    def outputs(self, images: np.ndarray, positions: np.ndarray, what: str = "") -> Outputs:
        ran = [
            self._run(images[positions[first : first + BATCH], :, :, None].astype(np.float32))
            for first in range(0, len(positions), BATCH)
        ]
        chances, features = (np.concatenate([each[name] for each in ran]) for name in (PROBABILITIES, FEATURES))
        return Outputs(chances[:, 1].astype(float), features.astype(float))

    def _run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        raise NotImplementedError


class OnnxRuntime(_InBatches):
    """An ONNX file."""

    def __init__(self, path: Path) -> None:
        """Load a file; raise UserError if it cannot be run."""
        import onnxruntime  # an extra

        try:
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own types, which are not public
            raise UserError(f"{path} cannot be run by ONNX Runtime: {in_one_line(error)}") from error

    @property
    def signature(self) -> Signature:
        """As `Runtime.signature`."""
        tensors = [*self._session.get_inputs(), *self._session.get_outputs()]
        kinds = {"tensor(float)": "float32"}
        return {
            each.name: (
                [side if isinstance(side, int) else -1 for side in each.shape],
                kinds.get(each.type, each.type),
            )
            for each in tensors
        }

    def _run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        names = [PROBABILITIES, FEATURES]
        return dict(zip(names, self._session.run(names, {INPUT: batch}), strict=True))


class SavedModel(_InBatches):
    """A SavedModel folder of TensorFlow."""

    def __init__(self, path: Path) -> None:
        """Load a folder; raise UserError if it cannot be run."""
        from mammo.learning import networks  # noqa: F401  # silences TensorFlow

        import tensorflow as tf

        try:
            self._loaded = tf.saved_model.load(path)  # keeps the variables alive
            self._function: Any = self._loaded.signatures["serving_default"]
        except Exception as error:  # TensorFlow raises many types
            raise UserError(f"{path} cannot be run by TensorFlow: {in_one_line(error)}") from error

    @property
    def signature(self) -> Signature:
        """As `Runtime.signature`."""
        given = self._function.structured_input_signature[1] | self._function.structured_outputs
        return {
            name: ([-1 if side is None else side for side in spec.shape], spec.dtype.name)
            for name, spec in given.items()
        }

    def _run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        import tensorflow as tf

        return {name: tensor.numpy() for name, tensor in self._function(**{INPUT: tf.constant(batch)}).items()}


def load(kind: str, path: Path) -> Runtime:
    """Load an exported file of the format `kind`: `litert`, `onnx` or `savedmodel`.

    Raises:
        UserError: it cannot be run.

    """
    if kind == "litert":
        return Exported(path.read_bytes(), str(path))
    return OnnxRuntime(path) if kind == "onnx" else SavedModel(path)

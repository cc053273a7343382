"""Look at a .keras file before Keras reads it: only what this project's networks consist of is let through."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST = {"config.json": 2**24, "metadata.json": 2**16, "model.weights.h5": 2**31}
"""The parts of a .keras file, each with the bytes that it may have; the largest network here has 95 million."""
WIDEST = 4096  # feature maps of a layer, or pixels of a side
MODULES = ("keras", "keras.layers", "keras.initializers", "keras.src.models.functional", "keras.src.ops.numpy", None)
CLASSES = frozenset(
    [
        "Activation",
        "Add",
        "Average",
        "AveragePooling2D",
        "BatchNormalization",
        "Concatenate",
        "Conv2D",
        "DTypePolicy",
        "Dense",
        "DepthwiseConv2D",
        "Dropout",
        "Flatten",
        "Functional",
        "GlobalAveragePooling2D",
        "GlobalMaxPooling2D",
        "GlorotUniform",
        "HeNormal",
        "InputLayer",
        "MaxPooling2D",
        "Multiply",
        "Normalization",
        "Ones",
        "ReLU",
        "Rescaling",
        "Reshape",
        "Sequential",
        "VarianceScaling",
        "ZeroPadding2D",
        "Zeros",
        "__keras_tensor__",
    ]
)
"""Every class in the files that this project writes. Others can read files, reach the network or run code."""


def foreign(path: Path) -> str:
    """Return why a file is no network of this project; empty if it may be one.

    Nothing in it is run, inflated or built.

    Args:
        path: a .keras file.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            for part in parts:
                if part.filename not in LARGEST:
                    return f"it holds {ascii(part.filename)[:100]}, which no network here has"
                if part.compress_type != zipfile.ZIP_STORED or part.file_size > LARGEST[part.filename]:
                    return f"{part.filename} is compressed or has more than {LARGEST[part.filename]:,} bytes"
            if sorted(part.filename for part in parts) != sorted(LARGEST):
                return f"it must hold {', '.join(LARGEST)}, each once"
            config = json.loads(archive.read("config.json"))
        return next(_faults(config), "")
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        return f"it is no whole .keras file ({' '.join(str(error).split())[:100]})"
    except RecursionError:
        return "its description is nested too deeply"


def _faults(node: Any) -> Iterator[str]:
    """Yield what in a description, at any depth, no network of this project has."""
    if isinstance(node, dict):
        kind, module = node.get("class_name"), node.get("module")
        if "class_name" in node and not (isinstance(kind, str) and kind in CLASSES and module in MODULES):
            yield f"it holds {ascii(kind)[:100]} of {ascii(module)[:100]}, which no network here has"
        for key in ("units", "filters"):
            if isinstance(width := node.get(key), int) and width > WIDEST:
                yield f"it has a layer of {width:,} {key}; at most {WIDEST:,} are allowed"
        for value in node.values():
            yield from _faults(value)
    elif isinstance(node, list):
        for value in node:
            yield from _faults(value)

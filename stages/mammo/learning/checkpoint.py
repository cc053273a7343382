"""State of an interrupted training: saved after each epoch, resumed by the next run with the same inputs."""

import hashlib
import importlib.metadata
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mammo.core import files

import numpy as np

ARITHMETIC = ("tensorflow", "keras", "numpy", "opencv-python-headless")


def digest(settings: Mapping[str, Any], data: list[Path]) -> str:
    """Return the SHA-256 of everything that affects the trained weights: settings, data, code and libraries."""
    stages = Path(__file__).parents[2]
    loaded = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    code = sorted({Path(path) for path in loaded if path and Path(path).is_relative_to(stages)})
    what = {
        "settings": settings,
        "data": {path.name: files.sha256(path) for path in data},
        "code": {path.relative_to(stages).as_posix(): files.sha256(path) for path in code},
        "libraries": {name: importlib.metadata.version(name) for name in ARITHMETIC},
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def load(folder: Path, key: str) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """Return the notes and arrays of the last finished epoch, or None if there is no state with this key."""
    path = folder / "state.npz"
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file) as state:
            notes = json.loads(str(state["notes"]))
            if notes["key"] != key:
                return None
            return notes, [state[f"array_{position}"] for position in range(len(state.files) - 1)]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:  # e.g. after a power failure
        print(f"train: {path} cannot be read ({error}): starting again", flush=True)
        return None


def store(folder: Path, key: str, notes: Mapping[str, Any], arrays: list[np.ndarray]) -> None:
    """Replace the state atomically."""
    named = {f"array_{position}": array for position, array in enumerate(arrays)}
    with files.written(folder / "state.npz") as beside, beside.open("wb") as file:
        np.savez(file, notes=np.array(json.dumps({**notes, "key": key})), **named)  # type: ignore[arg-type]


def remove(folder: Path) -> None:
    """Remove the state of a finished training."""
    (folder / "state.npz").unlink(missing_ok=True)

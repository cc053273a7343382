"""Export a model for other programs, with a description of what goes in and comes out; check an export against it."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from mammo.core import dataset, files, model_info, revisions, settings
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.core.randomness import generator
from mammo.core.settings import Settings
from mammo.core.wording import counted
from mammo.learning import exported, runtimes, scorer
from mammo.learning.exported import FEATURES, INPUT, PROBABILITIES, Outputs, Signature
from mammo.predicting.answers import NOTICE

import cv2
import numpy as np
from pydantic import Field

METADATA = "metadata.json"
FILES = {"litert": exported.NAME, "onnx": "model.onnx", "savedmodel": "saved_model"}
"""File or folder of each format."""
MADE_UP = 64  # images for the parity run where the images of the model's own set are not here
PREPARED = Path("data/prepared")
TOLERANCE = 1e-4  # of a probability: rounding is below 1e-5, another network far above
MEANINGS = {
    INPUT: "grey levels from 0 (black, background) to 255, not scaled otherwise; [image, row, column, 0]",
    PROBABILITIES: "of healthy and of cancer, in this order",
    FEATURES: "means of the last feature maps; far from those of the training images, an image is unlike them",
}


class Tensor(Settings):
    """An input or output."""

    type: str
    shape: list[Annotated[int, Field(ge=1, le=4096)] | Literal["batch"]]
    values: str


class Example(Settings):
    """An image of one grey level, and what the network makes of it."""

    grey_level: Annotated[int, Field(ge=0, le=255)]
    probability_of_cancer: float


class Parity(Settings):
    """Comparison with the file that the model was scored with."""

    images: int
    of: str
    maximum_difference: float
    readings_that_flip: int


class Metadata(Settings):
    """Content of metadata.json."""

    version: Literal[1] = 1
    notice: str
    format: Literal["litert", "onnx", "savedmodel"]
    file: str
    sha256: dict[str, str]
    """Hash of the file, or of each file in the folder."""
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    examples: list[Example]
    parity: Parity
    model: dict[str, Any]
    """The model info (model.json): size, canonicalisation, thresholds, recalibration, training set."""


class Compared(NamedTuple):
    """Images on which two files are compared."""

    images: np.ndarray
    positions: np.ndarray
    what: str


def write(kind: Literal["litert", "onnx", "savedmodel"], out: Path, model: Path, info: ModelInfo) -> str:
    """Export the model of the folder MODEL as a file of the format `kind` to the folder OUT; return what was done.

    Raises:
        UserError: the licence of the training set forbids it, OUT holds something else, packages are missing, or the
            exported file gives another reading for an image.

    """
    model_info.refuse_if_private(info, "mammo export")
    refuse_to_replace(out)
    scored = scorer.load(model, info)
    with files.written(out) as folder:
        folder.mkdir()
        path = folder / FILES[kind]
        _write_file(kind, path, model, info)
        runtime = runtimes.load(kind, path)
        compared = _compared(info)
        parity = _parity(scored.outputs(*compared[:2]), runtime.outputs(*compared[:2]), info.thresholds, compared.what)
        described = _metadata(kind, runtime, parity, _hashes(path), info)
        files.write_json(folder / METADATA, described.model_dump())
    return (
        f"{out / FILES[kind]} and {METADATA}: {info.network}, trained on {info.trained_on.in_words}.\n"
        f"Parity with the file that was scored, on {parity.of}: probabilities differ by at most "
        f"{parity.maximum_difference:.1e}; readings that flip: none.\n{NOTICE}"
    )


def refuse_to_replace(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier export: it would be replaced as a whole.

    Raises:
        UserError: it does, or it is an output of the pipeline.

    """
    output = Path("dvc.yaml").is_file() and revisions.is_output(out)  # a model may be exported outside of the project
    if output or (out.exists() and not out.is_dir()):
        raise UserError(f"{out} is an output of the pipeline, or a file; name another folder")
    if out.is_dir() and any(out.iterdir()) and not (out / METADATA).is_file():
        raise UserError(f"{out} holds something else; name a new folder")


def _write_file(kind: str, path: Path, model: Path, info: ModelInfo) -> None:
    if kind == "litert" and info.exported:
        shutil.copyfile(model / exported.NAME, path)
        return
    from mammo.learning import export, model_folder  # imports TensorFlow

    network = model_folder.load(model, info)
    writers: dict[str, Callable[[], object]] = {
        "litert": lambda: path.write_bytes(export.litert(network, info.flip_at_test)),
        "onnx": lambda: export.onnx(network, info.flip_at_test, path),
        "savedmodel": lambda: export.saved_model(network, info.flip_at_test, path),
    }
    writers[kind]()


def _compared(info: ModelInfo) -> Compared:
    """Return the test images of the model's own set or, where they are not here, made-up ones."""
    index = PREPARED / "index.csv"
    if info.index and index.is_file() and files.sha256(index) == info.index:
        data = dataset.load(PREPARED)
        positions = data.part("test")
        return Compared(data.images, positions, f"{counted(len(positions), 'test image')} of {PREPARED}")
    random, (height, width) = generator(0, "parity"), info.preprocess.size
    coarse = random.uniform(0, 256, (MADE_UP, 8, 8)) * random.uniform(0.2, 1, (MADE_UP, 1, 1))
    images = np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in coarse])
    what = f"{MADE_UP} made-up images, since the images of the model's own set are not here"
    return Compared(images.clip(0, 255).astype(np.uint8), np.arange(MADE_UP), what)


def _parity(scored: Outputs, ran: Outputs, thresholds: Mapping[str, float], what: str) -> Parity:
    """Compare probabilities and readings at all thresholds.

    Raises:
        UserError: a reading differs, or a probability by more than `TOLERANCE`.

    """
    limits = np.array(list(thresholds.values()))
    flipped = ((scored.probabilities[:, None] >= limits) != (ran.probabilities[:, None] >= limits)).any(axis=1)
    largest = float(np.abs(scored.probabilities - ran.probabilities).max())
    if flipped.any() or not largest <= TOLERANCE:
        raise UserError(
            f"the exported file is not the model that was scored: on {what} its probabilities differ by up to "
            f"{largest:.1e}, and {counted(int(flipped.sum()), 'reading')} at the locked thresholds; nothing was written"
        )
    return Parity(images=len(flipped), of=what, maximum_difference=largest, readings_that_flip=0)


def _metadata(
    kind: Literal["litert", "onnx", "savedmodel"],
    runtime: runtimes.Runtime,
    parity: Parity,
    hashes: dict[str, str],
    info: ModelInfo,
) -> Metadata:
    tensors = {name: _tensor(name, *form) for name, form in runtime.signature.items()}
    levels = (0, 128, 255)
    chances = _of_grey_levels(runtime, levels, info.preprocess.size)
    return Metadata(
        notice=NOTICE,
        format=kind,
        file=FILES[kind],
        sha256=hashes,
        inputs={INPUT: tensors.pop(INPUT)},
        outputs=tensors,
        examples=[
            Example(grey_level=level, probability_of_cancer=chance)
            for level, chance in zip(levels, chances, strict=True)
        ],
        parity=parity,
        model=info.model_dump(by_alias=True, mode="json"),
    )


def _tensor(name: str, shape: list[int], kind: str) -> Tensor:
    return Tensor(type=kind, shape=["batch" if side < 0 else side for side in shape], values=MEANINGS[name])


def _of_grey_levels(runtime: runtimes.Runtime, levels: tuple[int, ...], size: tuple[int, int]) -> list[float]:
    images = np.stack([np.full(size, level, np.uint8) for level in levels])
    return runtime.outputs(images, np.arange(len(levels))).probabilities.tolist()


def _hashes(path: Path) -> dict[str, str]:
    """Return the SHA-256 of a file, or of each file in a folder, by its name from the folder above `path`."""
    inside = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    return {each.relative_to(path.parent).as_posix(): files.sha256(each) for each in inside}


def check(folder: Path) -> str:
    """Check the export in FOLDER against its metadata.json; return what was checked.

    Raises:
        UserError: a file is missing or was changed, or takes, gives or computes something else than described.

    """
    described = settings.check(Metadata, files.read_json(folder / METADATA), folder / METADATA)
    path = folder / FILES[described.format]
    if described.file != path.name or not path.exists():
        raise UserError(f"{path} does not exist, but {folder / METADATA} describes it")
    if (hashes := _hashes(path)) != described.sha256:
        wrong = sorted(name for name in hashes | described.sha256 if hashes.get(name) != described.sha256.get(name))
        raise UserError(f"{folder / wrong[0]} is not the file that {folder / METADATA} describes: it was changed")
    runtime = runtimes.load(described.format, path)
    tensors = described.inputs | described.outputs
    expected: Signature = {
        name: ([-1 if side == "batch" else side for side in tensor.shape], tensor.type)
        for name, tensor in tensors.items()
    }
    if runtime.signature != expected:
        raise UserError(f"{path} takes and returns {runtime.signature}; by {METADATA} these are {expected}")
    height, width = expected[INPUT][0][1:3]
    levels = tuple(example.grey_level for example in described.examples)
    chances = np.array(_of_grey_levels(runtime, levels, (height, width)))
    differences = np.abs(chances - [example.probability_of_cancer for example in described.examples])
    if not (differences <= TOLERANCE).all():
        raise UserError(
            f"{path} computes something else than {METADATA} says: a probability differs by {differences.max():.1e}"
        )
    return (
        f"{path} is as {METADATA} describes it: hashes, {counted(len(expected), 'tensor')}, and "
        f"{counted(len(levels), 'example')}, which differ by at most {differences.max():.1e}.\n{NOTICE}"
    )

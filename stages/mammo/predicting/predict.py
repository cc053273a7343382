"""The probability of cancer for images and DICOM files that no training has seen."""

import glob
import json
import os
import stat
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mammo.core import files, model_info, parallel
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.imaging import dicom, images
from mammo.imaging.appearance import appearance
from mammo.learning import novelty

NOTICE = "For research only: not a medical device, no finding, no advice."
STRANGE = "the network sees something that no training image showed"
SUSPECTED, UNSUSPECTED, UNREADABLE = "cancer suspected", "no suspicion", "unreadable"
COLUMNS = ("file", "probability", "reading", "warnings", "reason", "heatmap")
MAX_BYTES = 500_000_000  # of a file; an uncompressed full-field mammogram has 10 to 60 million
DECODERS = 4  # threads at most, since each may hold a full-field mammogram as floating point; the network is slower
WIDEST_NAME = 80  # characters for which the table leaves room
AHEAD = 64  # images decoded before the network asks for them


@dataclass(frozen=True)
class Scan:
    """A file as read."""

    path: Path
    image: np.ndarray | None
    """uint8, (height, width); None where it could not be read."""
    warnings: tuple[str, ...] = ()
    """In what it does not look like a mammogram that the model was trained on."""
    reason: str = ""
    """Why it could not be read."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one file."""

    path: Path
    probability: float | None
    """Of cancer; None where the file could not be read."""
    reading: str
    """`cancer suspected`, `no suspicion` or `unreadable`."""
    warnings: tuple[str, ...]
    reason: str
    """Why it could not be read."""
    heatmap: str = ""
    """Name of the picture of its heat map; empty without one."""


def read_info(model: Path) -> ModelInfo:
    """Read MODEL/model.json.

    Raises:
        UserError: the folder holds no model, or one that this project did not make.

    """
    for name in ("model.keras", model_info.NAME):
        if not (model / name).is_file():
            raise UserError(f"{model / name} does not exist: run `dvc repro`, `dvc pull`, or name a model with --model")
    return model_info.read(model)


def threshold_of(info: ModelInfo, rule: str) -> float:
    """Return the locked threshold of a rule.

    Raises:
        UserError: there is no such rule.

    """
    if rule not in info.thresholds:
        raise UserError(f"--threshold {rule}: the model has {', '.join(info.thresholds)}")
    return info.thresholds[rule]


def find(arguments: Sequence[str]) -> tuple[list[Path], int]:
    """The files that the arguments name, and the number of others that lay in the folders and are no images.

    The arguments in their order, what is in a folder or matches a pattern by name. A file that is named is taken
    whatever it is called; of a folder, at any depth, those that are called like an image, and those without an
    extension (or with a number for one, as unique identifiers end) that bear DICOM's mark. Hidden files and folders
    are left out, links to folders are not followed.

    Raises:
        UserError: an argument names nothing, or there is no image at all.

    """
    found: list[Path] = []
    others = 0
    for argument in arguments:
        named = [argument] if os.path.lexists(argument) else sorted(glob.glob(argument, recursive=True))  # noqa: PTH207
        if not named:
            raise UserError(f"{shown(Path(argument))} does not exist")
        for path in map(Path, named):
            if path.is_dir():
                inside = list(_below(path))
                taken = [file for file in inside if _is_image(file)]
                found, others = found + taken, others + len(inside) - len(taken)
            else:
                found.append(path)
    if not found:
        raise UserError(f"no image or DICOM file in {', '.join(shown(Path(argument)) for argument in arguments)}")
    return found, others


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _is_image(path: Path) -> bool:
    if path.suffix.lower() in (*files.IMAGE_SUFFIXES, *dicom.SUFFIXES):
        return True
    try:
        unnamed = not path.suffix or path.suffix[1:].isdigit()
        return unnamed and stat.S_ISREG(path.stat().st_mode) and dicom.is_dicom(path)
    except OSError:
        return False


def read(path: Path, info: ModelInfo) -> Scan:
    """Read one file as preprocessing does, and look whether it resembles what the model was trained on."""
    try:
        image, remarks = _pixels(path, info)
    except images.UnreadableError as error:
        return Scan(path, None, reason=str(error))
    return Scan(path, image, (*remarks, *_unlike(image, info.training_intensity)))


def _pixels(path: Path, info: ModelInfo) -> tuple[np.ndarray, list[str]]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise images.UnreadableError("is no regular file")
        if status.st_size > MAX_BYTES:
            raise images.UnreadableError(f"has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        if dicom.is_dicom(path):
            return dicom.read(path, info.preprocess.size, info.preprocess.canonical)
    except OSError as error:
        raise images.UnreadableError(f"cannot be opened: {error.strerror}") from error
    return images.read(path, info.preprocess.size, info.preprocess.canonical), []


def _unlike(image: np.ndarray, intensity: Mapping[str, float]) -> Iterator[str]:
    looks = appearance(image)
    if looks.without_breast:
        yield "no breast stands out from the background"
    if looks.inverted:
        yield "black on white: an inverted scan?"
    mean = float(image.mean())
    low, high = intensity["percentile_0"], intensity["percentile_100"]
    if not low <= mean <= high:
        word = "darker" if mean < low else "brighter"
        yield f"{word} than every training image (mean {mean:.0f}, theirs {low:.0f} to {high:.0f})"


class Predictor:
    """A model, loaded once."""

    def __init__(self, model: Path, info: ModelInfo, threshold: float, heatmaps: Path | None = None) -> None:
        """Load MODEL/model.keras; a picture of each image's heat map goes to the folder `heatmaps`, if one is given.

        The pictures are numbered as the files are: a name made from the file's could tell the patient's, or be another
        file's as well.

        Raises:
            UserError: it cannot be loaded.

        """
        from mammo.learning import networks

        # isort: split
        import keras  # after networks, which quietens TensorFlow

        networks.use_threads(info.arithmetic.threads)
        try:
            network = keras.models.load_model(model / "model.keras")
        except Exception as error:  # Keras raises by what it stumbles over
            raise UserError(
                f"{model / 'model.keras'} cannot be loaded: {' '.join(str(error).split())[:200]}"
            ) from error
        self.info, self.threshold, self._heatmaps = info, threshold, heatmaps
        self._step, self._look = networks.forward(network, info.flip_at_test), networks.features(network)
        if heatmaps:
            from mammo.predicting import explanation

            self._explain = explanation.explainer(network)
        trained = f"Model trained on {info.trained_on.in_words}."
        self._about = " ".join(filter(None, (trained, info.audit.sentence, NOTICE)))

    def predict(self, paths: Sequence[Path]) -> Iterator[Prediction]:
        """The answers in the order of `paths`, as they come; memory does not grow with their number."""
        from mammo.learning.networks import BATCH

        scans = _ahead(paths, self.info)
        digits = len(str(len(paths)))
        for first in range(0, len(paths), BATCH):
            names = [f"{number + 1:0{digits}}.png" for number in range(first, min(first + BATCH, len(paths)))]
            yield from self._answers(list(islice(scans, BATCH)), names)

    def _answers(self, scans: list[Scan], names: list[str]) -> Iterator[Prediction]:
        from mammo.learning.networks import probabilities

        if self._heatmaps:
            from mammo.predicting import explanation
        pictures = [scan.image for scan in scans if scan.image is not None]
        images = np.stack(pictures) if pictures else np.empty((0, *self.info.preprocess.size), np.uint8)
        every = np.arange(len(images))
        chances: Iterator[float] = iter(())
        strange: Iterator[bool] = iter(())
        heats: Iterator[np.ndarray] = iter(())
        if pictures:
            chances = iter(probabilities(self._step, images, every).tolist())
            distances = novelty.distances(probabilities(self._look, images, every), self.info.training_features)
            strange = iter(distances > self.info.training_features.limit)
            if self._heatmaps:
                heats = explanation.heat_maps(self._explain, images, every)
        for scan, name in zip(scans, names, strict=True):
            if scan.image is None:
                yield Prediction(scan.path, None, UNREADABLE, scan.warnings, scan.reason)
                continue
            chance = next(chances)
            warnings = (*scan.warnings, *([STRANGE] if next(strange) else []))
            answer = Prediction(scan.path, chance, self._reading(chance), warnings, scan.reason)
            if self._heatmaps:
                caption = f"Probability of cancer {chance:.4f}: {answer.reading}. {self._about}"
                explanation.write_picture(self._heatmaps / name, scan.image, next(heats), caption)
                answer = replace(answer, heatmap=name)
            yield answer

    def _reading(self, probability: float) -> str:
        return SUSPECTED if probability >= self.threshold else UNSUSPECTED


def _ahead(paths: Sequence[Path], info: ModelInfo) -> Iterator[Scan]:
    """The files read by several threads, at most `AHEAD` before they are asked for, in their order."""
    cv2.setNumThreads(1)  # OpenCV's own threads would compete with these
    waiting: deque[Future[Scan]] = deque()
    with ThreadPoolExecutor(min(parallel.cores(), DECODERS)) as pool:
        try:
            for path in paths:
                waiting.append(pool.submit(read, path, info))
                if len(waiting) >= AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def new_folder(path: Path) -> None:
    """Make the folder for heat maps.

    Raises:
        UserError: it cannot be made, or holds something: pictures of other scans would stand among the new ones.

    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UserError(f"{shown(path)} is not empty: name a new folder for the heat maps")
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be the folder for the heat maps: {error.strerror}") from error


def about(info: ModelInfo, rule: str, threshold: float) -> str:
    """What the answers stand on, in one line."""
    trained = info.trained_on
    data = f"Model trained on {trained.images} images: {trained.in_words}"
    return f"{data}. Threshold {threshold:.4f} ({rule}, locked on validation)."


def refuse_phantoms(info: ModelInfo, allowed: bool) -> None:
    """A model of phantoms knows nothing of breasts.

    Raises:
        UserError: the model was trained on phantoms, and the user has not said to go on.

    """
    if info.trained_on.source == "phantom" and not allowed:
        raise UserError(
            "refused: the model was trained on phantoms (synthetic images), so its answers about scans mean nothing. "
            "Train on mammograms (data.source in params.yaml), or say --despite-phantoms to see how it works"
        )


def shown(path: Path) -> str:
    """A path that can be printed whatever it holds: a character that moves the cursor or is no text is spelt out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(path))


class Counted:
    """Answers passed on as they come, the unreadable files among them counted; a bar shows how far they are."""

    def __init__(self, answers: Iterator[Prediction], total: int) -> None:
        """`total` is the number of answers to come."""
        self._answers, self._total = answers, total
        self.unreadable = 0

    def __iter__(self) -> Iterator[Prediction]:
        """The answers, once."""
        for answer in parallel.progress(self._answers, "predict", self._total):
            self.unreadable += answer.probability is None
            yield answer


def print_table(answers: Counted, description: str, paths: Sequence[Path], heatmaps: bool = False) -> None:
    """One line a file on standard output, as they come; with the names of the heat maps, if there are any."""
    width = min(max(len(shown(path)) for path in paths), WIDEST_NAME)
    column = "heat map  " if heatmaps else ""
    print(f"{NOTICE}\n{description}\n\n{'file':<{width}}  {'probability':>11}  {'reading':<16}  {column}warnings")
    for answer in answers:
        chance = "–" if answer.probability is None else f"{answer.probability:.6f}"
        picture = f"{answer.heatmap:<8}  " if heatmaps else ""
        remark = answer.reason or "; ".join(answer.warnings)
        text = f"{shown(answer.path):<{width}}  {chance:>11}  {answer.reading:<16}  {picture}{remark}"
        tqdm.write(text.rstrip())  # above the bar, where there is one
    sys.stdout.flush()


def write_csv(answers: Counted, path: Path, description: str) -> None:
    """One row a file, written whole or not at all; unreadable files are also named on standard error."""
    files.write_csv(path, COLUMNS, (_row(answer) for answer in _aloud(answers)))
    print(f"{NOTICE}\n{description}\n{path} written.")


def print_json(answers: Counted, head: Mapping[str, Any]) -> None:
    """An object of `head` and the list `images`, one element a line as they come."""
    print(json.dumps(head, ensure_ascii=False)[:-1] + ', "images": [', end="")
    for number, answer in enumerate(_aloud(answers)):
        row = {**dict(zip(COLUMNS, _row(answer), strict=True)), "warnings": answer.warnings}
        print(",\n" if number else "\n", json.dumps(row, ensure_ascii=False), sep="", end="")
    print("\n]}", flush=True)


def _row(answer: Prediction) -> tuple[Any, ...]:
    warnings = "; ".join(answer.warnings)
    return (shown(answer.path), answer.probability, answer.reading, warnings, answer.reason, answer.heatmap)


def _aloud(answers: Counted) -> Iterator[Prediction]:
    for answer in answers:
        if answer.reason:
            tqdm.write(f"mammo predict: {shown(answer.path)} {answer.reason}", file=sys.stderr)
        yield answer


def warn(text: str) -> None:
    """Say what concerns no single file."""
    print(f"mammo predict: {text}", file=sys.stderr)

"""Answers about files that were sent: nothing of them is kept, and no name is used."""

import base64
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from mammo.core.errors import UserError
from mammo.core.files import IMAGE_SUFFIXES
from mammo.core.model_info import ModelInfo
from mammo.imaging import scan_files
from mammo.predicting import answers, request
from mammo.predicting.answers import Answer
from mammo.predicting.predict import Predictor

import psutil

DICOM_SUFFIXES = set(scan_files.SUFFIXES) - set(IMAGE_SUFFIXES)
FOLDER = "mammo-serve-"  # in the system's folder for temporary files; the process and a random text follow


class Sent(NamedTuple):
    """A file that was sent."""

    content: IO[bytes]
    name: str | None
    """Used for one thing: a DICOM file without the usual start is known by its suffix."""


class Answers:
    """A model that answers one request at a time; a context manager that removes the folder it works in."""

    def __init__(self, model: Path, info: ModelInfo) -> None:
        """Load the network of MODEL.

        Raises:
            UserError: the network cannot be read, or `info` does not describe it.

        """
        self.info, self._model = info, model
        _remove_what_killed_servers_left()
        self._folder = tempfile.TemporaryDirectory(prefix=f"{FOLDER}{os.getpid()}-", ignore_cleanup_errors=True)
        self._one = threading.Lock()
        self._predictor = Predictor(model, info, 1.0)
        self._drawing: Predictor | None = None

    def __enter__(self) -> "Answers":
        """Return the answers."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def about(self, rule: str) -> dict[str, str]:
        """Return what stands before the answers: the notice, the model with its threshold, and a leak, if any."""
        head = {"notice": answers.NOTICE, "model": request.about(self.info, rule)}
        return head | ({"audit": self.info.audit.sentence} if self.info.audit.sentence else {})

    def predict(self, files: Sequence[Sent], rule: str, heatmaps: bool) -> dict[str, Any]:
        """Return what `mammo predict --json` prints of the files, which are called by their numbers.

        Args:
            files: the files.
            rule: rule of the threshold.
            heatmaps: whether `heatmap` is a picture, as a data URI, and not empty; the first one loads TensorFlow.

        Raises:
            UserError: heat maps are wanted and TensorFlow is missing.

        """
        with self._one, self._written(files) as (paths, maps):
            predictor = self._with_heat_maps(maps) if heatmaps else self._predictor
            predictor.threshold = self.info.thresholds[rule]
            found = [self._nameless(answer, number, maps) for number, answer in enumerate(predictor.predict(paths), 1)]
        return {**self.about(rule), "images": [answers.as_json(answer) for answer in found]}

    @contextmanager
    def _written(self, files: Sequence[Sent]) -> Iterator[tuple[list[Path], Path]]:
        """Yield the paths of the files and the folder for their heat maps; remove all of them in any case."""
        scans, maps = (Path(self._folder.name) / name for name in ("scans", "maps"))
        try:
            for folder in (scans, maps):
                folder.mkdir()
            paths = []
            for number, file in enumerate(files, 1):
                suffix = Path(file.name or "").suffix.lower()
                paths.append(scans / f"{number}{suffix if suffix in DICOM_SUFFIXES else ''}")
                with paths[-1].open("wb") as copy:
                    shutil.copyfileobj(file.content, copy)
            yield paths, maps
        finally:
            for folder in (scans, maps):
                shutil.rmtree(folder, ignore_errors=True)

    def _with_heat_maps(self, folder: Path) -> Predictor:
        if self._drawing is None:
            try:
                self._drawing = Predictor(self._model, self.info, 1.0, folder)
            except ModuleNotFoundError as error:
                raise UserError(f"heat maps need the package {error.name}, which is not installed") from error
        return self._drawing

    def _nameless(self, answer: Answer, number: int, maps: Path) -> Answer:
        """Return an answer with the file's number for its name, and the heat map itself for the name of its file."""
        picture = ""
        if answer.heatmap:
            content = (maps / answer.heatmap).read_bytes()
            picture = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        plain: Callable[[str], str] = lambda text: text.replace(str(answer.path), f"scan {number}")  # noqa: E731
        warnings = tuple(map(plain, answer.warnings))
        return replace(answer, path=Path(str(number)), reason=plain(answer.reason), warnings=warnings, heatmap=picture)


def _remove_what_killed_servers_left() -> None:
    """Remove this user's folders of servers that no longer run: one that is killed cannot do so itself."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        process = folder.name.removeprefix(FOLDER).split("-")[0]
        try:
            left = process.isdecimal() and not psutil.pid_exists(int(process)) and folder.lstat().st_uid == os.getuid()
        except (OSError, OverflowError):
            continue
        if left:
            shutil.rmtree(folder, ignore_errors=True)

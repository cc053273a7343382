"""Predict the probability of cancer for new images and DICOM files."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from mammo.core import files, parallel
from mammo.core.model_info import ModelInfo
from mammo.core.wording import shown
from mammo.imaging.readers import Readers
from mammo.learning import novelty, scorer
from mammo.predicting.answers import GIVEN_UP, NOTICE, STRANGE, SUSPECTED, UNREADABLE, UNSUSPECTED, Answer
from mammo.predicting.scans import Scan, read_ahead

import numpy as np

BATCH = 32  # images that are held at a time
LONGEST_NAME = 50  # characters of an image's name; at most 200 bytes of the 255 that a file name may have


def is_named(path: Path) -> bool:
    """Return whether a heat map may carry the file's name; the name of a DICOM file often contains the patient's."""
    return path.suffix.lower() in files.IMAGE_SUFFIXES


def picture_name(path: Path, number: str) -> str:
    """Return the file name of a heat map: the number, which makes it unique, and the image's name.

    Characters other than letters, digits, `.`, `-` and `_` become `_`, since other systems may not allow them.
    """
    if not is_named(path):
        return f"{number}.png"
    stem = unicodedata.normalize("NFC", path.stem)
    safe = "".join(char if char.isalnum() or char in ".-_" else "_" for char in stem)
    return f"{number}_{safe[:LONGEST_NAME]}.png"


def _explainer(model: Path, info: ModelInfo) -> Callable[[np.ndarray, np.ndarray], Iterator[np.ndarray]]:
    """Return the function of images and positions that yields heat maps; loads TensorFlow."""
    from mammo.learning import model_folder
    from mammo.predicting import heat_maps

    return partial(heat_maps.heat_maps, heat_maps.explainer(model_folder.load(model, info)))


class Predictor:
    """A loaded model that predicts files."""

    def __init__(self, model: Path, info: ModelInfo, threshold: float, heatmaps: Path | None = None) -> None:
        """Load the network of MODEL; heat maps are written to the folder `heatmaps`, if one is given.

        Heat maps have the number and the name of their image, e.g. `07_left.png`, see `picture_name`.

        Raises:
            UserError: the network cannot be read, or `info` does not describe it.

        """
        self.info, self.threshold, self._heatmaps = info, threshold, heatmaps
        self.unreadable = 0
        self._scorer = scorer.load(model, info)
        self._explain = _explainer(model, info) if heatmaps else None
        trained = f"Model trained on {info.trained_on.in_words}."
        self._about = " ".join(filter(None, (trained, info.audit.sentence, NOTICE)))

    def predict(
        self, paths: Sequence[Path], readers: Readers | None = None, pictures: np.ndarray | None = None
    ) -> Iterator[Answer]:
        """Yield the answers in the order of `paths`, with a progress bar; memory use is constant.

        Images as the network sees them are written to `pictures`, uint8, (paths, height, width), if it is given.
        """
        with readers or Readers() as open_readers:
            scans = read_ahead(paths, self.info, open_readers)
            if pictures is not None:
                scans = _written(scans, pictures)
            yield from parallel.progress(self._answers(scans, len(paths)), "predict", len(paths))

    def _answers(self, scans: Iterator[Scan], number_of_paths: int) -> Iterator[Answer]:
        digits = len(str(number_of_paths))
        for first in range(0, number_of_paths, BATCH):
            batch = list(islice(scans, BATCH))
            outputs = self._outputs([scan.image for scan in batch if scan.image is not None])
            for number, scan in enumerate(batch, first + 1):
                if scan.image is None:
                    self.unreadable += 1
                    reading = GIVEN_UP if scan.given_up else UNREADABLE
                    yield Answer(scan.path, None, reading, scan.warnings, scan.reason)
                else:
                    yield self._answer(scan, *next(outputs), picture_name(scan.path, f"{number:0{digits}}"))

    def _outputs(self, pictures: list[np.ndarray]) -> Iterator[tuple[float, bool, np.ndarray | None]]:
        """Yield each image's probability of cancer, whether it is novel, and its heat map, if requested."""
        if not pictures:
            return
        images, every, known = np.stack(pictures), np.arange(len(pictures)), self.info.training_features
        outputs = self._scorer.outputs(images, every)
        novel = novelty.distances(outputs.features, known) > known.limit
        maps = self._explain(images, every) if self._explain else [None] * len(images)
        yield from zip(outputs.probabilities.tolist(), novel, maps, strict=True)

    def _answer(self, scan: Scan, probability: float, novel: bool, heat: np.ndarray | None, name: str) -> Answer:
        reading = SUSPECTED if probability >= self.threshold else UNSUSPECTED
        warnings = (*scan.warnings, STRANGE) if novel else scan.warnings
        calibrated = None
        if self.info.recalibration:
            calibrated = float(self.info.recalibration.calibrated(np.array([probability]))[0])
        answer = Answer(scan.path, probability, reading, warnings, scan.reason, calibrated=calibrated)
        if self._heatmaps is None or scan.image is None or heat is None:
            return answer
        named = f"{shown(scan.path.name)}. " if is_named(scan.path) else ""
        caption = f"{named}Probability of cancer {probability:.4f}: {reading}. {self._about}"
        from mammo.reporting import heat_map_pictures  # loads what draws

        heat_map_pictures.write(self._heatmaps / name, scan.image, heat, caption)
        return replace(answer, heatmap=name)


def _written(scans: Iterator[Scan], pictures: np.ndarray) -> Iterator[Scan]:
    """Yield the scans, each after its image was written to its place in `pictures`; unreadable ones leave it empty."""
    for place, scan in enumerate(scans):
        if scan.image is not None:
            pictures[place] = scan.image
        yield scan

"""The test cases for the report's explorer: their groups, and small pictures with heat maps."""

from pathlib import Path

from mammo.core import files
from mammo.core.predictions import PredictedSplit
from mammo.reporting.heat_map_pictures import glow
from mammo.reporting.heat_map_sheets import HeatMaps
from mammo.reporting.run import CASES

import cv2
import numpy as np
from PIL import Image

MOST = 400  # pictures; of a larger test set, those of the cases that are hardest for the network
SIDE = 224  # pixels of the longer side at most; a heat map, which is smooth, has half of it
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 70)
LEVELS = 32  # of a heat map


def write(folder: Path, test: PredictedSplit, heat_maps: HeatMaps, pictured: str) -> None:
    """Write FOLDER/cases.csv, one row per test image with its level in every group, and pictures if they are wanted.

    `pictured` is `evaluate.case_pictures`: `phantoms`, `all` or `none`; own scans are in no picture unless it is `all`.
    `0012.jpg` is the image of row 12, counted from 1, and `0012.png` its heat map, transparent where there is no
    evidence for cancer.
    """
    with files.written(folder) as beside:
        beside.mkdir()
        names = [test.data.entries[position].image for position in test.positions]
        groups = test.groups
        files.write_csv(beside / CASES, ("image", *groups), zip(names, *groups.values(), strict=True))
        wanted = pictured == "all" or (pictured == "phantoms" and test.info.trained_on.source == "phantom")
        shown = hardest(test) if wanted else np.array([], dtype=int)
        positions = test.positions[shown]
        for row, position, heat in zip(shown, positions, heat_maps(positions), strict=True):
            _, content = cv2.imencode(".jpg", smaller(test.data.images[position], SIDE), JPEG)
            (beside / f"{row + 1:04d}.jpg").write_bytes(content.tobytes())
            write_transparent(beside / f"{row + 1:04d}.png", smaller(heat, SIDE // 2))


def hardest(test: PredictedSplit, most: int = MOST) -> np.ndarray:
    """Return the rows of at most `most` test images, ascending: wrong ones, most certain first, then doubtful ones."""
    distance = np.abs(test.probabilities - test.threshold)
    wrong = test.predicted != test.labels
    return np.sort(np.argsort(np.where(wrong, -1 - distance, distance), kind="stable")[:most])


def smaller(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture whose longer side has at most `side` pixels."""
    scale = side / max(picture.shape)
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture


def write_transparent(path: Path, heat: np.ndarray) -> None:
    """Write a heat map, 0 to 1, as a PNG to be laid over its image."""
    colour, opacity = glow(np.linspace(0, 1, LEVELS))
    picture = Image.fromarray(np.rint((LEVELS - 1) * heat).astype(np.uint8), "P")
    picture.putpalette(np.rint(colour).astype(np.uint8).tobytes())
    picture.save(path, transparency=np.rint(255 * opacity).astype(np.uint8).tobytes(), optimize=True)

"""Contact sheets: examples of phantoms, and mammograms before and after the canonical steps."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from mammo.core import parallel
from mammo.core.errors import UserError
from mammo.core.settings import Canonical, Phantoms
from mammo.core.wording import counted
from mammo.imaging import canonical, images
from mammo.imaging.readers import Readers
from mammo.reporting import figures
from mammo.sources.phantom.anatomy import DENSITIES, VIEWS, Patient, patient_of
from mammo.sources.phantom.generation import draw

import cv2
import numpy as np
from matplotlib import pyplot
from matplotlib.patches import Circle

SHOWN, COLUMNS = 40, 8
DECODED = (320, 320)  # pixels; enough for the search of the breast (at 224) and for the panels
PANEL = (192, 144)
ALL_STEPS = Canonical(right_inverted=True, blacken_outside=True, crop=True, chest_wall_left=True)
NOT_BLACK = 16  # grey levels of 255


def draw_phantoms(settings: Phantoms, picture: Path) -> None:
    """Write a PNG of phantoms: density classes a to d in columns, classes and views in rows, cancers circled."""
    rows = [(label, view) for label in (0, 1) for view in VIEWS]
    figure, panels = pyplot.subplots(len(rows), len(DENSITIES), figsize=(8.2, 8.6), dpi=110, layout="constrained")
    figure.suptitle("Synthetic mammograms (phantoms), no patient's images", fontsize=12)
    for column, density in enumerate(DENSITIES):
        panels[0, column].set_title(f"density {density}", fontsize=10)
        for panel, (label, view) in zip(panels[:, column], rows, strict=True):
            patient = _first_patient(settings, density, label)
            image, mask = draw(settings, patient, patient.side, view)
            panel.imshow(image, cmap="gray", vmin=0, vmax=255)
            panel.set(xticks=[], yticks=[])
            if mask.any():
                panel.add_patch(_circle_around(mask))
    for panel, (label, view) in zip(panels[:, 0], rows, strict=True):
        panel.set_ylabel(f"{'cancer' if label else 'healthy'}, {view}", fontsize=10)
    figures.save(figure, picture, caption="")


def _first_patient(settings: Phantoms, density: str, label: int) -> Patient:
    patients = (patient_of(settings, index) for index in count())
    return next(patient for patient in patients if (patient.density, patient.label) == (density, label))


def _circle_around(mask: np.ndarray) -> Circle:
    pixels = np.argwhere(mask)
    y, x = pixels.mean(0)
    return Circle((x, y), 1.2 * np.abs(pixels - (y, x)).max(), fill=False, color="white", lw=0.8, ls=":")


class BeforeAndAfter(NamedTuple):
    """One image before and after the canonical steps."""

    outside: float
    """Share of the image that is outside the breast and not black; 1 if no breast was found."""
    before: np.ndarray
    after: np.ndarray
    inverted: bool
    without_breast: bool


def draw_before_and_after(paths: Sequence[Path], picture: Path) -> tuple[int, int, int]:
    """Write a PNG of the `SHOWN` hardest images, each before and after all canonical steps.

    The hardest are those without a breast, then those with the largest area outside the breast that is not black.

    Returns:
        Numbers of images read, of inverted images, and of images without a breast.

    Raises:
        UserError: no image could be read.

    """
    with Readers() as readers:
        each = parallel.each(lambda path: _before_and_after(path, readers), paths, "canonical")
        pairs = [pair for pair in each if pair is not None]
    if not pairs:
        raise UserError("no image could be read")
    hardest = sorted(pairs, key=lambda pair: -pair.outside)[:SHOWN]
    gap = np.full((PANEL[0], 4), 255, np.uint8)
    with pyplot.rc_context(figures.STYLE | {"axes.grid": False}):
        rows = -(-len(hardest) // COLUMNS)
        inches = (12, 0.86 * rows + 0.3)
        figure, panels = pyplot.subplots(rows, COLUMNS, figsize=inches, layout="constrained", squeeze=False)
        for panel in panels.flat:
            panel.axis("off")
        for panel, pair in zip(panels.flat, hardest, strict=False):
            panel.imshow(np.hstack([pair.before, gap, pair.after]), cmap="gray", vmin=0, vmax=255)
        caption = f"Left as delivered, right canonical: the hardest {len(hardest)} of {counted(len(pairs), 'image')}"
        figures.save(figure, picture, caption)
    return len(pairs), sum(pair.inverted for pair in pairs), sum(pair.without_breast for pair in pairs)


def _before_and_after(path: Path, readers: Readers) -> BeforeAndAfter | None:
    """Read an image and make it canonical; None if it is unreadable."""
    try:
        image = readers.scan(path, DECODED).image
    except images.UnreadableError:
        return None
    view = canonical.view(image, ALL_STEPS)
    small = cv2.resize(image, (canonical.LOOK, canonical.LOOK), interpolation=cv2.INTER_AREA)
    upright = 255 - small if view.inverted else small
    outside = 1.0 if view.breast is None else float(((upright > NOT_BLACK) & (view.breast == 0)).mean())
    before = cv2.resize(image, (PANEL[0], PANEL[0]), interpolation=cv2.INTER_AREA)
    return BeforeAndAfter(outside, before, canonical.applied(image, view, PANEL), view.inverted, view.breast is None)

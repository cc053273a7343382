"""Contact sheets of test images beside their heat maps."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mammo.core.predictions import PredictedSplit
from mammo.reporting import figures
from mammo.reporting.heat_map_pictures import overlay, peak
from mammo.scoring import rounded

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

HeatMaps = Callable[[np.ndarray], Iterable[np.ndarray]]
OUTCOMES = (("true positives", 1, 1), ("false negatives", 1, 0), ("false positives", 0, 1), ("true negatives", 0, 0))
"""Name, actual class and predicted class."""
SHEET, COLUMNS = 9, 3  # panels on a sheet, and side by side
SHEET_WIDTH, GAP, HEADING = 9.0, 0.15, 0.22  # inches
TITLE, CAPTION = 0.4, 0.45  # inches
LONGEST_NAME = 36  # characters above a pair of images


class Panel(NamedTuple):
    """An image on a contact sheet."""

    heading: str
    image: np.ndarray
    """uint8, (height, width)."""
    heat: np.ndarray
    """0 to 1, (height, width)."""
    lesion: np.ndarray | None
    """uint8, (height, width), 0 outside the lesion; None if unknown."""


def outcome_sheets(folder: Path, test: PredictedSplit, heat_maps: HeatMaps, lesions: np.ndarray | None) -> None:
    """Draw `folder`/OUTCOME.png, the most certain images, for each outcome that occurs.

    `heat_maps` returns the maps of the images at given positions in `test.data`; `lesions` are for all images.
    """
    outlined = "" if lesions is None else "; dotted: the lesion"
    caption = (
        f"{test.description}\nRight: evidence for cancer, brightest where strongest (each map has its own scale), peak "
        f"circled{outlined}. Above: file, probability of cancer."
    )
    for outcome, actual, predicted in OUTCOMES:
        here = np.flatnonzero((test.labels == actual) & (test.predicted == predicted))
        doubt = test.probabilities[here] * (-1 if predicted else 1)
        shown = here[np.argsort(doubt, kind="stable")[:SHEET]]
        if not len(shown):
            continue
        positions = test.positions[shown]
        panels = []
        for place, position, heat in zip(shown, positions, heat_maps(positions), strict=True):
            name = figures.short_name(test.data.entries[position].image, LONGEST_NAME)
            heading = f"{name}   {rounded(test.probabilities[place])}"
            lesion = None if lesions is None else lesions[position]
            panels.append(Panel(heading, test.data.images[position], heat, lesion))
        title = f"{outcome.capitalize()}: the {len(shown)} most certain of {len(here)}"
        contact_sheet(folder / f"{outcome.replace(' ', '_')}.png", title, panels, caption)


def contact_sheet(path: Path, title: str, panels: Sequence[Panel], caption: str) -> None:
    """Draw images beside their heat maps, peaks circled and lesions outlined, into one PNG."""
    rows = -(-len(panels) // COLUMNS)
    width = (SHEET_WIDTH - (COLUMNS + 1) * GAP) / (2 * COLUMNS)  # inches, of one image, as all below
    height = width * panels[0].image.shape[0] / panels[0].image.shape[1]
    total = rows * (height + HEADING) + TITLE + CAPTION
    with pyplot.rc_context(figures.STYLE | {"axes.grid": False}):
        figure = pyplot.figure(figsize=(SHEET_WIDTH, total))
        figure.text(GAP / SHEET_WIDTH, 1 - 0.12 / total, title, fontsize=11, va="top")
        for number, panel in enumerate(panels):
            row, column = divmod(number, COLUMNS)
            left, bottom = GAP + column * (2 * width + GAP), total - TITLE - (row + 1) * (height + HEADING)
            figure.text(left / SHEET_WIDTH, (bottom + height + 0.04) / total, panel.heading, fontsize=7, va="bottom")
            shape = (width / SHEET_WIDTH, height / total)
            starts = (left / SHEET_WIDTH, (left + width) / SHEET_WIDTH)
            _draw(panel, *(figure.add_axes((start, bottom / total, *shape)) for start in starts))
        figures.save(figure, path, caption)


def _draw(panel: Panel, left: Axes, right: Axes) -> None:
    for axes, picture in ((left, panel.image), (right, overlay(panel.image, panel.heat))):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, aspect="auto")
        axes.axis("off")
    if panel.lesion is not None and panel.lesion.any():
        left.contour(panel.lesion, levels=[127], colors="white", linewidths=0.6, linestyles="dotted")
    if panel.heat.any():
        row, column = peak(panel.heat)
        right.plot(column, row, "o", ms=7, mfc="none", mec="white", mew=0.8)

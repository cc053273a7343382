"""Pictures of images beside their heat maps: contact sheets and single ones."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont

from mammo.core import files
from mammo.core.test_split import TestSplit
from mammo.reporting import figures

OUTCOMES = (("true positives", 1, 1), ("false negatives", 1, 0), ("false positives", 0, 1), ("true negatives", 0, 0))
"""Name, actual class and predicted class."""
OPACITY = 0.75  # of the heat where it is at least half the maximum
GLOW = np.array([[220, 40, 0], [255, 225, 80]])  # red, green, blue of the lowest and the highest heat
SHEET, COLUMNS = 9, 3  # panels on a sheet, and side by side
SHEET_WIDTH, GAP, HEADING = 9.0, 0.15, 0.22  # inches
TITLE, CAPTION = 0.4, 0.45  # inches
SMALLEST_PANEL, MARGIN = 400, 8  # pixels in a picture of one image; small images are enlarged


class Panel(NamedTuple):
    """An image on a contact sheet."""

    heading: str
    image: np.ndarray
    """uint8, (height, width)."""
    heat: np.ndarray
    """0 to 1, (height, width)."""
    lesion: np.ndarray | None
    """uint8, (height, width), 0 outside the lesion; None where it is unknown."""


def peak(heat: np.ndarray) -> tuple[int, int]:
    """Return row and column of the highest value, the first of equal ones; (-1, -1) for an empty map."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return (int(row), int(column)) if heat[row, column] > 0 else (-1, -1)


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return the image in grey with its heat map above it, from a red glow to opaque yellow.

    Args:
        image: uint8, (height, width).
        heat: 0 to 1, (height, width).

    Returns:
        uint8, (height, width, 3), red, green, blue.

    """
    glow = heat[..., None].astype(np.float64)
    colour = GLOW[0] + (GLOW[1] - GLOW[0]) * glow
    opacity = OPACITY * np.minimum(2 * glow, 1)
    return np.rint(image[..., None] * (1 - opacity) + colour * opacity).astype(np.uint8)


def outcome_sheets(
    folder: Path,
    test: TestSplit,
    heat_maps: Callable[[np.ndarray], Iterable[np.ndarray]],
    lesions: np.ndarray | None,
) -> None:
    """Draw `folder`/OUTCOME.png for each outcome that occurs: the images of which the network was most certain.

    Args:
        folder: of the sheets.
        test: the images and their predictions.
        heat_maps: gives the maps of the images at some positions in `test.data`.
        lesions: (n, height, width) of all of `test.data`; None where they are unknown.

    """
    outlined = "" if lesions is None else "; dotted: the lesion"
    caption = (
        f"{test.description}\nRight of each image what speaks for cancer, brightest where most (every map by its own "
        f"scale), its peak circled{outlined}. Number: probability of cancer."
    )
    for outcome, actual, predicted in OUTCOMES:
        here = np.flatnonzero((test.labels == actual) & (test.predicted == predicted))
        certainty = test.probabilities[here] * (1 if predicted else -1)
        shown = here[np.argsort(-certainty, kind="stable")[:SHEET]]
        if not len(shown):
            continue
        positions = test.positions[shown]
        panels = [
            Panel(
                f"{_short(test.data.entries[position].image)}   {probability:.3f}",
                test.data.images[position],
                heat,
                None if lesions is None else lesions[position],
            )
            for position, probability, heat in zip(
                positions, test.probabilities[shown], heat_maps(positions), strict=True
            )
        ]
        title = f"{outcome.capitalize()}: the {len(shown)} most certain of {len(here)}"
        contact_sheet(folder / f"{outcome.replace(' ', '_')}.png", title, panels, caption)


def _short(image: str) -> str:
    """Return a file's name without folder, extension and what the Kaggle set adds to it."""
    return PurePosixPath(image).name.split("_png")[0].rsplit(".", 1)[0][:24]


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
            boxes = [
                (start / SHEET_WIDTH, bottom / total, width / SHEET_WIDTH, height / total)
                for start in (left, left + width)
            ]
            _draw(panel, *(figure.add_axes(box) for box in boxes))
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


def picture(path: Path, image: np.ndarray, heat: np.ndarray, caption: str) -> None:
    """Write a PNG of one image: left as the network saw it, right with its heat map, the peak circled; below, text."""
    times = -(-SMALLEST_PANEL // image.shape[1])
    height, width = (times * side for side in image.shape)
    font = ImageFont.load_default(14)
    text = f"{caption} Right: what speaks for cancer, by its own scale; the peak is circled."
    lines = _wrapped(text, font, 2 * width - MARGIN)
    sheet = Image.new("RGB", (2 * width + MARGIN, height + 20 * len(lines) + 2 * MARGIN), "white")
    for left, panel in ((0, image), (width + MARGIN, overlay(image, heat))):
        enlarged = cv2.resize(panel, (width, height), interpolation=cv2.INTER_CUBIC)
        sheet.paste(Image.fromarray(enlarged), (left, 0))
    draw = ImageDraw.Draw(sheet)
    if heat.any():
        row, column = ((place + 0.5) * times for place in peak(heat))
        draw.circle((width + MARGIN + column, row), SMALLEST_PANEL / 40, outline="white", width=2)
    draw.multiline_text((MARGIN, height + MARGIN), "\n".join(lines), "black", font, spacing=5)
    with files.written(path) as beside, beside.open("wb") as file:
        sheet.save(file, "PNG")


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines

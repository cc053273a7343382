"""Before and after: what `canonical` makes of the images that are hardest for it, as a contact sheet."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib import pyplot

from mammo.core import parallel
from mammo.core.errors import UserError
from mammo.core.settings import Canonical
from mammo.imaging import canonical, images
from mammo.reporting import figures

SHOWN, COLUMNS = 40, 8
DECODED = (320, 320)  # pixels; what is looked at is 224, what is drawn smaller
PANEL = (192, 144)
EVERYTHING = Canonical(right_inverted=True, blacken_outside=True, crop=True, chest_wall_left=True)
NOT_BLACK = 16  # grey levels of 255


def draw(paths: Sequence[Path], picture: Path) -> tuple[int, int, int]:
    """Write a PNG of the `SHOWN` hardest images, each as it is and with every step taken.

    Hardest are those in which no breast was found, then those with the largest area that is not black beside it.

    Returns:
        number of images read, of those that were inverted, and of those without a breast.

    Raises:
        UserError: no image could be read.

    """
    found = [look for look in parallel.each(_looked_at, paths, "canonical") if look is not None]
    if not found:
        raise UserError("no image could be read")
    hardest = sorted(range(len(found)), key=lambda place: (-found[place][0], place))[:SHOWN]
    with pyplot.rc_context(figures.STYLE | {"axes.grid": False}):
        rows = -(-len(hardest) // COLUMNS)
        inches = (12, 0.86 * rows + 0.3)
        figure, axes = pyplot.subplots(rows, COLUMNS, figsize=inches, layout="constrained", squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, place in zip(axes.flat, hardest, strict=False):
            _, before, after, _, _ = found[place]
            axis.imshow(
                np.hstack([before, np.full((PANEL[0], 4), 255, np.uint8), after]), cmap="gray", vmin=0, vmax=255
            )
        caption = f"Left as delivered, right canonical: the hardest {len(hardest)} of {len(found)} images"
        figures.save(figure, picture, caption)
    return len(found), sum(look[3] for look in found), sum(look[4] for look in found)


def _looked_at(path: Path) -> tuple[float, np.ndarray, np.ndarray, bool, bool] | None:
    """How hard an image is, before, after, whether it was inverted, and whether no breast was found."""
    try:
        image = images.read(path, DECODED)
    except images.UnreadableError:
        return None
    how = canonical.view(image, EVERYTHING)
    small = cv2.resize(image, (canonical.LOOK, canonical.LOOK), interpolation=cv2.INTER_AREA)
    righted = 255 - small if how.inverted else small
    beside = 1.0 if how.breast is None else float(((righted > NOT_BLACK) & (how.breast == 0)).mean())
    before = cv2.resize(image, (PANEL[0], PANEL[0]), interpolation=cv2.INTER_AREA)
    return beside, before, canonical.applied(image, how, PANEL), how.inverted, how.breast is None

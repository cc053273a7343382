"""Properties of a whole image: inverted, marks outside the breast, no breast."""

from dataclasses import dataclass

from mammo.imaging import connected

import cv2
import numpy as np

DARK, BRIGHT = 60, 195  # a darker pixel of the frame is black, a brighter one white
FRAME = 2  # width in pixels
BACKGROUND_RISE = 12  # grey levels above the background that separate an object from it
MARK_PEAK = 40  # grey levels above the background: marks are brighter, a faint nipple is not
MARK_AREA = 4  # pixels of all marks together, at 224 × 224: the smallest burned-in text after resizing
LARGEST_MARK = 0.04  # share of the image: a lead label with its box
CLEARANCE = 2  # pixels between the breast and a mark: a bead on the skin is not a mark
OUTLINE = 4  # pixels: width of the breast's outline, in which sharpness is measured
LINE_LENGTH = 0.4  # share of the height or width, at least
LINE_WIDTH = 10  # pixels, at most
SMALLEST_BODY = 0.01  # share of the image: other body parts at the edge
SMALLEST_BREAST = 0.03  # share of the image; the smallest of 2,671 real breasts covers 5 %


@dataclass(frozen=True)
class Appearance:
    """Properties of one image."""

    inverted: bool
    """Black on white, like a MONOCHROME1 scan saved without conversion."""
    marked: bool
    """Whether there is burned-in text, a lead label, a bead or a line outside the breast."""
    breast: float
    """Share of the image that is covered by the body, 0 to 1."""
    sharpness: float
    """Mean absolute Laplacian along the outline of the body, grey levels per pixel²; 0 without a body."""

    @property
    def without_breast(self) -> bool:
        """Whether the image shows no object as large as a breast."""
        return self.breast < SMALLEST_BREAST


def appearance(image: np.ndarray) -> Appearance:
    """Return the properties of an image.

    Args:
        image: uint8, (height, width); the limits above were tuned at 224 × 224.

    """
    inverted = is_inverted(image)
    marks, body = marks_and_body(255 - image if inverted else image)
    return Appearance(inverted, int(marks.sum()) >= MARK_AREA, float(body.mean()), sharpness(image, body))


def sharpness(image: np.ndarray, body: np.ndarray) -> float:
    """Return the mean absolute Laplacian of an image along the outline of the body: higher for a sharper scan.

    Over the whole image a focus measure (Pech-Pacheco et al. 2000, Proc. ICPR 3:314) would see the spicules of a cancer
    instead of the scanner; a lesion does not reach the outline.

    Args:
        image: uint8, (height, width).
        body: bool, (height, width).

    """
    kernel = np.ones((2 * OUTLINE + 1, 2 * OUTLINE + 1), np.uint8)
    outline = body & (cv2.erode(body.astype(np.uint8), kernel, borderValue=1) == 0)
    return float(np.abs(cv2.Laplacian(image, cv2.CV_64F)[outline]).mean()) if outline.any() else 0.0


def is_inverted(image: np.ndarray) -> bool:
    """Return whether the frame of an image has more white than black pixels; a breast never covers all four sides."""
    return bool(are_inverted(image))


def are_inverted(images: np.ndarray) -> np.ndarray:
    """Return what `is_inverted` says of each of several images, bool, (…), for uint8, (…, height, width)."""
    sides = images[..., :FRAME, :], images[..., -FRAME:, :], images[..., :FRAME], images[..., -FRAME:]
    frame = np.concatenate([side.reshape(*images.shape[:-2], -1) for side in sides], axis=-1)
    return np.asarray((frame > BRIGHT).sum(axis=-1) > (frame < DARK).sum(axis=-1))


def marks_and_body(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separate marks from the body: body parts touch the edge of the image, marks touch neither edge nor body.

    An exception are lines, which may cross the whole image. Text that touches the edge is therefore missed.

    Args:
        image: uint8, (height, width), white on black.

    Returns:
        Two masks, bool, (height, width): marks outside the breast, and body.

    """
    found, background = _parts(image)
    candidate, of_body = _kinds(found)
    body = found.where(of_body)
    kernel = np.ones((2 * CLEARANCE + 1, 2 * CLEARANCE + 1), np.uint8)
    near_body = cv2.dilate(body, kernel) > 0
    marks = np.zeros(len(candidate), bool)
    for part in np.flatnonzero(candidate):
        left, top, across, down = found.statistics[part, :4]
        window = slice(top, top + down), slice(left, left + across)
        own = found.of_pixel[window] == part
        marks[part] = image[window][own].max() > background + MARK_PEAK and not near_body[window][own].any()
    return found.where(marks) > 0, body > 0


def body(image: np.ndarray) -> np.ndarray:
    """Return the body of `marks_and_body` alone, uint8, 0 or 1, (height, width)."""
    found = _parts(image)[0]
    return found.where(_kinds(found)[1])


def _parts(image: np.ndarray) -> tuple[connected.Parts, int]:
    """Return the parts of an image that are brighter than its background, and the grey level of the background."""
    threshold = int(cv2.threshold(image, 0, 255, cv2.THRESH_OTSU)[0])
    levels = cv2.calcHist([image], [0], None, [256], [0, 256]).ravel()
    background = int(np.argmax(levels[: max(threshold, 1)]))
    above = cv2.threshold(image, background + BACKGROUND_RISE, connected.UNVISITED, cv2.THRESH_BINARY)[1]
    return connected.parts(above, connectivity=8), background


def _kinds(found: connected.Parts) -> tuple[np.ndarray, np.ndarray]:
    """Return which parts may be marks, and which belong to the body, bool, (parts,) each."""
    height, width = found.of_pixel.shape
    x, y, across, down, area = found.statistics.T
    free = (x > FRAME) & (y > FRAME) & (x + across < width - FRAME) & (y + down < height - FRAME)
    beside = (x > 2 * FRAME) & (x + across < width - 2 * FRAME)
    between = (y > 2 * FRAME) & (y + down < height - 2 * FRAME)
    upright = (down >= LINE_LENGTH * height) & (across <= LINE_WIDTH) & beside
    level = (across >= LINE_LENGTH * width) & (down <= LINE_WIDTH) & between
    candidate = (free & (area <= LARGEST_MARK * height * width)) | upright | level
    body = ~candidate & (area >= SMALLEST_BODY * height * width)
    candidate[0] = body[0] = False  # the background
    return candidate, body

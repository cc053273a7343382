"""How a scan looks as a whole: inverted, marked outside the breast, without a breast; and its global intensity."""

from dataclasses import dataclass

import cv2
import numpy as np

DARK, BRIGHT = 60, 195  # grey levels below and above which the frame of an image is background, black or white
FRAME = 2  # pixels
BACKGROUND_RISE = 12  # grey levels over the background at which something begins
MARK_PEAK = 40  # grey levels over the background that a mark reaches and a faint nipple does not
MARK_AREA = 4  # pixels of all marks together, at 224 × 224: the smallest burned-in text that is left after resizing
LARGEST_MARK = 0.04  # of the image: a lead label with its box
CLEARANCE = 2  # pixels between the breast and a mark: beads on the skin do not stand outside it
LINE_LENGTH = 0.4  # of the height or width
LINE_WIDTH = 10  # pixels
SMALLEST_BODY = 0.01  # of the image: body parts that are not the breast, at its edge
SMALLEST_BREAST = 0.03  # of the image; the smallest of 2,671 real breasts covers 5 %
HISTOGRAM_BINS = 32


@dataclass(frozen=True)
class Appearance:
    """What can be said of one image without knowing anatomy."""

    inverted: bool
    """A MONOCHROME1 scan saved as it was, black on white."""
    marked: bool
    """Burned-in text, a lead label, a bead or a line stands outside the breast."""
    breast: float
    """Share of the image that is body, 0 to 1."""

    @property
    def without_breast(self) -> bool:
        """Nothing large enough to be a breast stands out from the background."""
        return self.breast < SMALLEST_BREAST


def appearance(image: np.ndarray) -> Appearance:
    """Look at one image.

    Args:
        image: uint8, (height, width); the limits above were tuned at 224 × 224.

    """
    inverted = is_inverted(image)
    marks, body = marks_and_body(255 - image if inverted else image)
    return Appearance(inverted, int(marks.sum()) >= MARK_AREA, float(body.mean()))


def is_inverted(image: np.ndarray) -> bool:
    """More of the image's frame is white than black: the background, which no breast covers on all four sides."""
    frame = np.concatenate(
        [image[:FRAME].ravel(), image[-FRAME:].ravel(), image[:, :FRAME].ravel(), image[:, -FRAME:].ravel()]
    )
    return int((frame > BRIGHT).sum()) > int((frame < DARK).sum())


def marks_and_body(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell marks from body by where they stand: a body part reaches the edge of the image, a mark stands free of both.

    Lines are the exception, which may cross the whole image. Text that the edge cuts is therefore missed.

    Args:
        image: uint8, (height, width), white on black.

    Returns:
        Two masks, bool, (height, width): marks outside the breast, and body.

    """
    height, width = image.shape
    threshold = int(cv2.threshold(image, 0, 255, cv2.THRESH_OTSU)[0])
    background = int(np.argmax(np.bincount(image.ravel(), minlength=256)[: max(threshold, 1)]))
    above = (image > background + BACKGROUND_RISE).astype(np.uint8)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    x, y, across, down, area = statistics.T
    free = (x > FRAME) & (y > FRAME) & (x + across < width - FRAME) & (y + down < height - FRAME)
    beside = (x > 2 * FRAME) & (x + across < width - 2 * FRAME)
    between = (y > 2 * FRAME) & (y + down < height - 2 * FRAME)
    upright = (down >= LINE_LENGTH * height) & (across <= LINE_WIDTH) & beside
    level = (across >= LINE_LENGTH * width) & (down <= LINE_WIDTH) & between
    candidate = (free & (area <= LARGEST_MARK * height * width)) | upright | level
    candidate[0] = False  # part 0 is the background
    body = ~candidate & (area >= SMALLEST_BODY * height * width)
    body[0] = False
    kernel = np.ones((2 * CLEARANCE + 1, 2 * CLEARANCE + 1), np.uint8)
    near_body = cv2.dilate(body[parts].astype(np.uint8), kernel) > 0
    brightest = np.zeros(count, np.uint8)
    np.maximum.at(brightest, parts.ravel(), image.ravel())
    candidate[np.unique(parts[near_body])] = False
    marks = candidate & (brightest > background + MARK_PEAK)
    return marks[parts], body[parts]


def intensity_features(image: np.ndarray) -> np.ndarray:
    """Return 38 features of global intensity, none of which depends on where anything is.

    A histogram of 32 bins (shares), mean, standard deviation, shares of black (< 10) and of white (> 245), median and
    95th percentile, the latter four in grey levels / 255.

    Args:
        image: uint8, (height, width).

    Returns:
        float32, (38,).

    """
    histogram = np.bincount(image.ravel() // (256 // HISTOGRAM_BINS), minlength=HISTOGRAM_BINS) / image.size
    summary = [
        image.mean() / 255,
        image.std() / 255,
        (image < 10).mean(),
        (image > 245).mean(),
        np.median(image) / 255,
        np.percentile(image, 95) / 255,
    ]
    return np.concatenate([histogram, summary]).astype(np.float32)

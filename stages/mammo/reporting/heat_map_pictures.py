"""Draw an image beside its heat map; parts are shared with the contact sheets."""

from pathlib import Path

from mammo.core import files

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

OPACITY = 0.75  # of the heat map where it is at least half the maximum
GLOW = np.array([[220, 40, 0], [255, 225, 80]])  # red, green, blue of the lowest and the highest value
SMALLEST_PANEL, MARGIN = 400, 8  # pixels in a picture of one image; small images are enlarged


def peak(heat: np.ndarray) -> tuple[int, int]:
    """Return row and column of the (first) highest value; (-1, -1) for an empty map."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return (int(row), int(column)) if heat[row, column] > 0 else (-1, -1)


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Overlay a grey image with its heat map, from transparent red to nearly opaque yellow.

    Args:
        image: uint8, (height, width).
        heat: 0 to 1, (height, width).

    Returns:
        uint8, (height, width, 3), red, green, blue.

    """
    colour, opacity = glow(heat)
    return np.rint(image[..., None] * (1 - opacity) + colour * opacity).astype(np.uint8)


def glow(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the colour (0 to 255), (…, 3), and the opacity (0 to 1), (…, 1), of the values of a heat map."""
    value = heat[..., None].astype(np.float64)
    return GLOW[0] + (GLOW[1] - GLOW[0]) * value, OPACITY * np.minimum(2 * value, 1)


def write(path: Path, image: np.ndarray, heat: np.ndarray, caption: str) -> None:
    """Write a PNG: the network's input (left), the image with its heat map and circled peak (right), a caption."""
    times = -(-SMALLEST_PANEL // image.shape[1])
    height, width = (times * side for side in image.shape)
    font = ImageFont.load_default(14)
    text = f"{caption} Right: the evidence for cancer, by its own scale; the peak is circled."
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
    """Break text into lines of at most `width` pixels, between words or inside a word that is longer."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines.append("")
        for char in word:
            if font.getlength(lines[-1] + char) > width:
                lines.append("")
            lines[-1] += char
    return lines if lines[0] else lines[1:]

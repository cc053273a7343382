"""Connected parts of a mask."""

from typing import NamedTuple

import cv2
import numpy as np

FEW = 40  # parts; each is filled in turn, in a third of the time that labelling every pixel takes
UNVISITED = 255


class Parts(NamedTuple):
    """The connected parts of a mask; part 0 is the background."""

    of_pixel: np.ndarray
    """Number of the part of each pixel, uint8 or int32, (height, width)."""
    statistics: np.ndarray
    """Left, top, width, height and area of each part in pixels, int32, (parts, 5)."""

    def where(self, wanted: np.ndarray) -> np.ndarray:
        """Return the mask of the parts that are `wanted`, bool, (parts,): uint8, 0 or 1, (height, width)."""
        if self.of_pixel.dtype != np.uint8:
            return wanted.astype(np.uint8)[self.of_pixel]
        table = np.zeros(256, np.uint8)
        table[: len(wanted)] = wanted
        return cv2.LUT(self.of_pixel, table)


def parts(mask: np.ndarray, connectivity: int) -> Parts:
    """Return the connected parts of a mask, in the order of their first pixels.

    Args:
        mask: uint8, 0 or `UNVISITED`, (height, width); it is written over.
        connectivity: 4 or 8 neighbours.

    """
    height, width = mask.shape
    flat, statistics = mask.reshape(-1), [(0, 0, width, height, 0)]
    while flat[place := int(flat.argmax())] == UNVISITED:
        if len(statistics) > FEW:
            mask = (mask > 0).astype(np.uint8)
            return Parts(*cv2.connectedComponentsWithStats(mask, connectivity=connectivity)[1:3])
        area, _, _, box = cv2.floodFill(
            mask, None, (place % width, place // width), len(statistics), flags=connectivity
        )
        statistics.append((*box, area))
    return Parts(mask, np.array(statistics, np.int32))

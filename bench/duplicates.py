"""Time and memory of the audit's duplicate search on as many thumbnails as the RSNA 2023 training set has images.

    python bench/duplicates.py [NUMBER]

The thumbnails are generated: a breast outline of random shape and side, filled with power-law texture. One in a hundred
is a copy of an earlier one: re-encoded, mirrored, inverted or cropped by 5 %.
"""

import os
import resource
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import scipy.fft

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "stages"))

from mammo.auditing.duplicates import THUMBNAIL, same_images
from mammo.core.randomness import generator

RSNA_IMAGES = 54_706
BATCH = 1000
COPIES = ("re-encoded", "mirrored", "inverted", "cropped")


def breasts(number: int) -> np.ndarray:
    """Thumbnails of as many different breasts, uint8, (number, THUMBNAIL, THUMBNAIL)."""
    images = np.empty((number, THUMBNAIL, THUMBNAIL), np.uint8)
    y, x = np.mgrid[:THUMBNAIL, :THUMBNAIL].astype(np.float32) / THUMBNAIL
    frequency = np.hypot(np.fft.fftfreq(THUMBNAIL)[:, None], np.fft.rfftfreq(THUMBNAIL)[None])
    frequency[0, 0] = np.inf
    for start in range(0, number, BATCH):
        random = generator(1, "bench duplicates", start)
        count = min(BATCH, number - start)
        noise = random.standard_normal((count, THUMBNAIL, THUMBNAIL)).astype(np.float32)
        texture = scipy.fft.irfft2(scipy.fft.rfft2(noise) / frequency**1.5, s=(THUMBNAIL, THUMBNAIL))
        texture /= texture.std(axis=(1, 2), keepdims=True)
        depth, half, middle = random.uniform((0.3, 0.25, 0.4), (0.9, 0.5, 0.6), (count, 3)).astype(np.float32).T
        inside = (x / depth[:, None, None]) ** 2 + ((y - middle[:, None, None]) / half[:, None, None]) ** 2
        level = random.uniform(60, 130, (count, 1, 1))
        batch = np.clip((level + 25 * texture) * np.clip(8 * (1 - inside), 0, 1), 0, 255).astype(np.uint8)
        left = random.random(count) < 0.5
        batch[left] = batch[left, :, ::-1]
        images[start : start + count] = batch
    return images


def copied(image: np.ndarray, how: str) -> np.ndarray:
    """A copy of one thumbnail."""
    if how == "re-encoded":
        return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], cv2.IMREAD_GRAYSCALE)
    if how == "mirrored":
        return image[:, ::-1]
    if how == "inverted":
        return 255 - image
    cut = round(0.05 * THUMBNAIL)
    return cv2.resize(image[cut:, cut:], (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_LINEAR)


def main() -> None:
    """Generate, search, and print a table row with what was found of what was planted."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else RSNA_IMAGES
    planted = {number - 1 - i: (i * 7, COPIES[i % len(COPIES)]) for i in range(number // 100)}
    images = breasts(number)
    for place, (source, how) in planted.items():
        images[place] = copied(images[source], how)
    begun, used = time.perf_counter(), time.process_time()
    pairs = {(pair.first, pair.second) for pair in same_images(images, [str(i) for i in range(number)])}
    took, used = time.perf_counter() - begun, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB to GiB
    truth = {(source, place): how for place, (source, how) in planted.items()}
    print(
        "| thumbnails | cores | seconds | processor seconds | peak memory, GiB | " + " | ".join(COPIES) + " | false |"
    )
    print("|---:" * (6 + len(COPIES)) + "|")
    shares = []
    for how in COPIES:
        of = [pair for pair, planted_how in truth.items() if planted_how == how]
        shares.append(f"{sum(pair in pairs for pair in of)} of {len(of)}")
    cells = [f"{number:,}", len(os.sched_getaffinity(0)), f"{took:.0f}", f"{used:.0f}", f"{peak:.2f}", *shares]
    print("| " + " | ".join(map(str, [*cells, len(pairs - truth.keys())])) + " |")


if __name__ == "__main__":
    main()

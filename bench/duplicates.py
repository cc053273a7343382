"""Time and memory of the audit's duplicate search on 54,706 thumbnails, the size of the RSNA 2023 training set.

    python bench/duplicates.py [NUMBER]

The thumbnails are generated: a breast outline of random shape and side, filled with power-law texture. One in a hundred
is a copy of an earlier one: re-encoded, mirrored, inverted or cropped by 5 %.
"""

import resource
import sys
import time

import cv2
import numpy as np
import scipy.fft
from measure import ROOT, heading

sys.path.insert(0, str(ROOT / "stages"))

from mammo.auditing.duplicates import THUMBNAIL, same_images
from mammo.core.randomness import generator

RSNA_IMAGES = 54_706
BATCH = 1000
COPIES = ("re-encoded", "mirrored", "inverted", "cropped")


def breasts(number: int) -> np.ndarray:
    """Return thumbnails of different breasts, uint8, (number, THUMBNAIL, THUMBNAIL)."""
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


def copied(image: np.ndarray, kind: str) -> np.ndarray:
    """Return a copy of one thumbnail; `kind` is one of `COPIES`."""
    if kind == "re-encoded":
        return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], cv2.IMREAD_GRAYSCALE)
    if kind == "mirrored":
        return image[:, ::-1]
    if kind == "inverted":
        return 255 - image
    cut = round(0.05 * THUMBNAIL)
    return cv2.resize(image[cut:, cut:], (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_LINEAR)


def main(number: int) -> None:
    """Generate thumbnails, search them, and print a table row with the planted copies that were found."""
    planted = {number - 1 - i: (i * 7, COPIES[i % len(COPIES)]) for i in range(number // 100)}
    images = breasts(number)
    for place, (source, kind) in planted.items():
        images[place] = copied(images[source], kind)
    begun, processor = time.perf_counter(), time.process_time()
    pairs = {(pair.first, pair.second) for pair in same_images(images, [str(i) for i in range(number)])}
    seconds, processor = time.perf_counter() - begun, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB to GiB
    truth = {(source, place): kind for place, (source, kind) in planted.items()}
    cells = [f"{number:,}", f"{seconds:.0f}", f"{processor:.0f}", f"{peak:.2f}"]
    for kind in COPIES:
        of = [pair for pair, copy in truth.items() if copy == kind]
        cells.append(f"{sum(pair in pairs for pair in of)} of {len(of)}")
    cells.append(str(len(pairs - truth.keys())))
    columns = ("thumbnails", "seconds", "processor seconds", "peak memory, GiB", *COPIES, "false")
    print(heading("generated thumbnails") + "\n")
    print(f"| {' | '.join(columns)} |\n{'|---:' * len(columns)}|\n| {' | '.join(cells)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RSNA_IMAGES)

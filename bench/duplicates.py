"""Time and memory of the audit's search for copies, up to a million thumbnails.

    python bench/duplicates.py [NUMBER …]            # by default 54,706, the size of the RSNA 2023 training set
    python bench/duplicates.py --search NUMBER …     # without registering the pairs of neighbours, at a cost per pair
    MAMMOGRAMS=FOLDER python bench/duplicates.py --real

The thumbnails are generated: a breast outline of random shape and side, filled with power-law texture of random
strength; two of five have the outline and the coarse texture of the one before them, as a second view may. The nearest
likeness of 2,672 of them is 0.81, 0.89, 0.93, 0.96, 0.97 at 5, 25, 50, 75, 95 %, that of as many real mammograms 0.81,
0.87, 0.91, 0.96, 0.98: it decides how much a search can leave out. One in a hundred is a copy of an earlier one:
re-encoded, mirrored, inverted or cropped by 5 %. Up to 54,706, near-duplicates are compared with those of all pairs.
`--real` does so with real mammograms, of a quarter, a half and all of the patients.
"""

import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import measure
import numpy as np
import scipy.fft
from measure import ROOT, heading

sys.path.insert(0, str(ROOT / "stages"))

from mammo.auditing import duplicates, thumbnails
from mammo.auditing.duplicates import THUMBNAIL, same_images
from mammo.core import parallel
from mammo.core.randomness import generator
from mammo.imaging import images

RSNA_IMAGES = 54_706
BATCH = 1000
COPIES = ("re-encoded", "mirrored", "inverted", "cropped")
SAMPLE = 1000  # thumbnails whose neighbours are compared with the nearest of all
POLL = 0.1  # seconds between two readings of memory
SIZE = (224, 224)
COARSE = 2.5 / THUMBNAIL  # cycles per pixel below which a second view has the texture of the first


def breasts(number: int, path: Path) -> np.memmap:
    """Write thumbnails of different breasts to a file; return them, uint8, (number, THUMBNAIL, THUMBNAIL)."""
    drawn = np.lib.format.open_memmap(path, "w+", np.uint8, (number, THUMBNAIL, THUMBNAIL))
    y, x = np.mgrid[:THUMBNAIL, :THUMBNAIL].astype(np.float32) / THUMBNAIL
    frequency = np.hypot(np.fft.fftfreq(THUMBNAIL)[:, None], np.fft.rfftfreq(THUMBNAIL)[None])
    frequency[0, 0] = np.inf
    for start in range(0, number, BATCH):
        random = generator(1, "bench duplicates", start)
        count = min(BATCH, number - start)
        second = np.flatnonzero(random.random(count - 1) < 0.4) + 1
        noise = random.standard_normal((count, THUMBNAIL, THUMBNAIL)).astype(np.float32)
        spectrum = scipy.fft.rfft2(noise) / frequency**1.5
        shape = random.uniform((0.3, 0.25, 0.4, 60, np.log(12)), (0.9, 0.5, 0.6, 130, np.log(70)), (count, 5))
        for position in second:  # the same breast: its outline, brightness and coarse texture, but no detail
            spectrum[position] = np.where(frequency < COARSE, spectrum[position - 1], spectrum[position])
            shape[position] = shape[position - 1] * random.uniform(0.97, 1.03, 5)
        texture = scipy.fft.irfft2(spectrum, s=(THUMBNAIL, THUMBNAIL))
        texture /= texture.std(axis=(1, 2), keepdims=True)
        depth, half, middle, level, strength = shape.astype(np.float32).T[:, :, None, None]
        inside = (x / depth) ** 2 + ((y - middle) / half) ** 2
        batch = np.clip((level + np.exp(strength) * texture) * np.clip(8 * (1 - inside), 0, 1), 0, 255)
        left = random.random(count) < 0.5
        batch[left] = batch[left, :, ::-1]
        drawn[start : start + count] = batch.astype(np.uint8)
    return drawn


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


def all_pairs(small: np.ndarray) -> set[tuple[int, int]]:
    """Return the near-duplicates among all pairs of thumbnails, found block by block."""
    of = thumbnails.spectra(small)
    found = set()
    for top in range(0, len(small), thumbnails.BLOCK):
        rows = np.arange(top, min(top + thumbnails.BLOCK, len(small)))
        for side in range(top, len(small), thumbnails.BLOCK):
            columns = np.arange(side, min(side + thumbnails.BLOCK, len(small)))
            bound = thumbnails.likenesses(of, of, rows, columns) + of.rest[rows, None] * of.rest[None, columns]
            for row, column in np.argwhere(bound > thumbnails.SAME_PICTURE - thumbnails.ROUNDING).tolist():
                a, b = top + row, side + column
                if a < b and thumbnails.correlation(small[a], small[b])[0] > thumbnails.SAME_PICTURE:
                    found.add((a, b))
    return found


def nearest_found(small: np.ndarray, pairs: set[tuple[int, int]]) -> float:
    """Return the share of the nearest neighbours of some thumbnails that is among the pairs."""
    coarse, every = thumbnails.spectra(small).coarse(), np.arange(len(small))
    rows = generator(1, "sample").permutation(len(every))[:SAMPLE]
    number = thumbnails.NEIGHBOURS if len(small) <= thumbnails.EXHAUSTIVE else thumbnails.NEIGHBOURS_OF_MANY
    wanted = set()
    for row in rows.tolist():
        likeness = thumbnails.likenesses(coarse, coarse, np.array([row]), every)[0]
        best = np.argsort(-likeness, kind="stable")[:number]
        wanted |= {(min(row, at), max(row, at)) for at in best[likeness[best] > thumbnails.COARSE_LIKENESS].tolist()}
    return len(wanted & pairs) / max(1, len(wanted))


@contextmanager
def peak() -> Iterator[list[int]]:
    """Yield a list that holds the largest anonymous memory of this process in bytes once the block has ended."""
    most, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(POLL):
            most[0] = max(most[0], measure.anonymous(os.getpid()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def searched(number: int, folder: Path) -> list[Any]:
    """Generate thumbnails and search them; return the cells of a row of the table."""
    planted = {number - 1 - i: (i * 7, COPIES[i % len(COPIES)]) for i in range(number // 100)}
    small = breasts(number, folder / "images.npy")
    for place, (source, kind) in planted.items():
        small[place] = copied(small[source], kind)
    small.flush()
    small = np.load(folder / "images.npy", mmap_mode="r")
    compared: list[np.ndarray] = []
    parts: list[float] = []
    near, neighbours = thumbnails.near_duplicates, thumbnails.neighbours

    def timed(work: Any, *given: Any) -> Any:
        begun = time.perf_counter()
        done = work(*given)
        parts.append(time.perf_counter() - begun)
        return done

    def kept(*given: Any) -> Any:
        found = timed(neighbours, *given)
        compared.append(found.pairs)
        return found

    thumbnails.near_duplicates, thumbnails.neighbours = (lambda *given: timed(near, *given)), kept
    try:
        with peak() as most:
            begun, processor = time.perf_counter(), time.process_time()
            pairs = same_images(small, [str(i) for i in range(number)])
            seconds, processor = time.perf_counter() - begun, time.process_time() - processor
    finally:
        thumbnails.near_duplicates, thumbnails.neighbours = near, neighbours
    truth = {(source, place): kind for place, (source, kind) in planted.items()}
    found = {(pair.first, pair.second) for pair in pairs}
    cells = [f"{number:,}", f"{seconds:.0f}", f"{processor:.0f}", *(f"{part:.0f}" for part in parts)]
    alike = {(pair.first, pair.second) for pair in pairs if pair.kind == "near-duplicate"}
    looked_at = {(a, b) for a, b in compared[0].tolist()} | alike
    cells += [f"{len(compared[0]):,}", f"{most[0] / 2**30:.2f}", f"{nearest_found(small, looked_at):.3f}"]
    for kind in COPIES:
        of = [pair for pair, copy in truth.items() if copy == kind]
        cells.append(f"{sum(pair in found for pair in of)} of {len(of)}")
    cells.append(str(len(found - truth.keys())))
    return [*cells, equal(alike, all_pairs(small)) if number <= RSNA_IMAGES else "–"]


def equal(found: set[tuple[int, int]], every: set[tuple[int, int]]) -> str:
    """Return whether both are the same pairs, in words."""
    return f"yes, {len(found)}" if found == every else f"**no**, {len(found)} and {len(every)}"


def real(folder: Path) -> None:
    """Search real mammograms; print a table row each for a quarter, a half and all of the patients."""
    paths = sorted(path for path in folder.rglob("*.jpg"))
    patients = sorted({re.split("_", path.name)[0] for path in paths})
    generator(1, "patients").shuffle(patients)
    print(heading("real mammograms") + "\n")
    print("| images | near-duplicates, s | equal to all pairs |\n|---:|---:|---|")
    for share in (4, 2, 1):
        some = set(patients[: len(patients) // share])
        chosen = [path for path in paths if re.split("_", path.name)[0] in some]
        side = (THUMBNAIL, THUMBNAIL)
        small = np.stack([cv2.resize(images.read(path, SIZE), side, interpolation=cv2.INTER_AREA) for path in chosen])
        small = small[small.std(axis=(1, 2)) > 0.5]
        of, begun = thumbnails.spectra(small), time.perf_counter()
        found = set(thumbnails.near_duplicates(small, of))
        seconds = time.perf_counter() - begun
        print(f"| {len(small):,} | {seconds:.2f} | {equal(found, all_pairs(small))} |", flush=True)


def main(numbers: Sequence[int]) -> None:
    """Print a table row per number of thumbnails, with the planted copies that were found."""
    columns = ("thumbnails", "seconds", "processor seconds", "near-duplicates, s", "neighbours, s", "pairs registered")
    columns += ("anonymous memory, GiB", "nearest found", *COPIES, "others", "equal to all pairs")
    print(heading(f"generated thumbnails, {parallel.cores()} cores used") + "\n")
    print(f"| {' | '.join(columns)} |\n{'|---:' * len(columns)}|")
    for number in numbers:
        with tempfile.TemporaryDirectory(prefix="duplicates_") as folder:
            print(f"| {' | '.join(searched(number, Path(folder)))} |", flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments == ["--real"]:
        real(Path(os.environ["MAMMOGRAMS"]))
    else:
        if arguments[:1] == ["--search"]:
            duplicates._registered = lambda *_: None
        main([int(number) for number in arguments if number.isdecimal()] or [RSNA_IMAGES])

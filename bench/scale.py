"""Time and memory of preprocess, audit and one epoch of train, from 1,000 to 54,706 images (the size of the RSNA set).

    python bench/scale.py [NUMBER …]

The images are variants of a few hundred phantoms, each shifted, brightened and with its own noise, as 320×320 JPEG,
three images per patient. Each stage runs as in dvc.yaml, in its own process, in a temporary folder that is removed;
peak memory is anonymous memory, without mapped files (RssAnon).
"""

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mammo.core import files, parallel, settings
from mammo.core.dataset import Entry, write_index
from mammo.core.randomness import generator
from mammo.sources.phantom import generate

import cv2
import material
import numpy as np
from measure import ROOT, heading, watched

NUMBERS = (1_000, 3_000, 10_000, 54_706)
MILLION = 1_000_000
SIZE = 320  # pixels
DRAWN = 100  # patients whose phantoms are varied
PER_PATIENT = 3
STAGES = {
    "preprocess": ("raw", "prepared", "metrics/preprocess.json"),
    "audit": ("prepared", "gate.json", "metrics/audit.json", "audit.csv", "shortcut.csv", "pictures"),
    "train": ("prepared", "gate.json", "model", "history.csv", "metrics/train.json"),
}


def originals(folder: Path, params: settings.Params) -> list[tuple[int, np.ndarray]]:
    """Return the labels and pixels of the original phantoms."""
    phantoms = params.data.phantom.model_copy(update={"size": SIZE, "patients": DRAWN})
    entries = generate(phantoms, folder, parallel.cores())
    images = [(entry.label, cv2.imread(str(folder / entry.image), cv2.IMREAD_GRAYSCALE)) for entry in entries]
    shutil.rmtree(folder)
    return images


def varied(image: np.ndarray, position: int) -> np.ndarray:
    """Return a variant of `image`: mirrored or not, shifted, rotated, brightened, with its own noise."""
    random = generator(1, "scale", position)
    angle, zoom = random.uniform(-12, 12), random.uniform(0.85, 1.15)
    matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), angle, zoom)
    matrix[:, 2] += random.uniform(-25, 25, 2)
    image = cv2.warpAffine(image, matrix, (SIZE, SIZE)).astype(np.float32)
    strands = cv2.resize(random.standard_normal((20, 20), np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    noise = random.standard_normal((SIZE, SIZE), np.float32)
    image = image * (random.uniform(0.8, 1.2) + 0.2 * strands) + 3 * noise
    return np.clip(image[:, :: random.choice([-1, 1])], 0, 255).astype(np.uint8)


def made(images: list[tuple[int, np.ndarray]], raw: Path, number: int) -> None:
    """Create `raw` like the output of the stage download, with `number` images."""
    classes = [[image for label, image in images if label == wanted] for wanted in (0, 1)]

    def write(position: int) -> Entry:
        patient = position // PER_PATIENT
        label = int(patient % 3 == 0)
        chosen = classes[label]
        name = f"train/{label}/{patient:07d}_{position:07d}.jpg"
        path = raw / name
        cv2.imwrite(str(path), varied(chosen[position % len(chosen)], position))
        return Entry(name, label, "train", f"{patient:07d}", files.sha256(path))

    for label in (0, 1):
        (raw / "train" / str(label)).mkdir(parents=True)
    entries = parallel.each(write, range(number), "images")
    write_index(raw, sorted(entries, key=lambda entry: entry.image))


def measured(run: Path) -> dict[str, tuple[float, float]]:
    """Return seconds and peak anonymous memory (bytes) of every stage, run in a folder with params.yaml."""
    measures = {}
    for name, paths in STAGES.items():
        command = (sys.executable, ROOT / "stages" / f"{name}.py", *paths)
        measures[name] = watched(command, run, may_fail_with="COLLAPSED")
        print(f"{name}: {measures[name][0]:.0f} s, {measures[name][1] / 1e9:.2f} GB", file=sys.stderr, flush=True)
    return measures


def main(numbers: list[int]) -> None:
    """Measure each size; print the table with slopes and the extrapolation to a million images."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # to remove the folder and end the processes
    params = settings.read(ROOT / "params.yaml")
    with tempfile.TemporaryDirectory(prefix="scale_") as work:
        images = originals(Path(work) / "drawn", params)
        measures = []
        for number in numbers:
            run = Path(work) / str(number)
            changed = {"data": {"source": "folder"}, "train": {"epochs": 1}, "audit": {"on_leak": "warn"}}
            material.folder_with(params, run, **changed)
            made(images, run / "raw", number)
            print(f"{number:,} images", file=sys.stderr, flush=True)
            measures.append(measured(run))
            shutil.rmtree(run)
    print(heading(f"generated images ({SIZE}×{SIZE} JPEG); seconds and peak anonymous memory") + "\n")
    print("\n".join(table(numbers, measures)))


def table(numbers: list[int], measures: list[dict[str, tuple[float, float]]]) -> Iterator[str]:
    """Yield the lines of the table; with three or more sizes, also the extrapolation and the slopes."""
    yield "| images | " + " | ".join(f"{name}, s | {name}, GB" for name in STAGES) + " |"
    yield "|---:" * (1 + 2 * len(STAGES)) + "|"
    for number, of in zip(numbers, measures, strict=True):
        cells = (f"{seconds:.0f} | {peak / 1e9:.2f}" for seconds, peak in of.values())
        yield f"| {number:,} | " + " | ".join(cells) + " |"
    if len(numbers) > 2:
        yield f"| {MILLION:,}, by the fit | " + " | ".join(far(numbers, name, measures) for name in STAGES) + " |"
        slopes = (np.polyfit(numbers, [of[name][1] for of in measures], 1)[0] for name in STAGES)
        each = ", ".join(f"{name} {slope / 1e3:.2f} kB" for name, slope in zip(STAGES, slopes, strict=True))
        yield f"\nmemory per further image: {each}"


def far(numbers: list[int], name: str, measures: list[dict[str, tuple[float, float]]]) -> str:
    """Return a stage's hours and GB for a million images, extrapolated by least squares.

    Time and memory are linear, but for the audit's search for copies, which is nearly so.
    """
    seconds = np.polyfit(numbers, [of[name][0] for of in measures], 1)
    peak = np.polyfit(numbers, [of[name][1] for of in measures], 1)
    return f"{np.polyval(seconds, MILLION) / 3600:.1f} h | {np.polyval(peak, MILLION) / 1e9:.1f}"


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]] or list(NUMBERS))

"""Draw the pictures of the audit: examples of each kind of finding, grey levels by class, images by split."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from mammo.auditing.findings import Finding
from mammo.auditing.shortcut import HISTOGRAM_BINS
from mammo.auditing.split_sizes import ASSUMED_AUC, split_counts
from mammo.core import files
from mammo.core.dataset import CLASSES, SPLITS, Dataset
from mammo.core.wording import SPLIT_NAMES, in_words
from mammo.reporting import figures

import matplotlib.pyplot as plt
import numpy as np

EXAMPLES = 12  # per picture
LONGEST_NAME = 24  # characters above an image
WIDTH = figures.SIZE[0]  # inches, of a figure with one pair of axes


def draw(folder: Path, data: Dataset, findings: Sequence[Finding], features: np.ndarray, about: str) -> None:
    """Draw one picture per kind of finding; each caption begins with `about`, a description of the data."""
    kinds = defaultdict(list)
    for row in findings:
        kinds[row.kind].append(row)
    with files.written(folder) as beside:
        beside.mkdir()
        for kind, rows in kinds.items():
            if rows[0].image:
                contact_sheet(beside / f"{kind}.png", data, rows, about)
        if "shortcut" in kinds:
            detail = kinds["shortcut"][0].detail
            histograms(beside / "shortcut.png", data, features, f"{about}{detail[0].upper()}{detail[1:]}.")
        if "small_split" in kinds or "unbalanced_split" in kinds:
            class_balance(beside / "splits.png", data, about)


def contact_sheet(path: Path, data: Dataset, rows: Sequence[Finding], about: str) -> None:
    """Draw evenly spaced examples of one kind of finding, each beside the image it is compared with."""
    examples = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, EXAMPLES).round().astype(int))]
    position = {name: i for i, name in enumerate(data.names)}
    tiles = [name for row in examples for name in (row.image, row.other) if name]
    across = min(6, len(tiles))
    down = math.ceil(len(tiles) / across)
    width, height = max(1.5 * across, 3.6), 1.8 * down + 0.9
    with plt.rc_context(figures.STYLE | {"axes.grid": False, "axes.spines.top": True, "axes.spines.right": True}):
        figure, panels = plt.subplots(down, across, figsize=(width, height), squeeze=False)
        top, bottom = 1 - 0.65 / height, 0.35 / height
        figure.subplots_adjust(left=0.02, right=0.98, top=top, bottom=bottom, hspace=0.3, wspace=0.08)
        figure.suptitle(f"{in_words(rows[0].kind).capitalize()}: {len(examples)} of {len(rows)}", fontsize=10)
        for panel in panels.flat[len(tiles) :]:
            panel.axis("off")
        for panel, name in zip(panels.flat, tiles, strict=False):
            entry = data.entries[position[name]]
            panel.imshow(data.images[position[name]], cmap="gray", vmin=0, vmax=255)
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set(color="0.6", linewidth=0.5)  # so that a white background has an edge
            short = figures.short_name(name, LONGEST_NAME)
            panel.set_title(f"{short}\n{SPLIT_NAMES[entry.split]}, {CLASSES[entry.label]}", fontsize=5.5, pad=2)
        beside = "Pairs side by side. " if rows[0].other else ""
        figures.save(figure, path, f"{about}{beside}All findings of this kind are rows of audit.csv.")


def histograms(path: Path, data: Dataset, features: np.ndarray, caption: str) -> None:
    """Draw the mean histogram of grey levels in training images of each class, as used by the random forest."""
    train = data.part("train")
    centres = (np.arange(HISTOGRAM_BINS) + 0.5) * 256 / HISTOGRAM_BINS
    with plt.rc_context(figures.STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 3.9))
        figure.subplots_adjust(left=0.16, right=0.97, top=0.92)
        for label, line in ((0, "--"), (1, "-")):
            mean = features[train[data.labels[train] == label], :HISTOGRAM_BINS].mean(axis=0)
            axes.plot(centres, mean, line, color=figures.INK, drawstyle="steps-mid", label=CLASSES[label])
        axes.set(yscale="log", xlabel="Grey level", ylabel="Share of pixels, mean", title="Intensity gives labels away")
        axes.legend(loc="upper right")
        figures.save(figure, path, caption, room=0.15)


def class_balance(path: Path, data: Dataset, about: str) -> None:
    """Draw the number of images of each class by split."""
    counts = {split: split_counts(data, split) for split in SPLITS}
    with plt.rc_context(figures.STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, 2.8))
        figure.subplots_adjust(left=0.2, right=0.96, top=0.89, bottom=0.34)
        healthy, cancer = ([count[f"{name}_images"] for count in counts.values()] for name in CLASSES)
        names = [SPLIT_NAMES[split] for split in SPLITS]
        axes.barh(names, healthy, color=figures.BAND, label="healthy")
        axes.barh(names, cancer, left=healthy, color=figures.INK, label="cancer")
        axes.invert_yaxis()
        axes.set(xlabel="Images", title="Classes by split")
        axes.legend(loc="lower right")
        widths = ", ".join(
            f"{SPLIT_NAMES[split]} ±{counts[split]['expected_half_width_of_auc']:.2f}" for split in SPLITS[1:]
        )
        figures.save(figure, path, f"{about}Expected interval around a ROC AUC of {ASSUMED_AUC}: {widths}.")

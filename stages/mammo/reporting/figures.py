"""Figures for print and screen: labelled axes, readable without colour, byte-identical for the same numbers."""

import textwrap
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import matplotlib

matplotlib.use("Agg")

from mammo.core import files
from mammo.core.wording import shown
from mammo.scoring import Interval, percent, rounded, with_interval

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

STYLE: Any = {
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "mammo",
}
INK, BAND, REFERENCE, SECOND = "#1f4e79", "#9dbbd8", "0.45", "#b3541e"
ALARM = "#a61b1b"  # of a leak
SIZE = (4.0, 4.5)  # inches, of a figure with one pair of axes; its text is readable on a phone
CAPTION = 7.5  # points


def save(figure: Figure, path: Path, caption: str, room: float = 0) -> None:
    """Write a PNG with its caption below; the file contains no date and no library version.

    Args:
        figure: what is written, and closed.
        path: the PNG.
        caption: wrapped to the figure's width.
        room: share of the height between a caption of any length and the axes; 0 leaves the axes where they are.

    """
    text = figure.text(0.02, 0.01, caption, fontsize=CAPTION, color="0.25", ha="left", va="bottom", wrap=True)
    if room:
        figure.canvas.draw()  # wraps the caption
        top = text.get_window_extent().transformed(figure.transFigure.inverted()).y1
        figure.subplots_adjust(bottom=top + room)
    with files.written(path) as beside, beside.open("wb") as file:
        figure.savefig(file, format="png", metadata={"Software": None})
    plt.close(figure)


def plain(text: str) -> str:
    """Return text that Matplotlib draws as it is: a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def short_name(image: str, longest: int) -> str:
    """Return an image's name to be drawn: without folder, extension and the suffix that the Kaggle set adds.

    Of a name with more than `longest` characters, the middle is left out.
    """
    name = PurePosixPath(image).name.split("_png")[0].rsplit(".", 1)[0]
    if len(name) > longest:
        half = longest // 2
        name = f"{name[:half]}…{name[half + 1 - longest :]}"
    return plain(shown(name))


def _square(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=SIZE)
    figure.subplots_adjust(left=0.14, right=0.96, top=0.92, bottom=0.24)
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return figure, axes


def roc(path: Path, curve: np.ndarray, point: tuple[float, float], auc: Interval, caption: str) -> None:
    """Draw the ROC curve with its pointwise 95 % band, and the `point` of the locked threshold.

    The curve is (rows, 5) as in plots/roc.csv: 1 - specificity, sensitivity, threshold, low, high.
    """
    fpr, tpr, _, low, high = curve.T
    with plt.rc_context(STYLE):
        figure, axes = _square("ROC curve, test images", "1 − specificity", "Sensitivity")
        axes.fill_between(fpr, low, high, color=BAND, alpha=0.5, linewidth=0, label="95 % band, pointwise")
        axes.plot(fpr, tpr, color=INK, linewidth=1.5, clip_on=False, label=f"network, ROC AUC\n{_in_words(auc)}")
        axes.plot([0, 1], [0, 1], color=REFERENCE, linewidth=0.8, linestyle="--", label="chance")
        axes.plot(*point, "o", color="black", markersize=5, clip_on=False, label="threshold locked on validation")
        axes.legend(loc="lower right", fontsize=7.5)
        save(figure, path, caption)


def precision_recall(path: Path, curve: np.ndarray, prevalence: float, average: Interval, caption: str) -> None:
    """Draw the precision-recall curve with its pointwise 95 % band, and the prevalence as chance line.

    The curve is (rows, 5) as in plots/pr.csv: recall, precision, threshold, low, high.
    """
    recall, precision, _, low, high = curve.T
    with plt.rc_context(STYLE):
        figure, axes = _square("Precision and recall, test images", "Recall (sensitivity)", "Precision")
        axes.fill_between(recall, low, high, color=BAND, alpha=0.5, linewidth=0, label="95 % band, pointwise")
        label = f"network, average precision\n{_in_words(average)}"
        axes.plot(recall, precision, color=INK, linewidth=1.5, clip_on=False, label=label)
        chance = f"chance, {rounded(prevalence)}"
        axes.axhline(prevalence, color=REFERENCE, linewidth=0.8, linestyle="--", label=chance)
        axes.legend(loc="lower left", fontsize=7.5)
        save(figure, path, caption)


def _in_words(interval: Interval) -> str:
    return with_interval(interval.value, interval.low, interval.high)


def confusion(path: Path, matrix: np.ndarray, threshold: float, caption: str) -> None:
    """Draw the confusion matrix, (2, 2) counts: rows actual, columns predicted, healthy before cancer."""
    with plt.rc_context(STYLE | {"axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, axes = plt.subplots(figsize=SIZE)
        figure.subplots_adjust(left=0.2, right=0.96, top=0.88, bottom=0.24)
        shares = matrix / matrix.sum(axis=1, keepdims=True)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            share = shares[row, column]
            text = f"{count}\n{percent(share)} of {'cancer' if row else 'healthy'}"
            axes.text(column, row, text, ha="center", va="center", color="white" if share > 0.55 else "black")
        names = ["healthy", "cancer"]
        axes.set(xticks=[0, 1], yticks=[0, 1], xticklabels=names, yticklabels=names)
        axes.set(
            xlabel="Predicted",
            ylabel="Actual",
            title=f"Confusion matrix, test images\n(threshold {rounded(threshold)})",
        )
        axes.tick_params(length=0)
        save(figure, path, caption)


def history(path: Path, rows: Sequence[dict[str, str]], best_epoch: int, caption: str) -> None:
    """Draw loss and ROC AUC by epoch of training (augmented) and validation images; rows as in plots/history.csv."""
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(6.6, 3.2))
        figure.subplots_adjust(left=0.09, right=0.98, top=0.9, bottom=0.26, wspace=0.25)
        for axes, key, name in zip(panels, ("loss", "roc_auc"), ("Cross-entropy (nat)", "ROC AUC"), strict=True):
            for split, line, face, label in (
                ("train", "--", "white", "training, augmented"),
                ("valid", "-", INK, "validation"),
            ):
                part = [row for row in rows if row["split"] == split]
                epochs = [int(row["epoch"]) for row in part]
                values = [float(row[key]) for row in part]
                axes.plot(epochs, values, line, color=INK, marker="o", ms=4, mfc=face, clip_on=False, label=label)
            axes.axvline(best_epoch, color=REFERENCE, linewidth=0.8, linestyle=":", label="epoch kept")
            axes.set(xlabel="Epoch", ylabel=name)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0].set_title("Loss")
        panels[1].set(title="Ranking", ylim=(None, 1))
        panels[1].legend(loc="best", fontsize=7.5)
        save(figure, path, caption)


def calibration(path: Path, rows: np.ndarray, caption: str, title: str = "Calibration, test images") -> None:
    """Draw the reliability curve, and that of recalibrated probabilities; rows as in plots/calibration.csv.

    Columns: probability, observed share, low, high, images and, if there is a recalibration, recalibrated probability.
    """
    with plt.rc_context(STYLE):
        figure, axes = _square(title, "Predicted probability of cancer", "Observed share of cancer")
        probability, observed, low, high, _, *recalibrated = rows.T
        axes.plot([0, 1], [0, 1], color=REFERENCE, linewidth=0.8, linestyle="--", label="perfect")
        errors = np.array([observed - low, high - observed])
        axes.errorbar(
            probability, observed, errors, fmt="o-", color=INK, ms=4, capsize=2, clip_on=False, label="network, 95 %"
        )
        for moved in recalibrated:
            axes.plot(moved, observed, "s--", color=SECOND, ms=4, mfc="white", clip_on=False, label="recalibrated")
        axes.legend(loc="upper left", fontsize=7.5)
        save(figure, path, caption)


def decision(path: Path, rows: np.ndarray, caption: str) -> None:
    """Draw the decision curve with its pointwise 95 % band, and that of recalibrated probabilities.

    Args:
        path: the PNG.
        rows: as in plots/decision.csv: threshold, net benefit of the network, low, high, net benefit of recalling
            everybody and of recalling nobody and, if there is a recalibration, net benefit with it, low, high.
        caption: text below the figure.

    """
    threshold, benefit, low, high, everybody, nobody, *recalibrated = rows.T
    with plt.rc_context(STYLE):
        figure, axes = _square("Decision curve, test images", "Threshold probability", "Net benefit")
        figure.subplots_adjust(left=0.18)
        axes.fill_between(threshold, low, high, color=BAND, alpha=0.5, linewidth=0, label="95 % band, pointwise")
        axes.plot(threshold, benefit, color=INK, linewidth=1.5, label="network")
        if recalibrated:
            axes.plot(threshold, recalibrated[0], color=SECOND, linewidth=1.5, linestyle="-.", label="recalibrated")
        axes.plot(threshold, everybody, color=REFERENCE, linewidth=0.8, linestyle="--", label="recall everybody")
        axes.plot(threshold, nobody, color=REFERENCE, linewidth=0.8, linestyle=":", label="recall nobody")
        top = max(0.05, float(high.max()), float(everybody.max()))
        axes.set(ylim=(-top / 4, 1.05 * top), aspect="auto")  # the curve of recalling everybody has no lower bound
        axes.legend(loc="center right", fontsize=7.5)
        save(figure, path, caption)


def two_rocs(
    path: Path,
    curves: Sequence[np.ndarray],
    names: Sequence[str],
    aucs: Sequence[Interval],
    warnings: Sequence[str],
    title: str = "ROC curves, the same test images",
) -> None:
    """Draw two ROC curves, by default of two models on the same images, readable without colour.

    Args:
        path: the PNG.
        curves: of each model, (rows, 5) as in plots/roc.csv: 1 - specificity, sensitivity, threshold, low, high.
        names: names of the models.
        aucs: ROC AUC of each model.
        warnings: what is written above all else, e.g. that a model's splits leak.
        title: of the picture.

    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.2, 4.4), layout="constrained")
        axes.set(title=title, xlabel="1 − specificity", ylabel="Sensitivity")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        if warnings:
            text = "\n".join(textwrap.fill(line, 70) for line in warnings)
            figure.suptitle(text, fontsize=CAPTION, color=ALARM, parse_math=False)
        styles = (("0.35", "--", "////"), (INK, "-", ""))
        for letter, name, auc, curve, (colour, dashes, hatch) in zip("AB", names, aucs, curves, styles, strict=True):
            fpr, tpr, _, low, high = curve.T
            axes.fill_between(
                fpr, low, high, facecolor="none" if hatch else colour, edgecolor=colour, hatch=hatch, alpha=0.25, lw=0.6
            )
            label = f"{letter}: {plain(name)}\nROC AUC {with_interval(auc.value, auc.low, auc.high)}"
            axes.plot(fpr, tpr, color=colour, linestyle=dashes, linewidth=1.5, clip_on=False, label=label)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":", label="chance")
        axes.legend(loc="lower right", fontsize=7)
        save(figure, path, "")

"""The test split scored and drawn: every number with its interval, the threshold as locked on validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from mammo import scoring
from mammo.core import dataset, files, model_info, predictions, settings, stage
from mammo.core.dataset import Dataset
from mammo.core.model_info import ModelInfo
from mammo.core.predictions import Prediction
from mammo.learning import networks
from mammo.predicting import explanation
from mammo.reporting import figures
from mammo.scoring import Bootstrap, Cases
from sklearn.metrics import confusion_matrix

# isort: split
import keras  # after networks, which quietens TensorFlow

CLASSES = ("healthy", "cancer")
OUTCOMES = (("true positives", 1, 1), ("false negatives", 1, 0), ("false positives", 0, 1), ("true negatives", 0, 0))
"""Name, actual class and predicted class."""
SHEET, COLUMNS = 9, 3  # cases on a sheet of heat maps, and side by side
SHEET_WIDTH, GAP, HEADING = 9.0, 0.15, 0.22  # inches
SANITY_IMAGES = 100  # on which the map of a randomised network is compared, spread evenly over the test images


def main(prepared: Path, model: Path, audit: Path, history: Path, metrics: Path, plots: Path) -> None:
    """Score MODEL on the test split of PREPARED; write tables and pictures to the folders METRICS and PLOTS.

    The shortcut baseline of AUDIT stands beside the scores, HISTORY is drawn. Heat maps show where the network looked.
    """
    how = settings.read().evaluate
    data = dataset.load(prepared)
    info = model_info.read(model)
    networks.use_threads(info.arithmetic.threads)
    network = keras.models.load_model(model / "model.keras")
    test = data.part("test")
    probability = networks.probabilities(networks.forward(network, info.flip_at_test), data.images, test, "evaluate")
    cases = Cases(data.labels[test], probability, data.patients[test])
    bootstrap = Bootstrap(how.seed, how.resamples)
    threshold = info.thresholds[how.threshold]
    predicted = (probability >= threshold).astype(int)

    scores = scoring.scores(cases, threshold, bootstrap)
    roc = scoring.roc_curve(cases, bootstrap)
    recall = scoring.pr_curve(cases, bootstrap)
    calibration, reliability = scoring.reliability(cases, bootstrap)
    points = scoring.operating_points(cases, info.thresholds, bootstrap)

    about = description(info, data, test)
    write_predictions(plots, data, test, probability, predicted)
    for name, table in (
        ("roc", roc),
        ("pr", recall),
        ("calibration", reliability),
        ("decision", scoring.net_benefit(cases, bootstrap)),
    ):
        files.write_csv(plots / f"{name}.csv", table.columns, table.rows)
    caption = f"{about} · intervals: 95 %, bootstrap over patients"
    draw(plots, scores, roc, recall, reliability, cases, predicted, threshold, caption)
    rows = files.read_csv(history, ("epoch", "split", "loss", "roc_auc"))
    figures.history(plots / "history.png", rows, info.epoch, about)
    maps = explanation.explainer(network)
    lesions = np.load(prepared / "masks.npy", mmap_mode="r") if (prepared / "masks.npy").is_file() else None
    looks = where_it_looks(network, maps, data, lesions, test, predicted, how)
    files.write_json(metrics / "explanation.json", scoring.as_json(looks))
    with files.written(plots / "explanation") as folder:
        folder.mkdir()
        draw_sheets(folder, maps, data, lesions, test, probability, predicted, about)
    files.write_json(metrics / "operating_points.json", scoring.as_json(points))
    files.write_json(metrics / "calibration.json", scoring.as_json(calibration))
    leak = info.audit.model_dump() if info.audit.leaking else {}
    shortcut = files.read_json(audit)["shortcut"]["roc_auc"]
    content = headline(scores, cases, bootstrap, threshold, shortcut)
    write_scores(plots / "scores.csv", content, about)
    files.write_json(metrics / "test.json", scoring.as_json({**leak, **content}))


def headline(
    scores: Mapping[str, scoring.Interval],
    cases: Cases,
    bootstrap: Bootstrap,
    threshold: float,
    shortcut: dict[str, float],
) -> dict[str, Any]:
    """The content of metrics/test.json."""
    per_image = scoring.image_scores(cases, threshold, bootstrap)
    return {
        "roc_auc": scores["roc_auc"],
        "shortcut_roc_auc": shortcut,
        **scores,
        "if_images_were_independent": {
            "roc_auc_delong": scoring.delong_interval(cases),
            "roc_auc_bootstrap": per_image["roc_auc"],
        },
        "threshold": {"value": threshold},
        "images": {"healthy": int((~cases.labels).sum()), "cancer": int(cases.labels.sum())},
        "patients": {"value": len(cases.cancer)},
    }


def write_scores(path: Path, content: Mapping[str, Any], about: str) -> None:
    """plots/scores.csv: every score that has an interval, and what data it is of, for the plots page."""
    scores = scoring.as_json(content).items()
    intervals = {name: score for name, score in scores if isinstance(score, dict) and "low" in score}
    rows = [(name, score["value"], score["low"], score["high"], about) for name, score in intervals.items()]
    files.write_csv(path, ("score", "value", "low", "high", "data"), rows)


def write_predictions(
    plots: Path, data: Dataset, test: np.ndarray, probability: np.ndarray, predicted: np.ndarray
) -> None:
    """plots/predictions.csv, one row an image, and plots/confusion.csv, the same in words."""
    entries = [data.entries[position] for position in test]
    rows = [
        Prediction(entry.image, entry.patient_key, entry.label, float(chance), int(called))
        for entry, chance, called in zip(entries, probability, predicted, strict=True)
    ]
    predictions.write(plots / "predictions.csv", rows)
    words = [(CLASSES[row.label], CLASSES[row.predicted]) for row in rows]
    files.write_csv(plots / "confusion.csv", ("actual", "predicted"), words)


def draw(
    plots: Path,
    scores: Mapping[str, scoring.Interval],
    roc: scoring.Table,
    recall: scoring.Table,
    reliability: scoring.Table,
    cases: Cases,
    predicted: np.ndarray,
    threshold: float,
    below: str,
) -> None:
    """The pictures of curves and confusion matrix, each with the caption `below`."""
    fpr, tpr, _, low, high = np.array(roc.rows).T
    point = (1 - scores["specificity"].value, scores["sensitivity"].value)
    figures.roc(plots / "roc.png", fpr, tpr, (low, high), point, in_words(scores["roc_auc"]), below)
    share, precision, _, low, high = np.array(recall.rows).T
    prevalence = float(cases.labels.mean())
    average = in_words(scores["average_precision"])
    figures.precision_recall(plots / "pr.png", share, precision, (low, high), prevalence, average, below)
    matrix = confusion_matrix(cases.as_given(cases.labels), predicted, labels=[0, 1])
    figures.confusion(plots / "confusion.png", matrix, threshold, below)
    figures.calibration(plots / "calibration.png", np.array(reliability.rows), below)


def where_it_looks(
    network: keras.Model,
    maps: networks.Forward,
    data: Dataset,
    lesions: np.ndarray | None,
    test: np.ndarray,
    predicted: np.ndarray,
    how: settings.Evaluate,
) -> dict[str, Any]:
    """The content of metrics/explanation.json: the pointing game where lesions are known, and the sanity check."""
    content: dict[str, Any] = {}
    found = test[(data.labels[test] == 1) & (predicted == 1)]
    if lesions is not None:
        found = np.array([position for position in found if lesions[position].any()], dtype=int)
    if lesions is not None and len(found):
        peaks = np.array([explanation.peak(heat) for heat in explanation.heat_maps(maps, data.images, found, "point")])
        content["true_positives"] = len(found)
        content |= explanation.pointing_game(
            peaks, data.images, lesions, found, data.patients[found], Bootstrap(how.seed, how.resamples)
        )
    some = test[np.unique(np.linspace(0, len(test) - 1, SANITY_IMAGES).round().astype(int))]
    blank = explanation.explainer(explanation.randomised(network, how.seed))
    pairs = (explanation.heat_maps(step, data.images, some, "sanity") for step in (maps, blank))
    similar = [
        explanation.rank_correlation(heat, other, explanation.breast(data.images[position]))
        for position, heat, other in zip(some, *pairs, strict=True)
    ]
    content["randomised_network"] = {"rank_correlation": {"value": float(np.mean(similar))}, "images": len(some)}
    return content


def draw_sheets(
    folder: Path,
    maps: networks.Forward,
    data: Dataset,
    lesions: np.ndarray | None,
    test: np.ndarray,
    probability: np.ndarray,
    predicted: np.ndarray,
    about: str,
) -> None:
    """For each outcome that occurs `folder`/OUTCOME.png: the cases of which the network was most certain."""
    outlined = "" if lesions is None else "; dotted: the lesion"
    caption = (
        f"{about}\nRight of each image what speaks for cancer, brightest where most (every map by its own scale), "
        f"its peak circled{outlined}. Number: probability of cancer."
    )
    for outcome, actual, called in OUTCOMES:
        here = np.flatnonzero((data.labels[test] == actual) & (predicted == called))
        certain = np.argsort(-probability[here] if called else probability[here], kind="stable")
        shown = here[certain[:SHEET]]
        if not len(shown):
            continue
        heats = explanation.heat_maps(maps, data.images, test[shown])
        title = f"{outcome.capitalize()}: the {len(shown)} most certain of {len(here)}"
        cases = [
            (
                f"{short(data.entries[position].image)}   {chance:.3f}",
                data.images[position],
                heat,
                None if lesions is None else lesions[position],
            )
            for position, chance, heat in zip(test[shown], probability[shown], heats, strict=True)
        ]
        sheet(folder / f"{outcome.replace(' ', '_')}.png", title, cases, caption)


def short(image: str) -> str:
    """A file's name without folder, ending and what the Kaggle set adds to it."""
    return PurePosixPath(image).name.split("_png")[0].rsplit(".", 1)[0][:24]


def sheet(
    path: Path, title: str, cases: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray | None]], caption: str
) -> None:
    """A contact sheet; a case is its heading, the image, its heat map and its lesion, if known."""
    rows = -(-len(cases) // COLUMNS)
    across = (SHEET_WIDTH - (COLUMNS + 1) * GAP) / (2 * COLUMNS)  # inches
    down = across * cases[0][1].shape[0] / cases[0][1].shape[1]
    height = rows * (down + HEADING) + 0.4 + 0.45
    with plt.rc_context(figures.STYLE | {"axes.grid": False}):
        figure = plt.figure(figsize=(SHEET_WIDTH, height))
        figure.text(GAP / SHEET_WIDTH, 1 - 0.12 / height, title, fontsize=11, va="top")
        for number, (heading, image, heat, lesion) in enumerate(cases):
            row, column = divmod(number, COLUMNS)
            left = GAP + column * (2 * across + GAP)
            bottom = height - 0.4 - (row + 1) * (down + HEADING)
            place = (left / SHEET_WIDTH, (bottom + down + 0.04) / height)
            figure.text(*place, heading, fontsize=7, va="bottom")
            panels = []
            for offset, picture in ((0, image), (across, explanation.overlay(image, heat))):
                box = ((left + offset) / SHEET_WIDTH, bottom / height, across / SHEET_WIDTH, down / height)
                panels.append(figure.add_axes(box))
                panels[-1].imshow(picture, cmap="gray", vmin=0, vmax=255, aspect="auto")
                panels[-1].axis("off")
            if lesion is not None and lesion.any():
                panels[0].contour(lesion, levels=[127], colors="white", linewidths=0.6, linestyles="dotted")
            if heat.any():
                row, column = explanation.peak(heat)
                panels[1].plot(column, row, "o", ms=7, mfc="none", mec="white", mew=0.8)
        figures.save(figure, path, caption)


def in_words(interval: scoring.Interval) -> str:
    """`0.87 (0.82–0.91)`."""
    return f"{interval.value:.2f} ({interval.low:.2f}–{interval.high:.2f})"


def description(info: ModelInfo, data: Dataset, test: np.ndarray) -> str:
    """What every picture says of its data, a leak before all else."""
    source = info.trained_on.source
    kind = "PHANTOMS (synthetic mammograms)" if source == "phantom" else f"Data: {source}"
    patients = len(set(data.patients[test]))
    text = f"{kind} · {len(test)} test images of {patients} patients"
    return f"{info.audit.sentence} {text}" if info.audit.leaking else text


if __name__ == "__main__":
    stage.run(main)

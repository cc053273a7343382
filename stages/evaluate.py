"""The test split scored and drawn: every number with its interval, the threshold as locked on validation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from mammo import dataset, figures, files, networks, settings, stage, statistics
from mammo.dataset import Dataset
from pydantic import Field
from sklearn.metrics import confusion_matrix

# isort: split
import keras  # after networks, which quietens TensorFlow

CLASSES = ("healthy", "cancer")


class Evaluate(settings.Settings):
    """Section `evaluate` of params.yaml."""

    threshold: Literal["balanced_accuracy", "half", "specificity_90", "specificity_95", "sensitivity_90"]
    seed: int
    resamples: Annotated[int, Field(ge=200, le=100_000)]


def main(prepared: Path, model: Path, audit: Path, history: Path, metrics: Path, plots: Path) -> None:
    """Score MODEL on the test split of PREPARED; write tables and pictures to the folders METRICS and PLOTS.

    The shortcut baseline of AUDIT stands beside the scores, HISTORY is drawn.
    """
    how = settings.read("evaluate", Evaluate)
    data = dataset.load(prepared)
    card = files.read_json(model / "model.json")
    networks.use_threads(card["arithmetic"]["threads"])
    network = keras.models.load_model(model / "model.keras")
    test = data.part("test")
    probability = networks.probabilities(networks.forward(network), data.images, test, "evaluate")
    cases = {"labels": data.labels[test], "probabilities": probability, "patients": data.patients[test]}
    bootstrap = {"seed": how.seed, "resamples": how.resamples}
    threshold = card["thresholds"][how.threshold]
    predicted = (probability >= threshold).astype(int)

    scores = statistics.scores(**cases, threshold=threshold, **bootstrap)
    roc = statistics.roc_curve(**cases, **bootstrap)
    recall = statistics.pr_curve(**cases, **bootstrap)
    calibration, reliability = statistics.calibration(**cases, **bootstrap)
    points = statistics.operating_points(**cases, thresholds=card["thresholds"], **bootstrap)

    about = description(card, data, test)
    write_predictions(plots, data, test, probability, predicted)
    for name, table in (
        ("roc", roc),
        ("pr", recall),
        ("calibration", reliability),
        ("decision", statistics.net_benefit(**cases, **bootstrap)),
    ):
        files.write_csv(plots / f"{name}.csv", table.columns, table.rows)
    caption = f"{about} · intervals: 95 %, bootstrap over patients"
    draw(plots, scores, roc, recall, reliability, cases, predicted, threshold, caption)
    rows = files.read_csv(history, ("epoch", "split", "loss", "roc_auc"))
    figures.history(plots / "history.png", rows, card["epoch"], about)
    files.write_json(metrics / "operating_points.json", statistics.as_json(points))
    files.write_json(metrics / "calibration.json", statistics.as_json(calibration))
    leak = card["audit"] if card["audit"]["leaking"] else {}
    shortcut = files.read_json(audit)["shortcut"]["roc_auc"]
    content = headline(scores, cases, how, threshold, shortcut)
    write_scores(plots / "scores.csv", content, about)
    files.write_json(metrics / "test.json", statistics.as_json({**leak, **content}))


def headline(
    scores: Mapping[str, statistics.Interval],
    cases: Mapping[str, np.ndarray],
    how: Evaluate,
    threshold: float,
    shortcut: dict[str, float],
) -> dict[str, Any]:
    """The content of metrics/test.json."""
    per_image = statistics.image_scores(
        cases["labels"], cases["probabilities"], threshold, seed=how.seed, resamples=how.resamples
    )
    return {
        "roc_auc": scores["roc_auc"],
        "shortcut_roc_auc": shortcut,
        **scores,
        "if_images_were_independent": {
            "roc_auc_delong": statistics.delong_interval(cases["labels"], cases["probabilities"]),
            "roc_auc_bootstrap": per_image["roc_auc"],
        },
        "threshold": {"value": threshold},
        "images": {"healthy": int((cases["labels"] == 0).sum()), "cancer": int(cases["labels"].sum())},
        "patients": {"value": len(set(cases["patients"]))},
    }


def write_scores(path: Path, content: Mapping[str, Any], about: str) -> None:
    """plots/scores.csv: every score that has an interval, and what data it is of, for the plots page."""
    scores = statistics.as_json(content).items()
    intervals = {name: score for name, score in scores if isinstance(score, dict) and "low" in score}
    rows = [(name, score["value"], score["low"], score["high"], about) for name, score in intervals.items()]
    files.write_csv(path, ("score", "value", "low", "high", "data"), rows)


def write_predictions(
    plots: Path, data: Dataset, test: np.ndarray, probability: np.ndarray, predicted: np.ndarray
) -> None:
    """plots/predictions.csv, one row an image, and plots/confusion.csv, the same in words."""
    entries = [data.entries[position] for position in test]
    patients = data.patients[test]
    rows = [
        (entry.image, patient, entry.label, float(chance), int(called))
        for entry, patient, chance, called in zip(entries, patients, probability, predicted, strict=True)
    ]
    files.write_csv(plots / "predictions.csv", ("image", "patient", "label", "probability", "predicted"), rows)
    words = [(CLASSES[row[2]], CLASSES[row[4]]) for row in rows]
    files.write_csv(plots / "confusion.csv", ("actual", "predicted"), words)


def draw(
    plots: Path,
    scores: Mapping[str, statistics.Interval],
    roc: statistics.Table,
    recall: statistics.Table,
    reliability: statistics.Table,
    cases: Mapping[str, np.ndarray],
    predicted: np.ndarray,
    threshold: float,
    below: str,
) -> None:
    """The pictures of curves and confusion matrix, each with the caption `below`."""
    fpr, tpr, _, low, high = np.array(roc.rows).T
    point = (1 - scores["specificity"].value, scores["sensitivity"].value)
    figures.roc(plots / "roc.png", fpr, tpr, (low, high), point, in_words(scores["roc_auc"]), below)
    share, precision, _, low, high = np.array(recall.rows).T
    prevalence = float(cases["labels"].mean())
    average = in_words(scores["average_precision"])
    figures.precision_recall(plots / "pr.png", share, precision, (low, high), prevalence, average, below)
    matrix = confusion_matrix(cases["labels"], predicted, labels=[0, 1])
    figures.confusion(plots / "confusion.png", matrix, threshold, below)
    figures.calibration(plots / "calibration.png", np.array(reliability.rows), below)


def in_words(interval: statistics.Interval) -> str:
    """`0.87 (0.82–0.91)`."""
    return f"{interval.value:.2f} ({interval.low:.2f}–{interval.high:.2f})"


def description(card: Mapping[str, Any], data: Dataset, test: np.ndarray) -> str:
    """What every picture says of its data, a leak before all else."""
    source = card["trained_on"]["source"]
    kind = "PHANTOMS (synthetic mammograms)" if source == "phantom" else f"Data: {source}"
    patients = len(set(data.patients[test]))
    text = f"{kind} · {len(test)} test images of {patients} patients"
    return f"{card['audit']['sentence']} {text}" if card["audit"]["leaking"] else text


if __name__ == "__main__":
    stage.run(main)

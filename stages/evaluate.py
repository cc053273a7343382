"""Score, draw and explain the test split, with intervals and the threshold locked on validation."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from mammo import scoring
from mammo.core import dataset, files, model_info, predictions, settings, stage
from mammo.core.errors import UserError
from mammo.core.predictions import PredictedSplit, Prediction
from mammo.core.wording import counted
from mammo.learning import scorer
from mammo.reporting import case_pictures, figures, heat_map_sheets
from mammo.scoring import Bootstrap, Cases, Interval, InUnits, subgroups
from mammo.scoring.units import breakdown

import numpy as np
from sklearn.metrics import confusion_matrix

CLASSES = ("healthy", "cancer")


def main(prepared: Path, model: Path, shortcut: Path, history: Path, metrics: Path, plots: Path) -> None:
    """Score MODEL on the test split of PREPARED; write tables and pictures to the folders METRICS and PLOTS.

    The network is tested against the brightness baseline, whose predictions are in SHORTCUT. HISTORY is drawn, and heat
    maps show where the network looks.
    """
    params = settings.read().evaluate
    bootstrap = Bootstrap(params.seed, params.resamples)
    data, info = dataset.load(prepared), model_info.read(model)
    positions = data.part("test")
    probabilities = scorer.load(model, info).outputs(data.images, positions, "evaluate").probabilities
    test = PredictedSplit(data, positions, probabilities, info, info.thresholds[params.threshold], params.unit)
    units = in_units(test, probabilities)
    scoring.refuse_unscorable(units, params.unit)
    cases = units.cases()
    recalibrated = None if test.calibrated is None else in_units(test, test.calibrated).cases()

    baseline, change = compare_with_shortcut(test, cases, predictions.read(shortcut), shortcut, bootstrap)
    headline = score(cases, test, bootstrap, baseline, change)
    curves = write_curves(plots, cases, recalibrated, bootstrap)
    write_scores(metrics, cases, recalibrated, info.thresholds, bootstrap, params.prevalence)
    write_predictions(plots, test, units, headline)
    write_parts(metrics, plots, test, units, bootstrap)

    draw_scores(plots, test, units, headline, curves)
    rows = files.read_csv(history, ("epoch", "split", "loss", "roc_auc"))
    figures.history(plots / "history.png", rows, info.epoch, test.description)

    lesions = np.load(prepared / "masks.npy", mmap_mode="r") if (prepared / "masks.npy").is_file() else None
    draw_heat_maps(metrics, plots, model, test, lesions, bootstrap, params.case_pictures)

    # Written last: this file marks a finished run, and DVC keeps the files of a failed stage.
    leak = info.audit.model_dump() if info.audit.rank else {}
    files.write_json(metrics / stage.HEADLINE.name, scoring.as_json({**leak, **headline}))
    network_auc, brightness = (scoring.with_interval(**vars(headline[key])) for key in ("roc_auc", "shortcut_roc_auc"))
    print(
        f"evaluate: ROC AUC of {counted(len(positions), 'test image')} {network_auc}, brightness baseline "
        f"{brightness}; pictures in {plots}"
    )


def in_units(test: PredictedSplit, probabilities: np.ndarray) -> InUnits:
    """Return the cases of the headline scores (`evaluate.unit`)."""
    return scoring.in_units(cast("scoring.Unit", test.unit), test.labels, probabilities, **test.known)


def compare_with_shortcut(
    test: PredictedSplit, cases: Cases, forest: Sequence[Prediction], table: Path, bootstrap: Bootstrap
) -> tuple[Interval, dict[str, Any]]:
    """Return the ROC AUC of the brightness baseline, and the network's change against it with interval and p.

    Raises:
        UserError: the `forest`'s predictions, of the file `table`, are not of the same test images.

    """
    if [(row.image, row.label) for row in forest] != [(row.image, row.label) for row in test.rows]:
        raise UserError(f"{table} is not of the test images of data/prepared: run `dvc repro`")
    known = in_units(test, np.array([row.probability for row in forest])).cases()
    change = scoring.paired_bootstrap(known, cases, None, None, bootstrap)["roc_auc"]
    return change.a, {"roc_auc_change": change.change, "p": change.p}


def score(
    cases: Cases, test: PredictedSplit, bootstrap: Bootstrap, shortcut: Interval, change: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of metrics/test.json."""
    threshold = test.threshold
    scores = scoring.scores(cases, threshold, bootstrap)
    units = {"healthy": int((~cases.labels).sum()), "cancer": int(cases.labels.sum())}
    healthy = int((test.labels == 0).sum())
    content = {
        "roc_auc": scores["roc_auc"],
        "shortcut_roc_auc": shortcut,
        **scores,
        "against_shortcut": change,
        "if_images_were_independent": {
            "roc_auc_delong": scoring.delong_interval(cases),
            "roc_auc_bootstrap": scoring.image_scores(cases, threshold, bootstrap)["roc_auc"],
        },
        "threshold": {"value": threshold},
        "images": {"healthy": healthy, "cancer": len(test.labels) - healthy},
        "patients": {"value": len(cases.cancer)},
    }
    return content if test.unit == "image" else {**content, "unit": test.unit, "units": units}


def write_parts(metrics: Path, plots: Path, test: PredictedSplit, units: InUnits, bootstrap: Bootstrap) -> None:
    """Write the scores per image, breast and exam, and those of subgroups of the headline's units."""
    labels, probabilities, known = test.labels, test.probabilities, test.known
    by_unit = breakdown(labels, probabilities, known, test.threshold, bootstrap)
    files.write_json(metrics / "units.json", scoring.as_json(by_unit))
    unit = cast("scoring.Unit", test.unit)
    patients, exams, sides = known.values()
    each = (labels, probabilities, patients, test.groups, test.threshold, bootstrap)
    found = scoring.in_subgroups(*each, unit, exams, sides)
    files.write_json(metrics / "subgroups.json", scoring.as_json(subgroups.as_metrics(found)))
    everything = subgroups.overall(units, len(labels), test.threshold, bootstrap)
    rows = subgroups.as_rows(found, everything, test.description, unit)
    files.write_csv(plots / "subgroups.csv", subgroups.ROW, rows)


def write_scores(
    metrics: Path,
    cases: Cases,
    recalibrated: Cases | None,
    thresholds: Mapping[str, float],
    bootstrap: Bootstrap,
    prevalence: float | str,
) -> None:
    """Write operating points, at the prevalence too if one is given, and calibration, of both probabilities."""
    points: dict[str, Any] = scoring.operating_points(cases, thresholds, bootstrap)
    if prevalence != "none":
        points["at_prevalence"] = scoring.at_prevalence(points, float(prevalence))
    files.write_json(metrics / "operating_points.json", scoring.as_json(points))
    calibration: dict[str, Any] = scoring.calibration(cases, bootstrap)
    if recalibrated:
        calibration["recalibrated"] = scoring.calibration(recalibrated, bootstrap)
    files.write_json(metrics / "calibration.json", scoring.as_json(calibration))


def write_curves(plots: Path, cases: Cases, recalibrated: Cases | None, bootstrap: Bootstrap) -> dict[str, np.ndarray]:
    """Write the curves; return the rows of each by name."""
    curves = {
        "roc": scoring.roc_curve(cases, bootstrap),
        "pr": scoring.pr_curve(cases, bootstrap),
        "calibration": scoring.reliability(cases, bootstrap, recalibrated)[1],
        "decision": scoring.net_benefit(cases, bootstrap, recalibrated),
    }
    for name, table in curves.items():
        files.write_csv(plots / f"{name}.csv", table.columns, table.rows)
    return {name: np.array(table.rows) for name, table in curves.items()}


def write_predictions(plots: Path, test: PredictedSplit, units: InUnits, headline: Mapping[str, Any]) -> None:
    """Write predictions.csv, one row per image, confusion.csv, one per case, and scores.csv, one per score."""
    predictions.write(plots / "predictions.csv", test.rows)
    called = (units.probabilities >= test.threshold).astype(int)
    words = [(CLASSES[label], CLASSES[predicted]) for label, predicted in zip(units.labels, called, strict=True)]
    files.write_csv(plots / "confusion.csv", ("actual", "predicted"), words)
    scores = scoring.as_json(headline).items()
    table = [
        (name, score["value"], score["low"], score["high"], test.description)
        for name, score in scores
        if isinstance(score, dict) and "low" in score
    ]
    files.write_csv(plots / "scores.csv", ("score", "value", "low", "high", "data"), table)


def draw_scores(
    plots: Path,
    test: PredictedSplit,
    units: InUnits,
    headline: Mapping[str, Any],
    curves: Mapping[str, np.ndarray],
) -> None:
    """Draw the curves and the confusion matrix."""
    caption = f"{test.description} · intervals: 95 %, bootstrap over patients"
    point = (1 - headline["specificity"].value, headline["sensitivity"].value)
    figures.roc(plots / "roc.png", curves["roc"], point, headline["roc_auc"], caption)
    average, prevalence = headline["average_precision"], float(units.labels.mean())
    figures.precision_recall(plots / "pr.png", curves["pr"], prevalence, average, caption)
    matrix = confusion_matrix(units.labels, units.probabilities >= test.threshold, labels=[0, 1])
    figures.confusion(plots / "confusion.png", matrix, test.threshold, caption)
    figures.calibration(plots / "calibration.png", curves["calibration"], caption)
    figures.decision(plots / "decision.png", curves["decision"], caption)


def draw_heat_maps(
    metrics: Path,
    plots: Path,
    model: Path,
    test: PredictedSplit,
    lesions: np.ndarray | None,
    bootstrap: Bootstrap,
    pictured: str,
) -> None:
    """Draw heat maps of the network in the folder MODEL and check them; loads TensorFlow, which nothing before needs.

    `lesions` are the masks of all images of the data set, if they are known; `pictured` is `evaluate.case_pictures`.
    """
    from mammo.learning import model_folder
    from mammo.predicting import heat_map_checks, heat_maps

    network = model_folder.load(model, test.info)
    explain = heat_maps.explainer(network)
    checks = heat_map_checks.check(network, explain, test, lesions, bootstrap)
    files.write_json(metrics / "explanation.json", scoring.as_json(checks))
    with files.written(plots / "explanation") as folder:
        folder.mkdir()
        draw = partial(heat_maps.heat_maps, explain, test.data.images)
        heat_map_sheets.outcome_sheets(folder, test, draw, lesions)
    case_pictures.write(plots / "cases", test, draw, pictured)


if __name__ == "__main__":
    stage.run(main)

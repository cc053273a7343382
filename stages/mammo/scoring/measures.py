"""The headline scores: ROC AUC, average precision, sensitivity, specificity and others."""

from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases, Ladder
from mammo.scoring.intervals import Interval, Resampled, collect, interval, intervals, ratio

import numpy as np

RANKED = ("roc_auc", "patient_roc_auc", "average_precision")
DECIDED = ("accuracy", "balanced_accuracy", "sensitivity", "specificity")
COMPARED = RANKED + DECIDED
TITLES = {
    "roc_auc": "ROC AUC",
    "shortcut_roc_auc": "ROC AUC, brightness baseline",
    "patient_roc_auc": "ROC AUC per patient",
    "against_shortcut": "network minus brightness baseline",
    "roc_auc_change": "change in ROC AUC, paired",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "accuracy_at_half": "accuracy at threshold 0.5",
    "majority_accuracy": "accuracy, majority class",
    "brier": "Brier score",
    "expected_calibration_error": "expected calibration error",
    "intercept": "calibration-in-the-large (intercept, slope fixed at 1)",
    "slope": "calibration slope",
    "brier_skill": "Brier skill against the prevalence",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "recall_rate": "recall rate",
    "cancers_found_per_1000": "cancers found per 1,000 images",
    "if_images_were_independent": "if images were independent",
    "roc_auc_delong": "ROC AUC, DeLong",
    "roc_auc_bootstrap": "ROC AUC, bootstrap",
    "patient_number": "patient number",
    "images_of_patient": "number of images of the patient",
    "file_order": "order of file names",
    "file_size": "file size",
    "pixel_size": "pixels as delivered",
    "encoding": "file format, colour mode and JPEG tables",
    "marked": "marks outside the breast",
    "inverted": "inversion",
    "sharpness": "sharpness of the breast's outline",
    "pointing_game": "true positives whose heat map peaks in the lesion",
    "chance": "points drawn in the breast that lie in the lesion",
    "other_patients_peaks": "other patients' peaks that lie in the lesion",
    "randomised_network": "a network with randomised weights",
    "rank_correlation": "rank correlation with its heat maps",
}


def scores(cases: Cases, threshold: float, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return the headline scores with patient-clustered intervals.

    Args:
        cases: the scored images.
        threshold: operating point, chosen on validation.
        bootstrap: the resamples.

    Returns:
        `roc_auc`, `patient_roc_auc` (by the mean probability of each patient's images; left out if every patient
        has cancer), `average_precision`, `accuracy`, `balanced_accuracy`, `sensitivity`, `specificity`,
        `precision`, `f1`, `accuracy_at_half` (threshold 0.5), `majority_accuracy` (the majority class's share).

    """
    return intervals(cases, all_scores(cases, cases.probabilities >= threshold, bootstrap))


def image_scores(cases: Cases, threshold: float, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return `scores` with every image as its own patient, for comparison: these intervals are too narrow."""
    scored = scores(cases.independent(), threshold, bootstrap)
    return {name: score for name, score in scored.items() if name != "patient_roc_auc"}


def all_scores(cases: Cases, called: np.ndarray, bootstrap: Bootstrap) -> dict[str, Resampled]:
    """Return every score on every resample; `called` (n,) bool are the positive predictions in the order of `cases`."""
    ladder, patient_ladder = Ladder(cases), Ladder(cases.per_patient())
    cells, half = cells_of(cases, called), cells_of(cases, cases.probabilities >= 0.5)
    in_majority = cases.labels if cases.labels.mean() > 0.5 else ~cases.labels
    majority = cases.sums(np.stack([in_majority, ~in_majority], axis=1))

    def score(counts: np.ndarray) -> dict[str, np.ndarray]:
        common, rare = (counts @ majority).T
        return {
            **_ranked(ladder, patient_ladder, counts),
            **decided(counts @ cells),
            "accuracy_at_half": decided(counts @ half)["accuracy"],
            "majority_accuracy": common / (common + rare),
        }

    return collect(cases, bootstrap, len(cases.labels), score)


def _ranked(ladder: Ladder, patient_ladder: Ladder, counts: np.ndarray) -> dict[str, np.ndarray]:
    true, false = ladder.climbed(counts)
    return {
        "roc_auc": area(true, false),
        "patient_roc_auc": area(*patient_ladder.climbed(counts)),
        "average_precision": _average_precision(true, false),
    }


def resampled_auc(cases: Cases, bootstrap: Bootstrap) -> Resampled:
    """Return the ROC AUC on every resample."""
    ladder = Ladder(cases)

    def score(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"roc_auc": area(*ladder.climbed(counts))}

    return collect(cases, bootstrap, len(cases.labels), score)["roc_auc"]


def area_and_decisions(cases: Cases, called: np.ndarray, bootstrap: Bootstrap) -> dict[str, Resampled]:
    """Return ROC AUC, sensitivity and specificity on every resample; `called` as in `all_scores`."""
    ladder, cells = Ladder(cases), cells_of(cases, called)

    def score(counts: np.ndarray) -> dict[str, np.ndarray]:
        split = decided(counts @ cells)
        ranked = area(*ladder.climbed(counts))
        return {"roc_auc": ranked, "sensitivity": split["sensitivity"], "specificity": split["specificity"]}

    return collect(cases, bootstrap, len(cases.labels), score)


def _steps(cumulative: np.ndarray) -> np.ndarray:
    steps = cumulative.copy()
    steps[..., 1:] -= cumulative[..., :-1]
    return steps


def area(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Return the ROC AUC of each resample by the trapezoidal rule, of what `Ladder.climbed` returns; NaN for one class.

    All terms are multiples of 0.5, so rounding cannot exceed 1.
    """
    false_steps = _steps(false)
    pairs = (true * false_steps).sum(axis=-1) - 0.5 * (_steps(true) * false_steps).sum(axis=-1)
    return ratio(pairs, true[..., -1] * false[..., -1])


def _average_precision(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    precision = np.divide(true, true + false, out=np.zeros_like(true), where=true > 0)
    return ratio((_steps(true) * precision).sum(axis=-1), true[..., -1])


def cells_of(cases: Cases, called: np.ndarray) -> np.ndarray:
    """Return true positives, false positives, false negatives, true negatives of each patient, (patients, 4)."""
    ill = cases.labels
    return cases.sums(np.stack([ill & called, ~ill & called, ill & ~called, ~ill & ~called], axis=1))


def decided(cells: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of confusion matrices, (resamples, 4), in the order of `cells_of`."""
    tp, fp, fn, tn = cells.T
    sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    return {
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": ratio(tp, tp + fp),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
    }


def share(held: np.ndarray, patients: np.ndarray, bootstrap: Bootstrap) -> Interval:
    """Return the share of images with a property, e.g. a heat map that peaks in the lesion.

    Args:
        held: (n,) bool, whether the image has the property; n >= 1.
        patients: (n,) names.
        bootstrap: the resamples, not stratified by class.

    """
    names, patient = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    cells = np.zeros((len(names), 2))
    np.add.at(cells, patient, np.stack([held, np.ones(len(held))], axis=1))

    def holding(counts: np.ndarray) -> np.ndarray:
        held_each, images = (counts @ cells).T
        return held_each / images

    chunks = bootstrap.counts(np.ones(len(names), bool), len(names))
    value = float(holding(np.ones((1, len(names))))[0])
    return interval(Resampled(value, np.concatenate([holding(counts) for counts in chunks])), len(names))

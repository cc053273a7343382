"""Scores of a classifier with 95 % intervals that respect patients, and paired comparisons of two classifiers.

Images of one patient resemble each other, so an interval that counts every image as a new observation is too narrow.
All intervals here, unless named otherwise, come from a bootstrap that draws whole patients with replacement,
separately among those with and those without cancer (Field & Welsh 2007, J. R. Stat. Soc. B 69:369, the cluster
bootstrap; Obuchowski 1997, Biometrics 53:567, on clustered ROC data). The number of patients of each kind is thereby
held fixed: scores that depend on the case mix (accuracy, precision, average precision, F1, net benefit) hold for the
case mix of the split. A resample is a count per patient, so that scores of thousands of resamples are cumulative sums
and matrix products, never a new sort.

Throughout: `labels` (n,) 0 healthy or 1 cancer; `probabilities` (n,) of cancer in [0, 1]; `patients` (n,) names.
An image is called positive when its probability >= the threshold. The order of the images makes no difference.

Where data cannot tell, the interval says so and is never NaN:
- fewer than two patients of a kind that the score depends on: the whole range, [0, 1];
- an undefined score (precision when nothing is called positive): value 0 as scikit-learn has it, interval [0, 1];
- a score at 0 or 1 in every resample, e.g. an AUC of 1: the exact binomial bound for k independent patients, or k
  independent pairs of patients, that all agree: [0.025^(1/k), 1] (Clopper & Pearson 1934). One image, or pair, from
  each of k patients agrees at least as often as the whole set, so the bound errs on the wide side.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from mammo.core.errors import UserError
from mammo.core.randomness import generator

RESAMPLES = 2000
CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
NORMAL = float(stats.norm.ppf(1 - TAIL))
RULES = ("balanced_accuracy", "half", "specificity_90", "specificity_95", "sensitivity_90")
RANKED = ("roc_auc", "patient_roc_auc", "average_precision")
DECIDED = ("accuracy", "balanced_accuracy", "sensitivity", "specificity")
COMPARED = RANKED + DECIDED
TITLES = {
    "roc_auc": "ROC AUC",
    "shortcut_roc_auc": "ROC AUC of a forest on brightness alone",
    "patient_roc_auc": "ROC AUC per patient",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "accuracy_at_half": "accuracy at threshold 0.5",
    "majority_accuracy": "accuracy of always saying the commoner class",
    "brier": "Brier score",
    "expected_calibration_error": "expected calibration error",
}
# A chunk of resamples holds about this many numbers per array: 2 MB, which stay in a processor's cache.
CHUNK = 2**18
CURVE_GRID = np.linspace(0, 1, 201)


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """One score of two classifiers on the same images: `change` is b - a, `p` two-sided."""

    a: Interval
    b: Interval
    change: Interval
    p: float


@dataclass(frozen=True)
class Table:
    """Rows for a CSV file."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[float, ...]]


def as_json(content: Any) -> Any:
    """`content` with every Interval, at any depth of mappings, as `{"value", "low", "high"}`."""
    if isinstance(content, Interval):
        return asdict(content)
    if isinstance(content, Mapping):
        return {key: as_json(value) for key, value in content.items()}
    return content


# --- Cases, their resamples, and what every score is computed from ---


class _Cases(NamedTuple):
    """A scored split in an order that depends on its content alone."""

    order: np.ndarray  # (n,) position of each image in what was given
    labels: np.ndarray  # (n,) bool
    probabilities: np.ndarray  # (n,) float64
    patient: np.ndarray  # (n,) position of the image's patient among the sorted names
    cancer: np.ndarray  # (patients,) bool: has an image with cancer


def _cases(labels: Any, probabilities: Any, patients: Any, split: str) -> _Cases:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    patients = np.asarray(patients).astype(str)
    if not len(labels) == len(probabilities) == len(patients):
        raise ValueError(f"{len(labels)} labels, {len(probabilities)} probabilities, {len(patients)} patients")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise UserError(f"the {split} split has probabilities that are not numbers from 0 to 1: the network is broken")
    for label, kind in ((0, "healthy"), (1, "cancer")):
        if not (labels == label).any():
            raise UserError(
                f"the {split} split holds no {kind} image (label {label}): nothing can be scored on one class; "
                "give it images of both classes"
            )
    order = np.lexsort((labels, probabilities, patients))
    patient = np.unique(patients[order], return_inverse=True)[1]
    positive = labels[order] == 1
    return _Cases(order, positive, probabilities[order], patient, np.bincount(patient, positive) > 0)


def _resamples(cancer: np.ndarray, seed: int, resamples: int, width: int) -> Iterator[np.ndarray]:
    """How often each patient is drawn: (some resamples, patients) at a time, for arrays `width` numbers wide."""
    streams = [(np.flatnonzero(cancer == kind), generator(seed, "bootstrap", int(kind))) for kind in (False, True)]
    step = max(1, CHUNK // width)
    for start in range(0, resamples, step):
        height = min(step, resamples - start)
        counts = np.zeros((height, len(cancer)))
        for members, random in streams:
            if size := len(members):
                drawn = random.integers(0, size, (height, size)) + size * np.arange(height)[:, None]
                counts[:, members] = np.bincount(drawn.ravel(), minlength=height * size).reshape(height, size)
        yield counts


class _Ladder:
    """The images sorted once by falling probability; each distinct probability is a rung."""

    def __init__(self, cases: _Cases) -> None:
        order = np.argsort(-cases.probabilities, kind="stable")
        self.patient = cases.patient[order]
        self.positive = cases.labels[order].astype(np.float64)
        falling = cases.probabilities[order]
        self.ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        self.probabilities = falling[self.ends]

    def climbed(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives with the threshold at each rung, (resamples, rungs): exact whole numbers."""
        weights = np.take(counts, self.patient, axis=1)
        called = np.take(np.cumsum(weights, axis=1), self.ends, axis=1)
        weights *= self.positive
        true = np.take(np.cumsum(weights, axis=1, out=weights), self.ends, axis=1)
        return true, called - true


def _steps(cumulative: np.ndarray) -> np.ndarray:
    steps = cumulative.copy()
    steps[..., 1:] -= cumulative[..., :-1]
    return steps


def _area(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """ROC AUC by the trapezoid rule. All sums are of whole numbers and halves, so it never rounds above 1."""
    false_steps = _steps(false)
    pairs = (true * false_steps).sum(axis=-1) - 0.5 * (_steps(true) * false_steps).sum(axis=-1)
    return _ratio(pairs, true[..., -1] * false[..., -1])


def _average_precision(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    precision = np.divide(true, true + false, out=np.zeros_like(true), where=true > 0)
    return _ratio((_steps(true) * precision).sum(axis=-1), true[..., -1])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Division that gives NaN for 0 / 0; such resamples are left out of an interval."""
    out = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def _per_patient(cases: _Cases) -> _Cases:
    """One case a patient: cancer if any image shows it, probability the mean of her images'.

    The mean as in Wu et al. 2020 (IEEE Trans. Med. Imaging 39:1184). The maximum would rise with the number of images,
    and women with a finding are imaged more often: the count alone would score.
    """
    mean = np.bincount(cases.patient, cases.probabilities) / np.bincount(cases.patient)
    mean = np.round(mean, 12)  # (0.1 + 0.6) / 2 and (0.3 + 0.4) / 2 are tied, whatever floating point makes of them
    everyone = np.arange(len(mean))
    return _Cases(everyone, cases.cancer, mean, everyone, cases.cancer)


def _sums(cases: _Cases, values: np.ndarray) -> np.ndarray:
    """`values` (n, k) summed over the images of each patient, (patients, k)."""
    starts = np.searchsorted(cases.patient, np.arange(len(cases.cancer)))
    return np.add.reduceat(values.astype(np.float64), starts, axis=0)


def _exact(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] cut to as many bits as can be summed without rounding.

    So no resample depends on the order of additions, which in a matrix product changes with the number of threads.
    """
    scale = 2.0 ** (50 - len(values).bit_length())
    return np.round(values * scale) / scale


def _cells(cases: _Cases, called: np.ndarray) -> np.ndarray:
    """True positives, false positives, false negatives, true negatives of each patient, (patients, 4)."""
    ill = cases.labels
    return _sums(cases, np.stack([ill & called, ~ill & called, ill & ~called, ~ill & ~called], axis=1))


def _decided(cells: np.ndarray) -> dict[str, np.ndarray]:
    tp, fp, fn, tn = cells.T
    sensitivity, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    return {
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": _ratio(tp, tp + fp),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def _ranked(ladder: _Ladder, patient_ladder: _Ladder, counts: np.ndarray) -> dict[str, np.ndarray]:
    true, false = ladder.climbed(counts)
    return {
        "roc_auc": _area(true, false),
        "patient_roc_auc": _area(*patient_ladder.climbed(counts)),
        "average_precision": _average_precision(true, false),
    }


class _Resampled(NamedTuple):
    value: float
    resamples: np.ndarray


def _collect(cases: _Cases, seed: int, resamples: int, width: int, score: Any) -> dict[str, _Resampled]:
    """`score`, a function of counts (resamples, patients) to named arrays, on the split and on its resamples."""
    once = score(np.ones((1, len(cases.cancer))))
    parts = [score(counts) for counts in _resamples(cases.cancer, seed, resamples, width)]
    return {name: _Resampled(float(once[name][0]), np.concatenate([part[name] for part in parts])) for name in once}


def _all_scores(cases: _Cases, called: np.ndarray, seed: int, resamples: int) -> dict[str, _Resampled]:
    ladder, patient_ladder = _Ladder(cases), _Ladder(_per_patient(cases))
    cells, half = _cells(cases, called), _cells(cases, cases.probabilities >= 0.5)
    commoner = cases.labels if cases.labels.mean() > 0.5 else ~cases.labels
    majority = _sums(cases, np.stack([commoner, ~commoner], axis=1))

    def score(counts: np.ndarray) -> dict[str, np.ndarray]:
        common, rare = (counts @ majority).T
        return {
            **_ranked(ladder, patient_ladder, counts),
            **_decided(counts @ cells),
            "accuracy_at_half": _decided(counts @ half)["accuracy"],
            "majority_accuracy": common / (common + rare),
        }

    return _collect(cases, seed, resamples, len(cases.labels), score)


# --- Intervals ---


def _support(cases: _Cases, name: str = "") -> int:
    """Patients who carry a score: those with cancer for sensitivity, healthy for specificity, else the fewer."""
    ill = int(cases.cancer.sum())
    healthy = len(np.unique(cases.patient[~cases.labels]))
    return {"sensitivity": ill, "specificity": healthy}.get(name, min(ill, healthy))


def _levels(support: int) -> tuple[float, float]:
    """Between which quantiles of the resamples the 95 % interval lies.

    Beyond 2.5 % and 97.5 %, since k drawn patients spread less than k new ones, by the ratio of Student's interval to
    the normal one: the expanded percentile interval (Hesterberg 2015, Am. Stat. 69:371).
    """
    tail = float(stats.norm.sf(stats.t(support - 1).ppf(1 - TAIL) * (support / (support - 1)) ** 0.5))
    return tail, 1 - tail


def _when_all_agree(patients: int) -> float:
    """Lower 95 % bound of a proportion that was 1 in `patients` independent trials."""
    return TAIL ** (1 / patients)


def _interval(resampled: _Resampled, support: int) -> Interval:
    """Expanded percentile interval of a score from 0 to 1; the module's docstring tells what degenerate cases give."""
    value = resampled.value
    if np.isnan(value):
        return Interval(0.0, 0.0, 1.0)
    drawn = resampled.resamples[~np.isnan(resampled.resamples)]
    if support < 2 or not len(drawn):
        return Interval(value, 0.0, 1.0)
    low, high = (float(end) for end in np.quantile(drawn, _levels(support)))
    if low == high == 1:
        low = _when_all_agree(support)
    if low == high == 0:
        high = 1 - _when_all_agree(support)
    return Interval(value, min(low, value), max(high, value))


def _intervals(cases: _Cases, scored: Mapping[str, _Resampled]) -> dict[str, Interval]:
    return {
        name: _interval(resampled, _support(cases, name))
        for name, resampled in scored.items()
        if name != "patient_roc_auc" or not cases.cancer.all()
    }


def scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    threshold: float,
    seed: int,
    resamples: int = RESAMPLES,
    split: str = "test",
) -> dict[str, Interval]:
    """The headline scores with patient-clustered intervals.

    Args:
        labels: (n,) 0 or 1.
        probabilities: (n,) of cancer.
        patients: (n,) names.
        threshold: chosen on other images.
        seed: of the resamples.
        resamples: number of bootstrap resamples.
        split: what an error calls these images.

    Returns:
        `roc_auc`, `patient_roc_auc` (mean probability of a patient's images against cancer in any; left out where
        every patient has cancer), `average_precision`, `accuracy`, `balanced_accuracy`, `sensitivity`, `specificity`,
        `precision`, `f1`, `accuracy_at_half` (threshold 0.5), `majority_accuracy` (the commoner class's share).

    Raises:
        UserError: only one class is present, or a probability is none.

    """
    cases = _cases(labels, probabilities, patients, split)
    return _intervals(cases, _all_scores(cases, cases.probabilities >= threshold, seed, resamples))


def image_scores(
    labels: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    seed: int,
    resamples: int = RESAMPLES,
    split: str = "test",
) -> dict[str, Interval]:
    """`scores` as if every image were another patient's: too narrow, to be shown beside the clustered intervals."""
    everyone = np.array([str(index) for index in range(len(labels))])
    found = scores(labels, probabilities, everyone, threshold, seed, resamples, split)
    return {name: interval for name, interval in found.items() if name != "patient_roc_auc"}


# --- Thresholds and operating points ---


def _between(higher: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Halfway between neighbouring probabilities, or the higher where rounding leaves no number between them."""
    middle = (higher + lower) / 2
    return np.where(middle > lower, middle, higher)


def thresholds(labels: np.ndarray, probabilities: np.ndarray, split: str = "valid") -> dict[str, float]:
    """The threshold of each rule in RULES, to be chosen on validation and applied to test.

    Candidates lie halfway between neighbouring distinct probabilities, so that no image sits on the edge; one below
    all (0) and one above all. `balanced_accuracy` takes the candidate with the highest balanced accuracy and among
    equals the lowest, since screening would rather recall than miss; `specificity_90` and `specificity_95` the
    lowest with at least that specificity; `sensitivity_90` the highest with at least that sensitivity; `half` is 0.5.

    Raises:
        UserError: only one class is present, or a probability is none.

    """
    cases = _cases(labels, probabilities, np.arange(len(labels)), split)
    ladder = _Ladder(cases)
    true, false = (np.append(0, counts[0]).astype(np.int64) for counts in ladder.climbed(np.ones((1, len(labels)))))
    rungs = ladder.probabilities
    above = (rungs[0] + 1) / 2 if rungs[0] < np.nextafter(1, 0) else np.nextafter(1, 2)
    candidates = np.concatenate([[above], _between(rungs[:-1], rungs[1:]), [0.0]])  # falling; more called positive
    positives, negatives = true[-1], false[-1]
    youden = true * negatives - false * positives  # whole numbers: ties are exact

    def specificity(percent: int) -> float:
        return float(candidates[np.flatnonzero(100 * (negatives - false) >= percent * negatives)[-1]])

    return {
        "balanced_accuracy": float(candidates[np.flatnonzero(youden == youden.max())[-1]]),
        "half": 0.5,
        "specificity_90": specificity(90),
        "specificity_95": specificity(95),
        "sensitivity_90": float(candidates[np.flatnonzero(100 * true >= 90 * positives)[0]]),
    }


def operating_points(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    thresholds: Mapping[str, float],
    seed: int,
    resamples: int = RESAMPLES,
    split: str = "test",
) -> dict[str, dict[str, float | Interval]]:
    """Sensitivity and specificity at thresholds that were chosen on other images.

    Args:
        labels: (n,) 0 or 1.
        probabilities: (n,) of cancer.
        patients: (n,) names.
        thresholds: by name of the rule, as `thresholds()` returns them.
        seed: of the resamples.
        resamples: number of bootstrap resamples.
        split: what an error calls these images.

    Returns:
        For each rule `threshold`, `sensitivity` and `specificity`. What a rule promised on validation, e.g. 90 %
        specificity, is not exactly what it keeps here; the interval tells.

    """
    cases = _cases(labels, probabilities, patients, split)
    points: dict[str, dict[str, float | Interval]] = {}
    for rule, threshold in thresholds.items():
        cells = _cells(cases, cases.probabilities >= threshold)
        scored = _collect(
            cases, seed, resamples, len(cases.cancer), lambda counts, cells=cells: _decided(counts @ cells)
        )
        reached = _intervals(cases, {name: scored[name] for name in ("sensitivity", "specificity")})
        points[rule] = {"threshold": threshold, **reached}
    return points


def share(held: np.ndarray, patients: np.ndarray, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The share of images of which something holds, e.g. of true positives whose heat map points at the lesion.

    Args:
        held: (n,) bool, whether it holds; at least one image.
        patients: (n,) names.
        seed: of the resamples.
        resamples: number of bootstrap resamples.

    """
    names, patient = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    order = np.argsort(patient, kind="stable")
    holds = np.asarray(held, dtype=bool)[order]
    cases = _Cases(order, holds, holds.astype(np.float64), patient[order], np.ones(len(names), bool))
    cells = _sums(cases, np.stack([holds, np.ones(len(holds))], axis=1))

    def score(counts: np.ndarray) -> dict[str, np.ndarray]:
        holding, images = (counts @ cells).T
        return {"share": holding / images}

    return _interval(_collect(cases, seed, resamples, len(names), score)["share"], len(names))


# --- Calibration and net benefit ---


def calibration(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    seed: int,
    resamples: int = RESAMPLES,
    bins: int = 10,
    split: str = "test",
) -> tuple[dict[str, Interval], Table]:
    """Brier score, expected calibration error and the reliability curve.

    Bins hold equal shares of the images (equal probabilities stay together, so there may be fewer); their edges are
    those of the split in every resample. The expected calibration error is the mean over images of the distance, in
    their bin, between mean probability and observed share (Naeini et al. 2015, AAAI). Chance alone makes it positive,
    and resampling adds more of it, so its interval leans upward.

    Returns:
        `{"brier", "expected_calibration_error"}`, and rows of mean probability, observed share of cancer with its
        interval, and number of images, by rising probability.

    """
    cases = _cases(labels, probabilities, patients, split)
    edges = np.unique(np.quantile(cases.probabilities, np.linspace(0, 1, bins + 1)[1:-1]))
    used, bin_of = np.unique(np.searchsorted(edges, cases.probabilities, side="right"), return_inverse=True)
    inside = bin_of[:, None] == np.arange(len(used))
    images = _sums(cases, inside)
    ill = _sums(cases, inside & cases.labels[:, None])
    predicted = _sums(cases, inside * _exact(cases.probabilities)[:, None])
    squares = _sums(cases, _exact((cases.probabilities - cases.labels) ** 2)[:, None])

    def score(counts: np.ndarray) -> dict[str, np.ndarray]:
        inside_each, ill_each, predicted_each = counts @ images, counts @ ill, counts @ predicted
        total = inside_each.sum(axis=1)
        observed = _ratio(ill_each, inside_each)
        return {
            "brier": (counts @ squares)[:, 0] / total,
            "expected_calibration_error": np.abs(ill_each - predicted_each).sum(axis=1) / total,
            **{str(index): observed[:, index] for index in range(len(used))},
        }

    scored = _collect(cases, seed, resamples, max(len(cases.cancer), 3 * len(used)), score)
    rows = []
    for index in range(len(used)):
        here = inside[:, index]
        share = _interval(scored[str(index)], len(np.unique(cases.patient[here])))
        mean = float(cases.probabilities[here].mean())
        rows.append((mean, share.value, share.low, share.high, int(here.sum())))
    names = ("brier", "expected_calibration_error")
    return _intervals(cases, {name: scored[name] for name in names}), Table(
        ("probability", "observed", "low", "high", "images"), rows
    )


def net_benefit(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    seed: int,
    resamples: int = RESAMPLES,
    split: str = "test",
) -> Table:
    """Decision curve (Vickers & Elkin 2006, Med. Decis. Making 26:565) at the split's own share of cancer.

    Net benefit at threshold probability t is (true positives - false positives * t / (1 - t)) / images: what is gained
    by recalling those at or above t, when recalling one healthy case in vain costs t / (1 - t) of finding a cancer.

    Returns:
        Rows at t = 0.01, 0.02 … 0.99: the model with its interval, recalling all, recalling none.

    """
    cases = _cases(labels, probabilities, patients, split)
    levels = np.arange(1, 100) / 100
    odds = levels / (1 - levels)
    called = cases.probabilities[:, None] >= levels
    true = _sums(cases, called & cases.labels[:, None])
    false = _sums(cases, called & ~cases.labels[:, None])
    images = _sums(cases, np.ones((len(cases.labels), 1)))
    share = cases.labels.mean()

    def benefit(counts: np.ndarray) -> np.ndarray:
        return (counts @ true - (counts @ false) * odds) / (counts @ images)

    value = benefit(np.ones((1, len(cases.cancer))))[0]
    support = _support(cases)
    if support < 2:
        low, high = -odds * (1 - share), np.full(len(levels), share)
    else:
        chunks = _resamples(cases.cancer, seed, resamples, max(len(cases.cancer), len(levels)))
        low, high = np.quantile(np.concatenate([benefit(counts) for counts in chunks]), _levels(support), axis=0)
    columns = (levels, value, np.minimum(low, value), np.maximum(high, value), share - (1 - share) * odds)
    rows = [(*(float(number) for number in row), 0.0) for row in zip(*columns, strict=True)]
    return Table(("threshold", "model", "low", "high", "treat_all", "treat_none"), rows)


# --- Curves ---


def _corners(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Positions of the points that a polyline needs: those between two others on a straight line are left out."""
    turn = np.diff(x)[:-1] * np.diff(y)[1:] != np.diff(y)[:-1] * np.diff(x)[1:]
    return np.flatnonzero(np.concatenate([[True], turn, [True]]))


def _sensitivity_at(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Sensitivity of one resample at the false positive rates CURVE_GRID."""
    if not true[-1] or not false[-1]:
        return np.full(len(CURVE_GRID), np.nan)
    return np.interp(CURVE_GRID, np.append(0, false) / false[-1], np.append(0, true) / true[-1])


def _precision_at(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Precision of one resample at the first threshold that reaches the recalls CURVE_GRID (above 0)."""
    if not true[-1]:
        return np.full(len(CURVE_GRID), np.nan)
    least = np.maximum(np.ceil(CURVE_GRID * true[-1] - 1e-9), 1)
    reached = np.searchsorted(true, least)
    return true[reached] / (true[reached] + false[reached])


def _band(cases: _Cases, ladder: _Ladder, seed: int, resamples: int, read: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise 95 % limits of a curve over CURVE_GRID; `read` takes one resample's counts at each rung."""
    support = _support(cases)
    if support < 2:
        return np.zeros(len(CURVE_GRID)), np.ones(len(CURVE_GRID))
    curves = np.array(
        [
            read(*climbed)
            for counts in _resamples(cases.cancer, seed, resamples, len(cases.labels))
            for climbed in zip(*ladder.climbed(counts), strict=True)
        ]
    )
    curves = curves[~np.isnan(curves).any(axis=1)]
    low, high = np.quantile(curves, _levels(support), axis=0)
    return np.where(low == 1, _when_all_agree(support), low), high


def _rows(x: np.ndarray, y: np.ndarray, levels: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[tuple]:
    """Rows x, y, threshold, low, high; the limits are read at x and always hold y."""
    below, above = np.interp(x, CURVE_GRID, low), np.interp(x, CURVE_GRID, high)
    columns = (x, y, levels, np.minimum(below, y), np.maximum(above, y))
    return [tuple(float(number) for number in row) for row in zip(*columns, strict=True)]


def roc_curve(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    seed: int,
    resamples: int = RESAMPLES,
    split: str = "test",
) -> Table:
    """The ROC curve with the pointwise 95 % band of its sensitivity.

    Points on a straight line between their neighbours are left out. The threshold of the first point, (0, 0), is the
    smallest number above every probability: finite, and true.

    Returns:
        Rows `fpr`, `tpr`, `threshold`, `low`, `high` by falling threshold.

    """
    cases = _cases(labels, probabilities, patients, split)
    ladder = _Ladder(cases)
    low, high = _band(cases, ladder, seed, resamples, _sensitivity_at)
    true, false = (np.append(0, counts[0]) for counts in ladder.climbed(np.ones((1, len(cases.cancer)))))
    levels = np.append(np.nextafter(ladder.probabilities[0], 2), ladder.probabilities)
    keep = _corners(false, true)
    x, y = false[keep] / false[-1], true[keep] / true[-1]
    low = np.maximum.accumulate(low)  # sensitivity never falls with the false positive rate
    low[-1] = 1.0  # where every image is called positive, whoever is tested
    return Table(("fpr", "tpr", "threshold", "low", "high"), _rows(x, y, levels[keep], low, high))


def pr_curve(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    seed: int,
    resamples: int = RESAMPLES,
    split: str = "test",
) -> Table:
    """The precision-recall curve with the pointwise 95 % band of its precision.

    One row for each threshold at which an image is called, without scikit-learn's added point (0, 1), which no
    threshold reaches; of thresholds with equal recall the first and the last are kept.

    Returns:
        Rows `recall`, `precision`, `threshold`, `low`, `high` by falling threshold.

    """
    cases = _cases(labels, probabilities, patients, split)
    ladder = _Ladder(cases)
    low, high = _band(cases, ladder, seed, resamples, _precision_at)
    true, false = (counts[0] for counts in ladder.climbed(np.ones((1, len(cases.cancer)))))
    moves = np.append(np.diff(true) > 0, True)
    keep = np.flatnonzero(moves | np.append(True, moves[:-1]))
    recall, precision = true[keep] / true[-1], true[keep] / (true[keep] + false[keep])
    return Table(
        ("recall", "precision", "threshold", "low", "high"),
        _rows(recall, precision, ladder.probabilities[keep], low, high),
    )


# --- DeLong: image-level, closed form ---


def _placements(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative the share of positives above it.

    By midranks (Sun & Xu 2014, IEEE Signal Process. Lett. 21:1389), in floating point: counts of pairs never overflow.
    """
    positive = np.asarray(labels) == 1
    probabilities = np.asarray(probabilities, dtype=np.float64)
    ranks = stats.rankdata(probabilities)
    above = (ranks[positive] - stats.rankdata(probabilities[positive])) / np.sum(~positive)
    below = 1 - (ranks[~positive] - stats.rankdata(probabilities[~positive])) / np.sum(positive)
    return above, below


def _variance(above: np.ndarray, below: np.ndarray) -> float:
    return float(np.var(above, ddof=1) / len(above) + np.var(below, ddof=1) / len(below))


def delong_interval(labels: np.ndarray, probabilities: np.ndarray, split: str = "test") -> Interval:
    """ROC AUC with DeLong's interval (DeLong et al. 1988, Biometrics 44:837), normal, cut to [0, 1].

    Takes every image for independent. One image of a class: [0, 1]. No variance at an AUC of 0 or 1: the exact bound
    for as many independent pairs as the smaller class has images.

    Raises:
        UserError: only one class is present, or a probability is none.

    """
    cases = _cases(labels, probabilities, np.arange(len(labels)), split)
    above, below = _placements(cases.labels, cases.probabilities)
    auc = float(np.clip(above.mean(), 0, 1))
    smaller = min(len(above), len(below))
    if smaller < 2:
        return Interval(auc, 0.0, 1.0)
    reach = NORMAL * _variance(above, below) ** 0.5
    low, high = max(auc - reach, 0.0), min(auc + reach, 1.0)
    if reach < 1e-12 and auc > 1 - 1e-12:
        low, high = _when_all_agree(smaller), 1.0
    if reach < 1e-12 and auc < 1e-12:
        low, high = 0.0, 1 - _when_all_agree(smaller)
    return Interval(auc, low, high)


def _tested(a: Interval, b: Interval, error: float, support: int, law: Any) -> Change:
    """Change b - a with its interval and two-sided p, from its standard error and the `law` of change / error.

    Without variation, `support` independent patients (or pairs) all speak for the same change, or none does: a sign
    test gives p, and the two intervals together limit the change.
    """
    change = b.value - a.value
    if support < 2:
        return Change(a, b, Interval(change, -1.0, 1.0), 1.0)
    if error > 1e-12:
        reach = float(law.ppf(1 - TAIL)) * error
        limits = Interval(change, max(change - reach, -1.0), min(change + reach, 1.0))
        return Change(a, b, limits, float(2 * law.sf(abs(change) / error)))
    p = 1.0 if abs(change) < 1e-12 else 2.0 ** (1 - support)
    return Change(a, b, Interval(change, b.low - a.high, b.high - a.low), p)


def _unchanged(score: Interval) -> Change:
    return Change(score, score, Interval(0.0, 0.0, 0.0), 1.0)


def delong_test(labels: np.ndarray, a: np.ndarray, b: np.ndarray, split: str = "test") -> Change:
    """DeLong's paired test of two ROC AUCs on the same images; takes every image for independent.

    Raises:
        UserError: only one class is present, or a probability is none.

    """
    of_a, of_b = delong_interval(labels, a, split), delong_interval(labels, b, split)
    (above_a, below_a), (above_b, below_b) = _placements(labels, a), _placements(labels, b)
    support = min(len(above_a), len(below_a))
    if np.array_equal(a, b):
        return _unchanged(of_a)
    error = _variance(above_b - above_a, below_b - below_a) ** 0.5 if support > 1 else 0.0
    return _tested(of_a, of_b, error, support, stats.norm)


# --- Two classifiers on the same images ---


def paired_bootstrap(
    labels: np.ndarray,
    patients: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    called_a: np.ndarray,
    called_b: np.ndarray,
    seed: int,
    resamples: int = RESAMPLES,
    split: str = "test",
) -> dict[str, Change]:
    """Each of COMPARED for two classifiers, from the same resamples of patients for both.

    Interval and p are Student's, from the bootstrap's standard error: p < 0.05 exactly where the interval leaves 0 out.
    With k patients who carry the score (of the rarer kind where it needs both) there are k - 1 degrees of freedom, and
    the error is multiplied by sqrt(k / (k - 1)), since k drawn patients spread less than k new ones. For sensitivity
    with one image a patient that is the paired t-test.

    Args:
        labels: (n,) 0 or 1.
        patients: (n,) names.
        a: (n,) probabilities of the first.
        b: (n,) of the second.
        called_a: (n,) 0 or 1, the first's calls at its own threshold.
        called_b: (n,) of the second.
        seed: of the resamples.
        resamples: number of bootstrap resamples.
        split: what an error calls these images.

    Returns:
        By score; `patient_roc_auc` is left out where every patient has cancer.

    Raises:
        UserError: only one class is present, or a probability is none.

    """
    sides = []
    for probabilities, called in ((a, called_a), (b, called_b)):
        cases = _cases(labels, probabilities, patients, split)
        sides.append(_all_scores(cases, np.asarray(called)[cases.order] == 1, seed, resamples))
    same_order, same_calls = np.array_equal(a, b), np.array_equal(called_a, called_b)
    changes = {}
    for name in COMPARED:
        if name == "patient_roc_auc" and cases.cancer.all():
            continue
        first, second = sides[0][name], sides[1][name]
        support = _support(cases, name)
        before = _interval(first, support)
        if same_calls if name in DECIDED else same_order:
            changes[name] = _unchanged(before)
            continue
        drawn = second.resamples - first.resamples
        error = float(np.std(drawn[~np.isnan(drawn)], ddof=1)) * (support / max(support - 1, 1)) ** 0.5
        changes[name] = _tested(before, _interval(second, support), error, support, stats.t(max(support - 1, 1)))
    return changes


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Two-sided exact p of McNemar's test (McNemar 1947): are a and b right on different images equally often?

    Takes every image for independent.

    Args:
        right_a: (n,) bool, whether the first is right.
        right_b: (n,) bool, whether the second is.

    """
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)

"""Scores, intervals and paired tests against scikit-learn, MLstatkit and sums worked by hand."""

import json
from typing import get_args

from mammo import scoring
from mammo.core.errors import UserError
from mammo.core.rules import ThresholdRule
from mammo.scoring import Bootstrap, Cases, Interval, curves, measures
from mammo.scoring import bootstrap as bootstrap_module
from mammo.scoring.cases import Ladder
from mammo.scoring.intervals import quantile_levels

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn import metrics

BOOTSTRAP = Bootstrap(1)


def screening(seed: int = 0, ill: int = 30, healthy: int = 60, decimals: int = 2):
    """Labels, probabilities (rounded: many ties) and patients, each with 1 to 4 images that resemble each other."""
    random = np.random.default_rng(seed)
    images = random.integers(1, 5, ill + healthy)
    patient = np.repeat(np.arange(ill + healthy), images)
    labels = (patient < ill).astype(int)
    labels[(patient < ill) & (random.random(len(labels)) < 0.2)] = 0  # some images of ill women show nothing
    labels[0] = 1
    strength = labels + random.normal(size=ill + healthy)[patient] + random.normal(size=len(labels))
    probabilities = np.round(1 / (1 + np.exp(-strength)), decimals)
    return labels, probabilities, np.array([f"woman {number}" for number in patient])


def per_patient(labels, probabilities, patients):
    names = np.unique(patients)
    return (
        np.array([labels[patients == name].max() for name in names]),
        np.round([probabilities[patients == name].mean() for name in names], 12),
    )


def by_scikit_learn(labels, probabilities, patients, threshold, weight=None):
    called, options = probabilities >= threshold, {"sample_weight": weight}
    return {
        "roc_auc": metrics.roc_auc_score(labels, probabilities, **options),
        "average_precision": metrics.average_precision_score(labels, probabilities, **options),
        "accuracy": metrics.accuracy_score(labels, called, **options),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, called, **options),
        "sensitivity": metrics.recall_score(labels, called, **options),
        "specificity": metrics.recall_score(labels, called, pos_label=0, **options),
        "precision": metrics.precision_score(labels, called, **options),
        "f1": metrics.f1_score(labels, called, **options),
        "accuracy_at_half": metrics.accuracy_score(labels, probabilities >= 0.5, **options),
        "majority_accuracy": metrics.accuracy_score(labels, np.zeros_like(labels), **options),
    }


def wilson(share: float, trials: float) -> tuple[float, float]:
    """Wilson's limits in their textbook form."""
    z = stats.norm.ppf(0.975)
    middle, reach = share + z**2 / (2 * trials), z * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    return (middle - reach) / (1 + z**2 / trials), (middle + reach) / (1 + z**2 / trials)


def newcombe_at_one(ill: int, healthy: int) -> float:
    """Lower limit of an ROC AUC of 1 by Newcombe's method 5: the root of (1 - t)^2 = z^2 V(t)."""

    def beyond(t: float) -> float:
        pairs = (ill + healthy) / 2 - 1
        variance = t * (1 - t) * (1 + pairs * (1 - t) / (2 - t) + pairs * t / (1 + t)) / (ill * healthy)
        return (1 - t) ** 2 - stats.norm.ppf(0.975) ** 2 * variance

    return optimize.brentq(beyond, 0.01, 1 - 1e-9)


def test_scores_of_cases_hold_a_value_and_both_ends_of_its_interval():
    """The call that other programs may rely on: with or without patients, lists as well as arrays."""
    from mammo.scoring import Bootstrap, Cases, scores

    labels, probabilities, patients = [0, 0, 1, 1, 1], [0.2, 0.6, 0.4, 0.7, 0.9], ["a", "b", "c", "c", "d"]
    auc = scores(Cases(labels, probabilities, patients), 0.5, Bootstrap(1, 200))["roc_auc"]
    assert auc.value == pytest.approx(5 / 6)
    assert 0 <= auc.low <= auc.value <= auc.high <= 1
    assert scores(Cases(labels, probabilities), 0.5, Bootstrap(seed=1, resamples=200))["roc_auc"].value == auc.value


def test_a_share_is_of_images_with_an_interval_over_patients():
    """Four women of whose images all or none hold: the resampled share is binomial(4, 1/2) / 4.

    Its variance times 4 / 3 is 4 / 3 of the binomial one; shrunk by a third of a woman beside two, (8 / 3 + 1 / 3) /
    (7 / 3) = 9 / 7 of it. So the limits are Wilson's of 28 / 9 women.
    """
    held, patients = np.repeat([True, False], 10), np.repeat(["a", "b", "c", "d"], 5)
    found = scoring.share(held, patients, Bootstrap(1, 100_000))
    assert (found.low, found.high) == pytest.approx(wilson(0.5, 28 / 9), abs=0.003)
    alone = scoring.share(held, np.arange(20), Bootstrap(1, 4000))
    assert alone.value == 0.5 and 0.2 < alone.low < alone.high < 0.8


@pytest.mark.parametrize("seed", range(5))
def test_every_value_is_scikit_learns(seed):
    labels, probabilities, patients = screening(seed, decimals=1)
    cases = Cases(labels, probabilities, patients)
    found = scoring.scores(cases, 0.6, Bootstrap(1, 20))
    expected = by_scikit_learn(labels, probabilities, patients, 0.6)
    expected["patient_roc_auc"] = metrics.roc_auc_score(*per_patient(labels, probabilities, patients))
    assert {name: interval.value for name, interval in found.items()} == pytest.approx(expected, abs=1e-12)
    calibrated, _ = scoring.reliability(cases, Bootstrap(1, 20))
    assert calibrated["brier"].value == pytest.approx(metrics.brier_score_loss(labels, probabilities), abs=1e-12)


def test_every_resample_is_scikit_learns_score_of_the_drawn_patients():
    labels, probabilities, patients = screening(3, decimals=1)
    cases, bootstrap = Cases(labels, probabilities, patients), Bootstrap(4, 15)
    found = measures.all_scores(cases, cases.probabilities >= 0.6, bootstrap)
    (counts,) = bootstrap.counts(cases.cancer, len(labels))
    ill = len(np.unique(patients[labels == 1]))
    for index, count in enumerate(counts):
        assert count[cases.cancer].sum() == ill
        assert count[~cases.cancer].sum() == 90 - ill
        ordered = labels[cases.order], cases.probabilities, patients[cases.order]
        expected = by_scikit_learn(*ordered, 0.6, weight=count[cases.patient])
        expected["patient_roc_auc"] = metrics.roc_auc_score(*per_patient(*ordered), sample_weight=count)
        assert {name: part.resamples[index] for name, part in found.items()} == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_a_proportion_is_the_binomial_one():
    """100 ill women with one image each, 80 found: the resampled sensitivity is binomial(100, 0.8) / 100."""
    labels = np.repeat([1, 0], 100)
    probabilities = np.repeat([0.9, 0.1, 0.2], [80, 20, 100])
    found = scoring.scores(Cases(labels, probabilities), 0.5, Bootstrap(1, 20_000))
    sensitivity = found["sensitivity"]
    assert (sensitivity.low, sensitivity.high) == pytest.approx(wilson(0.8, 100), abs=0.002)


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_a_misranked_pair_does_not_narrow_the_interval_of_an_auc(wrong):
    """40 women with and 80 without cancer; a percentile interval narrows tenfold with one wrong pair."""

    def width(pairs: int) -> float:
        scores = np.concatenate([np.linspace(0.6, 0.9, 40), np.linspace(0.1, 0.4, 80)])
        scores[:pairs] = 0.399  # below one healthy woman
        auc = scoring.scores(Cases(np.repeat([1, 0], [40, 80]), scores), 0.5, BOOTSTRAP)["roc_auc"]
        return auc.high - auc.low

    assert width(0) == pytest.approx(1 - newcombe_at_one(40, 80))
    assert width(wrong) > 0.9 * width(0)


def test_few_patients_widen_the_interval_beyond_the_resamples_own_quantiles():
    """Five women of each kind: Student's 2.776 (4 degrees of freedom) times sqrt(5 / 4) is the quantile of 0.096 %."""
    assert quantile_levels(5)[0] == pytest.approx(0.00096, abs=1e-5)


def test_copies_of_a_patients_images_add_no_certainty():
    once = scoring.scores(Cases(*screening()), 0.5, BOOTSTRAP)
    copied = Cases(*(np.repeat(part, 4) for part in screening()))
    assert scoring.scores(copied, 0.5, BOOTSTRAP) == once
    per_image = scoring.image_scores(copied, 0.5, BOOTSTRAP)["roc_auc"]
    clustered = once["roc_auc"]
    assert per_image.high - per_image.low < 0.6 * (clustered.high - clustered.low)


def test_the_order_of_the_images_and_the_size_of_chunks_change_nothing(monkeypatch):
    labels, probabilities, patients = screening()
    shuffled = np.random.default_rng(0).permutation(len(labels))
    once = Cases(labels, probabilities, patients)
    again = Cases(labels[shuffled], probabilities[shuffled], patients[shuffled])

    def everything(given):
        bootstrap = Bootstrap(1, 300)
        return [
            scoring.scores(given, 0.5, bootstrap),
            scoring.reliability(given, bootstrap),
            scoring.net_benefit(given, bootstrap),
            scoring.roc_curve(given, bootstrap),
            scoring.pr_curve(given, bootstrap),
        ]

    expected = everything(once)
    monkeypatch.setattr(bootstrap_module, "CHUNK", 1000)
    assert everything(again) == expected


def test_another_seed_gives_other_limits_but_the_same_value():
    one, other = (scoring.scores(Cases(*screening()), 0.5, Bootstrap(seed))["roc_auc"] for seed in (1, 2))
    assert one.value == other.value
    assert one.low != other.low
    assert one.low == pytest.approx(other.low, abs=0.01)


# --- Edges ---


def edge(labels, probabilities, patients=None, threshold=0.5):
    cases, bootstrap = Cases(labels, probabilities, patients), Bootstrap(1, 200)
    calibration, reliability = scoring.reliability(cases, bootstrap)
    everything = {
        "scores": scoring.scores(cases, threshold, bootstrap),
        "images": scoring.image_scores(cases, threshold, bootstrap),
        "delong": scoring.delong_interval(cases),
        "points": scoring.operating_points(cases, scoring.locked_thresholds(cases), bootstrap),
        "calibration": calibration,
    }
    json.dumps(scoring.as_json(everything), allow_nan=False)
    for table in (
        scoring.roc_curve(cases, bootstrap),
        scoring.pr_curve(cases, bootstrap),
        reliability,
        scoring.net_benefit(cases, bootstrap),
    ):
        assert np.isfinite(np.array(table.rows)).all()
        y, low, high = (
            np.array([row[table.columns.index(name)] for row in table.rows])
            for name in (table.columns[1], "low", "high")
        )
        assert (low <= y).all()
        assert (y <= high).all()
    return everything


def test_an_auc_of_one_has_newcombes_lower_limit_and_a_proportion_wilsons():
    found = edge([1] * 10 + [0] * 12, [0.9] * 10 + [0.1] * 12)
    assert found["scores"]["roc_auc"] == Interval(1.0, pytest.approx(newcombe_at_one(10, 12)), 1.0)
    assert found["delong"] == Interval(1.0, pytest.approx(0.025 ** (1 / 10)), 1.0)
    assert found["scores"]["specificity"] == Interval(1.0, pytest.approx(wilson(1, 12)[0]), 1.0)


def test_an_auc_of_zero_has_newcombes_upper_limit():
    found = edge([1] * 10 + [0] * 12, [0.1] * 10 + [0.9] * 12)
    assert found["scores"]["roc_auc"] == Interval(0.0, 0.0, pytest.approx(1 - newcombe_at_one(10, 12)))
    assert found["delong"] == Interval(0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 10)))


def test_one_positive_says_nothing_of_other_women_with_cancer():
    found = edge([1, 0, 0, 0, 0], [0.6, 0.7, 0.2, 0.3, 0.1])
    assert found["scores"]["roc_auc"] == Interval(0.75, 0.0, 1.0)
    assert found["delong"] == Interval(0.75, 0.0, 1.0)
    assert found["scores"]["sensitivity"] == Interval(1.0, 0.0, 1.0)
    specificity = found["scores"]["specificity"]
    assert specificity.value == 0.75
    assert 0 < specificity.low < 0.75


def test_all_ties_give_exactly_one_half():
    found = edge([1, 1, 0, 0, 0], [0.5] * 5)
    assert found["scores"]["roc_auc"] == Interval(0.5, 0.5, 0.5)
    assert found["delong"] == Interval(0.5, 0.5, 0.5)


def test_all_images_of_one_patient_allow_no_interval():
    found = edge([1, 1, 0, 0, 0], [0.9, 0.4, 0.5, 0.2, 0.1], ["she"] * 5)
    assert found["scores"]["roc_auc"] == Interval(pytest.approx(5 / 6), 0.0, 1.0)
    assert all((score.low, score.high) == (0.0, 1.0) for score in found["scores"].values())
    assert "patient_roc_auc" not in found["scores"]


def test_one_image_a_patient_makes_both_kinds_of_interval_alike():
    labels, probabilities, _ = screening(ill=80, healthy=160)
    cases = Cases(labels, probabilities)
    clustered, delong = scoring.scores(cases, 0.5, BOOTSTRAP)["roc_auc"], scoring.delong_interval(cases)
    assert (clustered.low, clustered.high) == pytest.approx((delong.low, delong.high), abs=0.01)


def test_precision_with_nothing_called_positive_is_unknown():
    found = edge([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.2], threshold=0.9)
    assert found["scores"]["precision"] == Interval(0.0, 0.0, 1.0)


@pytest.mark.parametrize(("label", "kind"), [(1, "healthy"), (0, "cancer")])
def test_a_split_of_one_class_is_refused_by_name(label, kind):
    for split, name in (("test", "test"), ("valid", "validation")):
        with pytest.raises(UserError, match=f"the {name} split holds no {kind} image"):
            Cases([label] * 4, [0.1, 0.2, 0.3, 0.4], split=split)


def test_a_probability_that_is_none_is_refused():
    with pytest.raises(UserError, match="not numbers from 0 to 1"):
        Cases([0, 1], [0.5, np.nan])


# --- Thresholds and operating points ---


def test_thresholds_lie_between_the_probabilities_where_the_rule_puts_them():
    """Ten healthy 0.05 … 0.95 in steps of 0.1, ten with cancer 0.5 higher up to 1: worked on paper.

    Healthy: .05 .15 .25 .35 .45 .55 .65 .75 .85 .95; cancer: .1 and nine at .6. Specificity 0.9 needs a threshold
    between .85 and .95; 0.95 needs all ten healthy below, so above .95; sensitivity 0.9 holds up to .6, so between .55
    and .6. There sensitivity is 0.9, specificity 0.6: balanced accuracy 0.75, the best.
    """
    labels = np.repeat([0, 1], 10)
    probabilities = np.concatenate([np.arange(5, 100, 10) / 100, [0.1], np.full(9, 0.6)])
    found = scoring.locked_thresholds(Cases(labels, probabilities, split="valid"))
    assert found == pytest.approx(
        {
            "balanced_accuracy": 0.575,
            "half": 0.5,
            "specificity_90": 0.9,
            "specificity_95": 0.975,
            "sensitivity_90": 0.575,
        }
    )
    assert tuple(found) == get_args(ThresholdRule)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_does_better(seed):
    labels, probabilities, _ = screening(seed, decimals=1)
    found = scoring.locked_thresholds(Cases(labels, probabilities, split="valid"))

    def rates(threshold):
        called = probabilities >= threshold
        return called[labels == 1].mean(), 1 - called[labels == 0].mean()

    everywhere = [rates(threshold) for threshold in np.linspace(0, 1.01, 1011)]
    assert sum(rates(found["balanced_accuracy"])) == pytest.approx(max(sum(pair) for pair in everywhere))
    for percent in (90, 95):
        sensitivity, specificity = rates(found[f"specificity_{percent}"])
        assert specificity >= percent / 100
        assert sensitivity == max(pair[0] for pair in everywhere if pair[1] >= percent / 100)
    sensitivity, specificity = rates(found["sensitivity_90"])
    assert sensitivity >= 0.9
    assert specificity == max(pair[1] for pair in everywhere if pair[0] >= 0.9)


def test_a_network_certain_of_everything_leaves_a_threshold_above_one():
    found = scoring.locked_thresholds(Cases([0, 1], [1.0, 1.0], split="valid"))
    assert found["specificity_90"] == np.nextafter(1, 2)
    assert found["balanced_accuracy"] == 0  # of equals the one that recalls


def test_neighbouring_probabilities_are_told_apart():
    low, high = 0.5, np.nextafter(0.5, 1)
    threshold = scoring.locked_thresholds(Cases([0, 1], [low, high], split="valid"))["balanced_accuracy"]
    assert low < threshold <= high


def test_operating_points_are_the_scores_at_each_threshold():
    cases = Cases(*screening())
    found = scoring.operating_points(cases, {"strict": 0.8, "half": 0.5}, BOOTSTRAP)
    for rule, threshold in (("strict", 0.8), ("half", 0.5)):
        expected = scoring.scores(cases, threshold, BOOTSTRAP)
        assert found[rule] == {
            "threshold": threshold,
            "sensitivity": expected["sensitivity"],
            "specificity": expected["specificity"],
        }


# --- Calibration, net benefit, curves ---


def test_calibration_worked_by_hand():
    """Two bins of three: mean 0.2 with 1 of 3 ill, mean 0.8 with 3 of 3 ill.

    ECE = (|1/3 - 0.2| + |1 - 0.8|) / 2 = 1/6. Brier = (0.04 * 2 + 0.64 + 0.04 * 3) / 6 = 0.14.
    """
    cases = Cases([0, 0, 1, 1, 1, 1], [0.2] * 3 + [0.8] * 3)
    found, curve = scoring.reliability(cases, BOOTSTRAP, bins=2)
    assert found["expected_calibration_error"].value == pytest.approx(1 / 6)
    assert found["brier"].value == pytest.approx(0.14)
    assert curve.columns == ("probability", "observed", "low", "high", "images")
    assert [row[:2] for row in curve.rows] == [pytest.approx((0.2, 1 / 3)), pytest.approx((0.8, 1.0))]
    assert curve.rows[1][2:] == (pytest.approx(wilson(1, 3)[0]), 1.0, 3)


def test_net_benefit_worked_by_hand():
    """Two ill (0.9, 0.4) and three healthy (0.6, 0.2, 0.1) at threshold 0.25, odds 1/3.

    Two true and one false positive: (2 - 1/3) / 5 = 1/3. All: 0.4 - 0.6 / 3 = 0.2.
    """
    table = scoring.net_benefit(Cases([1, 1, 0, 0, 0], [0.9, 0.4, 0.6, 0.2, 0.1]), BOOTSTRAP)
    row = dict(zip(table.columns, table.rows[24], strict=True))
    assert (row["threshold"], row["model"], row["treat_all"]) == pytest.approx((0.25, 1 / 3, 0.2))
    assert row["treat_none"] == 0
    assert row["low"] < row["model"] < row["high"]


def test_the_roc_curve_is_scikit_learns_with_a_finite_first_threshold():
    labels, probabilities, patients = screening(decimals=1)
    found = np.array(scoring.roc_curve(Cases(labels, probabilities, patients), BOOTSTRAP).rows)
    fpr, tpr, levels = metrics.roc_curve(labels, probabilities, drop_intermediate=False)
    assert metrics.auc(found[:, 0], found[:, 1]) == pytest.approx(metrics.auc(fpr, tpr), abs=1e-12)
    known = {(x, y): level for x, y, level in zip(fpr, tpr, levels, strict=True)}
    assert [known[x, y] for x, y in found[1:, :2]] == list(found[1:, 2])
    assert tuple(found[0, :2]) == (0, 0)
    assert found[0, 2] > probabilities.max()
    assert np.isfinite(found).all()


def test_the_pr_curve_is_scikit_learns_without_the_point_no_threshold_reaches():
    labels, probabilities, patients = screening(decimals=1)
    table = scoring.pr_curve(Cases(labels, probabilities, patients), BOOTSTRAP)
    precision, recall, levels = metrics.precision_recall_curve(labels, probabilities, drop_intermediate=True)
    expected = np.stack([recall[:-1], precision[:-1], levels], axis=1)[::-1]
    assert np.array(table.rows)[:, :3] == pytest.approx(expected, abs=1e-12)


def test_the_roc_band_is_the_interval_of_the_sensitivity_there():
    """At a false positive rate of 0.1 of the curve: as one sorts and interpolates each drawn set of patients anew."""
    cases, bootstrap = Cases(*screening(5)), Bootstrap(1, 400)
    drawn = []
    for counts in bootstrap.counts(cases.cancer, len(cases.labels)):
        for count in counts:
            fpr, tpr, _ = metrics.roc_curve(
                cases.labels, cases.probabilities, sample_weight=count[cases.patient], drop_intermediate=False
            )
            drawn.append(np.interp(0.1, fpr, tpr))
    support = min(cases.cancer.sum(), (~cases.cancer).sum())
    low, high = curves._band(cases, Ladder(cases), bootstrap, curves._sensitivity_at)
    assert (low[20], high[20]) == pytest.approx(tuple(np.quantile(drawn, quantile_levels(support))), abs=1e-9)


def test_the_roc_band_never_falls_and_ends_where_everyone_is_called_positive():
    """All 20 ill women lie above half of the healthy: every resample reaches 1, where the exact bound is lower."""
    random = np.random.default_rng(3)
    labels = np.repeat([1, 0], [20, 40])
    probabilities = np.concatenate([random.uniform(0.5, 1, 20), random.uniform(0, 1, 40)])
    cases = Cases(labels, probabilities)
    low = np.array(scoring.roc_curve(cases, BOOTSTRAP).rows)[:, 3]
    assert (np.diff(low) >= 0).all()
    assert low[-1] == 1
    raw, _ = curves._band(cases, Ladder(cases), BOOTSTRAP, curves._sensitivity_at)
    assert raw[-1] == pytest.approx(0.025 ** (1 / 20))
    assert raw[-1] < raw.max()


def test_the_pr_band_is_the_interval_of_the_precision_where_a_recall_is_first_reached():
    """At a recall of 0.5: in each drawn set of patients the precision at the highest threshold that reaches it."""
    cases, bootstrap = Cases(*screening(5)), Bootstrap(1, 300)
    drawn = []
    for counts in bootstrap.counts(cases.cancer, len(cases.labels)):
        for count in counts:
            precision, recall, _ = metrics.precision_recall_curve(
                cases.labels, cases.probabilities, sample_weight=count[cases.patient]
            )
            enough = np.flatnonzero(recall >= 0.5 - 1e-12)[-1]  # of falling recalls, at the highest threshold
            drawn.append(precision[enough])
    low, high = curves._band(cases, Ladder(cases), bootstrap, curves._precision_at)
    support = min(cases.cancer.sum(), (~cases.cancer).sum())
    expected = np.quantile(drawn, quantile_levels(support))
    assert (low[100], high[100]) == pytest.approx(tuple(expected), abs=1e-9)


# --- Comparisons ---


@pytest.mark.parametrize("seed", range(10))
def test_delong_agrees_with_mlstatkit_on_ties(seed):
    from MLstatkit import Delong_test

    labels, a, _ = screening(seed, decimals=1)
    b = np.round((a + screening(seed + 100, decimals=1)[1][0] + np.random.default_rng(seed).random(len(a))) / 3, 1)
    found = scoring.delong_test(Cases(labels, a), Cases(labels, b))
    _, p, limits_a, limits_b, auc_a, auc_b, info = Delong_test(labels, a, b)
    assert info["method"] == "delong"
    assert found.p == pytest.approx(p, abs=1e-6)
    assert ((found.change.high - found.change.low) / (2 * 1.959964)) ** 2 == pytest.approx(info["var_diff"], abs=1e-6)
    for interval, limits, auc in ((found.a, limits_a, auc_a), (found.b, limits_b, auc_b)):
        assert (interval.value, interval.low, interval.high) == pytest.approx((auc, *limits), abs=1e-6)


def test_delong_worked_by_hand():
    """Cancer .9 .8 .3 against healthy .4 .2 by a; cancer .9 .35 .3 against healthy .4 .2 by b.

    Placements of a: cancer 1, 1, 1/2 (AUC 5/6), healthy 2/3, 1; of b: cancer 1, 1/2, 1/2 (AUC 2/3), healthy 1/3, 1.
    Differences: cancer 0, -1/2, 0 (variance 1/12, over 3: 1/36), healthy -1/3, 0 (variance 1/18, over 2: 1/36).
    So the change is -1/6, its variance 1/18, z = -0.7071 and p = 0.4795.
    """
    labels = [1, 1, 1, 0, 0]
    found = scoring.delong_test(Cases(labels, [0.9, 0.8, 0.3, 0.4, 0.2]), Cases(labels, [0.9, 0.35, 0.3, 0.4, 0.2]))
    assert (found.a.value, found.b.value, found.change.value) == pytest.approx((5 / 6, 2 / 3, -1 / 6))
    assert (found.change.high - found.change.value) / 1.959964 == pytest.approx((1 / 18) ** 0.5, abs=1e-6)
    assert found.p == pytest.approx(0.4795, abs=1e-4)


def test_delong_counts_pairs_that_32_bits_cannot():
    """100,000 of each class make 10^10 pairs; labels and ranks in small integers must not overflow."""
    labels = np.repeat(np.array([1, 0], dtype=np.int8), 100_000)
    probabilities = np.linspace(1, 0, 200_000, dtype=np.float32)
    found = scoring.delong_interval(Cases(labels, probabilities))
    assert found.value == 1.0
    assert 0.9999 < found.low < 1


def test_mcnemar_worked_by_hand():
    """One image only a gets right, six only b: p = 2 * (C(7,0) + C(7,1)) / 2^7 = 0.125."""
    right_a = np.array([True] * 4 + [True] + [False] * 6)
    right_b = np.array([True] * 4 + [False] + [True] * 6)
    assert scoring.mcnemar(right_a, right_b) == pytest.approx(0.125)
    assert scoring.mcnemar(right_a, right_a) == 1.0


def compared(labels, patients, a, b, bootstrap=BOOTSTRAP):
    cases = Cases(labels, a, patients), Cases(labels, b, patients)
    return scoring.paired_bootstrap(*cases, a >= 0.5, b >= 0.5, bootstrap)


def delong(labels, a, b):
    return scoring.delong_test(Cases(labels, a), Cases(labels, b))


def test_a_paired_change_worked_by_hand():
    """20 ill women, one image each: both find 12, only a finds 2, only b 4, none 2.

    Sensitivity 0.7 and 0.8. A woman adds -1, 0 or 1 to the change: mean square 0.3, so the variance is
    (0.3 - 0.1^2) * 20 / 19, the standard error sqrt(0.29 / 19) = 0.12354, t = 0.8094 with 19 degrees of freedom,
    p = 0.4283, and the interval 0.1 -+ 2.0930 * 0.12354.
    """
    labels = np.repeat([1, 0], 20)
    a = np.repeat([0.9, 0.9, 0.1, 0.1, 0.1], [12, 2, 4, 2, 20])
    b = np.repeat([0.9, 0.1, 0.9, 0.1, 0.2], [12, 2, 4, 2, 20])
    found = compared(labels, np.arange(40), a, b, Bootstrap(1, 40_000))["sensitivity"]
    assert (found.a.value, found.b.value, found.change.value) == pytest.approx((0.7, 0.8, 0.1))
    assert found.p == pytest.approx(0.4283, abs=0.004)
    assert found.change.low == pytest.approx(0.1 - 2.0930 * 0.12354, abs=0.004)


def test_paired_values_and_limits_are_those_of_scores():
    labels, a, patients = screening(1)
    b = np.round(np.random.default_rng(0).permutation(a) / 2 + a / 2, 2)
    found = compared(labels, patients, a, b)
    assert tuple(found) == scoring.COMPARED
    for which, probabilities in (("a", a), ("b", b)):
        expected = scoring.scores(Cases(labels, probabilities, patients), 0.5, BOOTSTRAP)
        assert {name: getattr(change, which) for name, change in found.items()} == {
            name: expected[name] for name in scoring.COMPARED
        }
    for change in found.values():
        assert change.change.value == change.b.value - change.a.value
        assert (change.p < 0.05) == (change.change.low > 0 or change.change.high < 0)


def test_swapping_the_models_turns_the_sign_and_keeps_p():
    labels, a, patients = screening(1)
    b = screening(1)[1][::-1].copy()
    one, other = compared(labels, patients, a, b), compared(labels, patients, b, a)
    for name, change in one.items():
        assert change.p == pytest.approx(other[name].p)
        assert change.change.low == pytest.approx(-other[name].change.high)


def test_a_model_does_not_differ_from_itself():
    labels, a, patients = screening(1)
    for change in [*compared(labels, patients, a, a).values(), delong(labels, a, a)]:
        assert change.change == Interval(0, 0, 0)
        assert change.p == 1


def test_a_perfect_model_against_a_perverse_one_has_the_sign_tests_p():
    """Ten pairs of patients all speak for a: p = 2 / 2^10. Nothing varies between resamples."""
    labels = np.repeat([1, 0], [10, 12])
    a, b = np.where(labels == 1, 0.9, 0.1), np.where(labels == 1, 0.1, 0.9)
    for change in (compared(labels, np.arange(22), a, b)["roc_auc"], delong(labels, a, b)):
        assert change.change.value == -1
        assert change.p == pytest.approx(2**-9)
        assert -1 <= change.change.low < change.change.high < 0


def test_two_perfect_models_are_not_called_different_nor_surely_equal():
    labels = np.repeat([1, 0], 10)
    a, b = np.where(labels == 1, 0.9, 0.1), np.where(labels == 1, 0.8, 0.3)
    for change in (compared(labels, np.arange(20), a, b)["roc_auc"], delong(labels, a, b)):
        assert change.p == 1
        assert change.change.low < 0 < change.change.high


def test_one_patient_allows_no_verdict():
    labels, a, b = np.array([1, 1, 0, 0]), np.array([0.9, 0.8, 0.1, 0.2]), np.array([0.9, 0.1, 0.8, 0.2])
    found = compared(labels, np.array(["she"] * 4), a, b)
    assert "patient_roc_auc" not in found
    assert found["roc_auc"].p == 1
    assert found["roc_auc"].change == Interval(-0.5, -1.0, 1.0)


# The interval over patients in closed form


def test_with_one_image_per_patient_the_standard_error_is_delongs() -> None:
    labels, probabilities, _ = screening()
    cases = Cases(labels, probabilities)
    found, by_delong = scoring.clustered_interval(cases), scoring.delong_interval(cases)
    width = stats.t.ppf(0.975, cases.support() - 1) / stats.norm.ppf(0.975)
    assert found.value == by_delong.value
    assert found.value - found.low == pytest.approx(width * (by_delong.value - by_delong.low), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_over_patients_it_agrees_with_the_bootstrap_and_not_with_independent_images(seed: int) -> None:
    """Patients with images of both labels included."""
    cases = Cases(*screening(seed))
    found, image_level = scoring.clustered_interval(cases), scoring.delong_interval(cases)
    drawn = scoring.scores(cases, 0.5, BOOTSTRAP)["roc_auc"]
    assert found.high - found.low == pytest.approx(drawn.high - drawn.low, rel=0.12)
    assert found.high - found.low > 1.15 * (image_level.high - image_level.low)


def test_copies_of_an_image_of_the_same_patient_do_not_narrow_it() -> None:
    labels, probabilities, _ = screening(1)
    once = scoring.clustered_interval(Cases(labels, probabilities))
    names = np.arange(len(labels))
    four = scoring.clustered_interval(Cases(np.tile(labels, 4), np.tile(probabilities, 4), np.tile(names, 4)))
    assert (four.low, four.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_without_variance_it_is_the_exact_binomial_one_and_with_one_patient_of_a_kind_the_whole_range() -> None:
    apart = scoring.clustered_interval(Cases(np.repeat([0, 1], 20), np.repeat([0.1, 0.9], 20), np.arange(40) // 2))
    assert (apart.value, apart.low, apart.high) == (1, pytest.approx(0.025**0.1), 1)
    one = scoring.clustered_interval(Cases([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.5], ["a", "b", "c", "c"]))
    assert (one.low, one.high) == (0, 1)


# Another prevalence


def test_predictive_values_at_a_prevalence_are_those_of_a_population_counted_out() -> None:
    points = {"half": {"threshold": 0.5, "sensitivity": Interval(0.8, 0.6, 0.9), "specificity": Interval(0.9, 0.85, 1)}}
    found = scoring.at_prevalence(points, 0.01)["half"]
    # Of 100,000 images 1,000 show cancer: 800 found, 200 missed; 9,900 of 99,000 healthy ones recalled.
    assert found["ppv"].value == pytest.approx(800 / (800 + 9_900))
    assert found["npv"].value == pytest.approx(89_100 / (89_100 + 200))
    assert found["recall_rate"].value == pytest.approx(10_700 / 100_000)
    assert found["cancers_found_per_1000"] == Interval(8.0, 6.0, 9.0)
    assert (found["ppv"].low, found["ppv"].high) == pytest.approx((600 / (600 + 14_850), 1))
    assert (found["recall_rate"].low, found["recall_rate"].high) == pytest.approx((0.006, 0.009 + 0.1485))


def test_a_specificity_of_1_in_every_resample_does_not_make_a_predictive_value_certain() -> None:
    labels, probabilities = np.repeat([0, 1], 40), np.repeat([0.1, 0.9], 40)
    points = scoring.operating_points(Cases(labels, probabilities), {"half": 0.5}, Bootstrap(1, 200))
    ppv = scoring.at_prevalence(points, 0.006)["half"]["ppv"]
    assert (ppv.value, ppv.high) == (1, 1) and ppv.low < 0.1
    nobody = scoring.operating_points(Cases(labels, probabilities), {"half": 1.0}, Bootstrap(1, 200))
    assert scoring.at_prevalence(nobody, 0.006)["half"]["ppv"] == Interval(0, 0, 1)

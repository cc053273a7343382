"""Scores of subgroups against scikit-learn and SciPy, and how often differences are found that are there or are not."""

import math

from mammo.scoring import Bootstrap, Cases, Interval, in_subgroups, scores
from mammo.scoring.subgroups import FEW, SCORES, _Estimate, as_metrics, as_rows, differing, overall, remarks

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from sklearn import metrics

BOOTSTRAP = Bootstrap(1, 300)


def women(random: np.random.Generator, number: int = 150, shift: float = 0.0, deficit: float = 0.0):
    """Labels, probabilities, patients and groups of women with 1 to 4 images that resemble each other.

    Probabilities of vendor B are higher by `shift`, on the logit; those of cancers of vendor C lower by `deficit`.
    """
    ill = random.random(number) < 0.35
    vendor = random.choice(["A", "B", "C"], number, p=(0.5, 0.3, 0.2))
    site, images = random.choice(["x", "y"], number), random.integers(1, 5, number)
    patient = np.repeat(np.arange(number), images)
    labels = (ill[patient] & (random.random(len(patient)) < 0.8)).astype(int)
    strength = np.where(vendor == "C", 1.2 - deficit, 1.2)[patient] * labels + shift * (vendor == "B")[patient]
    strength += 0.7 * random.normal(size=number)[patient] + 0.7 * random.normal(size=len(patient)) - 0.6
    groups = {"vendor": vendor[patient], "site": site[patient], "view": random.choice(["CC", "MLO"], len(patient))}
    return labels, expit(strength), patient.astype(str), groups


def test_scores_of_each_level_are_those_of_scikit_learn() -> None:
    labels, probabilities, patients, groups = women(np.random.default_rng(1))
    found = in_subgroups(labels, probabilities, patients, groups, 0.55, BOOTSTRAP)
    assert list(found) == ["vendor", "site", "view"]
    assert {column: list(each.levels) for column, each in found.items()} == {
        "vendor": ["A", "B", "C"],
        "site": ["x", "y"],
        "view": ["CC", "MLO"],
    }
    for column, each in found.items():
        assert each.without_value == 0
        for name, level in each.levels.items():
            held = groups[column] == name
            label, probability, patient = labels[held], probabilities[held], patients[held]
            assert level.images == held.sum()
            assert level.patients == len(set(patient))
            assert level.ill == len(set(patient[label == 1]))
            assert level.healthy == len(set(patient[label == 0]))
            assert level.prevalence.value == pytest.approx(label.mean())
            expected = {
                "roc_auc": metrics.roc_auc_score(label, probability),
                "sensitivity": metrics.recall_score(label, probability >= 0.55),
                "specificity": metrics.recall_score(label, probability >= 0.55, pos_label=0),
            }
            assert {score: one.value for score, one in level.scores.items()} == pytest.approx(expected, abs=1e-12)
            assert all(one.low < one.value < one.high for one in level.scores.values())
            whole = scores(Cases(label, probability, patient), 0.55, BOOTSTRAP)
            assert level.scores == {score: whole[score] for score in SCORES}  # the headline's own intervals


def constant(value: float, variance: float, support: int, influence: np.ndarray | None = None) -> _Estimate:
    own = np.zeros(1) if influence is None else influence
    return _Estimate("", value, lambda at: variance, own, support)


@pytest.mark.parametrize("sizes", [(12, 30), (8, 20, 40), (15, 15, 15, 60)])
def test_the_test_of_interaction_is_welchs_as_scipy_computes_it(sizes: tuple[int, ...]) -> None:
    random = np.random.default_rng(len(sizes))
    samples = [0.5 + 0.1 * level * random.random(size) for level, size in enumerate(sizes, 1)]
    levels = [constant(float(one.mean()), float(one.var(ddof=1)) / len(one), len(one)) for one in samples]
    expected = stats.f_oneway(*samples, equal_var=False)
    assert differing(levels) == pytest.approx(expected.pvalue, rel=1e-9)


def test_with_one_image_per_patient_the_test_of_sensitivity_is_the_chi_square_test_of_proportions() -> None:
    """With many patients, and up to the shrinkage of a design effect near 1."""
    random = np.random.default_rng(4)
    labels, level = np.ones(1400, int), np.repeat(["a", "b"], 700)
    labels[::7] = 0
    called = random.random(1400) < np.where(level == "a", 0.70, 0.76)
    found = in_subgroups(labels, np.where(called, 0.9, 0.1), np.arange(1400), {"level": level}, 0.5, Bootstrap(1, 4000))
    ill = labels == 1
    table = [[np.sum(called[ill & (level == one)]), np.sum(~called[ill & (level == one)])] for one in "ab"]
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert 0.001 < expected < 0.1
    assert found["level"].interactions["sensitivity"].p == pytest.approx(expected, rel=0.15)


def test_levels_that_share_patients_are_compared_as_pairs() -> None:
    """Two levels with the same women, one a little worse in each: unpaired, the difference would drown."""
    random = np.random.default_rng(2)
    strength = 2 * random.normal(size=120)
    labels = np.repeat([0, 1], 60)
    strength += 1.0 * labels
    worse = strength - 0.9 * labels + 0.05 * random.normal(size=120)
    both = expit(np.concatenate([strength, worse]))
    view, twice = np.repeat(["CC", "MLO"], 120), np.tile(labels, 2)
    paired = in_subgroups(twice, both, np.tile(np.arange(120), 2), {"view": view}, 0.5, BOOTSTRAP)["view"]
    apart = in_subgroups(twice, both, np.arange(240), {"view": view}, 0.5, BOOTSTRAP)["view"]
    assert paired.interactions["roc_auc"].p < 0.001
    assert 0.01 < apart.interactions["roc_auc"].p < 0.5


def test_images_of_one_woman_are_not_counted_as_independent() -> None:
    labels, probabilities, patients, groups = women(np.random.default_rng(7), deficit=0.6)
    once = in_subgroups(labels, probabilities, patients, groups, 0.5, BOOTSTRAP)["vendor"].interactions["roc_auc"]
    ten = {name: np.tile(values, 10) for name, values in groups.items()}
    many = in_subgroups(np.tile(labels, 10), np.tile(probabilities, 10), np.tile(patients, 10), ten, 0.5, BOOTSTRAP)
    assert many["vendor"].interactions["roc_auc"].p == pytest.approx(once.p, rel=1e-6)
    naive = in_subgroups(
        np.tile(labels, 10), np.tile(probabilities, 10), np.arange(10 * len(labels)), ten, 0.5, BOOTSTRAP
    )
    assert naive["vendor"].interactions["roc_auc"].p < once.p / 10


def test_p_is_corrected_over_all_columns_and_scores() -> None:
    labels, probabilities, patients, groups = women(np.random.default_rng(3))
    found = in_subgroups(labels, probabilities, patients, groups, 0.5, BOOTSTRAP)
    tests = sorted((test.p, test.corrected) for each in found.values() for test in each.interactions.values())
    assert len(tests) == 9
    least = 0.0
    for rank, (p, corrected) in enumerate(tests):
        least = max(least, min(1.0, (9 - rank) * p))
        assert corrected == pytest.approx(least)


# --- Levels with little in them ---


def test_a_level_of_one_class_has_one_score_and_says_that_the_roc_auc_cannot_be_computed() -> None:
    labels = np.array([0, 1] * 10 + [0] * 6 + [1] * 3)
    level = np.array(["both"] * 20 + ["healthy only"] * 6 + ["cancer only"] * 3)
    probabilities = np.linspace(0.05, 0.95, len(labels))
    found = in_subgroups(labels, probabilities, np.arange(len(labels)), {"age": level}, 0.5, BOOTSTRAP)["age"]
    assert set(found.levels["both"].scores) == {"roc_auc", "sensitivity", "specificity"}
    assert set(found.levels["healthy only"].scores) == {"specificity"}
    assert set(found.levels["cancer only"].scores) == {"sensitivity"}
    assert found.levels["cancer only"].scores["sensitivity"].value == 1.0
    assert found.interactions == {}  # one level alone has both classes
    said = remarks({"age": found})
    assert "age healthy only: all 6 images are of class healthy; the ROC AUC cannot be computed." in said
    assert "age cancer only: all 3 images are of class cancer; the ROC AUC cannot be computed." in said
    assert any("cannot be checked" in line for line in said)
    assert as_metrics({"age": found})["age"]["levels"]["healthy only"]["one_class"] == "healthy"


def test_few_patients_have_a_wide_interval_and_take_no_part_in_the_test() -> None:
    labels, probabilities, patients, _ = women(np.random.default_rng(5))
    rare = np.array(["common"] * len(labels), dtype=object)
    two = [*np.flatnonzero(labels == 1)[:1], *np.flatnonzero(labels == 0)[:1]]
    rare[two] = "rare"
    found = in_subgroups(labels, probabilities, patients, {"group": rare}, 0.5, BOOTSTRAP)["group"]
    assert found.levels["rare"].scores["roc_auc"].low == 0.0
    assert found.levels["rare"].scores["roc_auc"].high == 1.0
    assert found.levels["rare"].images == 2 < FEW
    assert found.interactions == {}


def test_images_without_a_level_are_counted_and_in_no_level() -> None:
    labels, probabilities, patients, groups = women(np.random.default_rng(6))
    groups["vendor"][:9] = ""
    found = in_subgroups(labels, probabilities, patients, groups, 0.5, BOOTSTRAP)
    assert found["vendor"].without_value == 9
    assert sum(level.images for level in found["vendor"].levels.values()) == len(labels) - 9
    assert "vendor is unknown for 9 images, which no level holds." in remarks(found)


def test_levels_without_any_error_do_not_differ() -> None:
    labels = np.tile([0, 1], 40)
    found = in_subgroups(labels, 0.1 + 0.8 * labels, np.arange(80), {"g": np.repeat(["a", "b"], 40)}, 0.5, BOOTSTRAP)
    assert {score: test.p for score, test in found["g"].interactions.items()} == dict.fromkeys(SCORES, 1.0)
    assert remarks(found) == []


def test_a_level_without_error_is_given_the_variance_of_the_pooled_score() -> None:
    """40 of 40 against 37 of 40, like the chi-square test; the observed variance of the first is 0."""
    labels = np.repeat([1, 0], 80)
    probabilities = np.where(labels == 1, 0.9, 0.1)
    probabilities[:3] = 0.2
    groups = {"g": np.tile(np.repeat(["a", "b"], 40), 2)}
    found = in_subgroups(labels, probabilities, np.arange(160), groups, 0.5, Bootstrap(1, 2000))["g"]
    expected = stats.chi2_contingency([[37, 3], [40, 0]], correction=False).pvalue
    assert found.interactions["sensitivity"].p == pytest.approx(expected, rel=0.1)


def test_a_large_deficit_is_found_and_named() -> None:
    labels, probabilities, patients, groups = women(np.random.default_rng(9), number=600, deficit=1.2)
    found = in_subgroups(labels, probabilities, patients, groups, 0.5, BOOTSTRAP)
    assert found["vendor"].interactions["roc_auc"].found
    assert found["vendor"].interactions["roc_auc"].least == "C"
    assert not any(test.found for column in ("site", "view") for test in found[column].interactions.values())
    assert any(line.startswith("ROC AUC differs between the levels of vendor (p ") for line in remarks(found))
    assert isinstance(as_metrics(found)["vendor"]["levels"]["C"]["roc_auc"], Interval)


def test_names_of_groups_run_no_script_on_the_plots_page() -> None:
    labels, probabilities, patients, _ = women(np.random.default_rng(9))
    name = "</script><img onerror=alert(1)>\x1b"
    found = in_subgroups(labels, probabilities, patients, {"vendor": [name] * len(labels)}, 0.5, BOOTSTRAP)
    everything = overall(labels, probabilities, patients, 0.5, BOOTSTRAP)
    rows = as_rows(found, everything, "data")
    assert [row[0] for row in rows[:2]] == [
        "ROC AUC: all images",
        "ROC AUC: vendor ‹/script›‹img onerror=alert(1)›?",
    ]
    assert rows[0][1:] == rows[1][1:]
    assert rows[0][4:] == (len(labels), 150, "data")


# --- How often ---

SETS = 200


def rates(**planted: float) -> tuple[float, dict[str, float], dict[str, np.ndarray]]:
    """Share of sets in which anything is found; and for vendor, share of p below 0.05 and the scores of each set."""
    anything, small = 0, dict.fromkeys(SCORES, 0)
    values: dict[str, list[list[float]]] = {score: [] for score in SCORES}
    for seed in range(SETS):
        drawn = women(np.random.default_rng(seed), number=300, **planted)
        found = in_subgroups(*drawn, 0.5, Bootstrap(1, 200))
        anything += any(test.found for each in found.values() for test in each.interactions.values())
        for score in SCORES:
            small[score] += found["vendor"].interactions[score].p < 0.05
            values[score].append([level.scores[score].value for level in found["vendor"].levels.values()])
    return (
        anything / SETS,
        {score: count / SETS for score, count in small.items()},
        {score: np.array(each) for score, each in values.items()},
    )


def foretold(values: np.ndarray) -> float:
    """Power of a test at 5 % of three independent normal means, from their mean and variance over the sets."""
    mean, weight = values.mean(axis=0), 1 / values.var(axis=0, ddof=1)
    away = float(weight @ (mean - weight @ mean / weight.sum()) ** 2)
    return float(stats.ncx2.sf(stats.chi2.ppf(0.95, 2), 2, away))


def tolerance(rate: float) -> float:
    """Three standard errors of a rate in SETS sets, and 4 % for the normal approximation."""
    return 3 * math.sqrt(rate * (1 - rate) / SETS) + 0.04


@pytest.mark.proof
def test_nothing_is_found_beyond_5_percent_where_nothing_differs() -> None:
    anything, small, _ = rates()
    print(f"any of nine tests, corrected: {anything}; single tests of vendor: {small}")
    limit = stats.binom.ppf(0.99, SETS, 0.05) / SETS
    assert anything <= limit
    assert all(rate <= limit for rate in small.values())


@pytest.mark.proof
@pytest.mark.parametrize("planted", [{"deficit": 0.5}, {"deficit": 0.8}, {"shift": 0.4}, {"shift": 0.6}], ids=str)
def test_a_planted_difference_is_found_at_the_rate_that_its_size_foretells(planted: dict[str, float]) -> None:
    anything, small, values = rates(**planted)
    power = {score: foretold(each) for score, each in values.items()}
    print(f"{planted}: found {small}, foretold {power}; anything after correction {anything}")
    for score in SCORES:
        assert small[score] == pytest.approx(power[score], abs=tolerance(power[score]))
    touched = {"deficit": "roc_auc", "shift": "specificity"}[next(iter(planted))]
    assert small[touched] > 0.3
    assert anything > 0.5 * small[touched]

"""Scores of subgroups against scikit-learn and SciPy, and how often differences are found that are there or are not."""

import math

from mammo.reporting import parts
from mammo.scoring import Bootstrap, Cases, Interval, Subgroups, as_json, in_subgroups, in_units, scores
from mammo.scoring.subgroups import FEW, SCORES, _Estimate, as_metrics, as_rows, differing, overall

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from sklearn import metrics

BOOTSTRAP = Bootstrap(1, 300)
FOUND = 0.05
"""Corrected p below which a score is said to differ."""


def said_of(found: dict[str, Subgroups], unit: str = "image") -> list[str]:
    """The sentences of page and model card."""
    return [each for column in parts.columns(as_json(as_metrics(found)), unit) for each in column.sentences]


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
    return _Estimate(value, lambda at: variance, own, support)


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


@pytest.mark.parametrize("unit", ["breast", "exam"])
def test_per_breast_and_exam_the_images_of_a_level_are_combined(unit: str) -> None:
    labels, probabilities, patients, groups = women(np.random.default_rng(8))
    sides = np.random.default_rng(9).choice(["L", "R", "R", "", "B"], len(labels))
    found = in_subgroups(labels, probabilities, patients, groups, 0.55, BOOTSTRAP, unit, None, sides)
    for column, each in found.items():
        for name, level in each.levels.items():
            breasts: dict[tuple[str, str], list[int]] = {}
            for place in np.flatnonzero((groups[column] == name) & np.isin(sides, ["L", "R"])).tolist():
                breasts.setdefault((patients[place], sides[place]), []).append(place)
            scored = [(key[0], max(labels[of]), float(np.mean(probabilities[of]))) for key, of in breasts.items()]
            if unit == "exam":
                names = sorted({patient for patient, _, _ in scored})
                of_patient = [[one for one in scored if one[0] == patient] for patient in names]
                scored = [(of[0][0], max(a for _, a, _ in of), max(b for _, _, b in of)) for of in of_patient]
            assert level.images == np.sum(groups[column] == name)
            assert level.cases == len(scored) < level.images
            assert level.patients == len({patient for patient, _, _ in scored})
            label, probability = (np.array([one[place] for one in scored]) for place in (1, 2))
            assert level.prevalence.value == pytest.approx(label.mean())
            assert level.scores["roc_auc"].value == pytest.approx(metrics.roc_auc_score(label, probability), abs=1e-9)
            expected = metrics.recall_score(label, probability >= 0.55)
            assert level.scores["sensitivity"].value == pytest.approx(expected, abs=1e-9)
    assert as_metrics(found)["vendor"]["levels"]["A"][f"{unit}s"] == found["vendor"].levels["A"].cases
    assert all(0 < test.p < 1 for each in found.values() for test in each.interactions.values())


def test_a_level_without_a_known_breast_is_named_per_breast() -> None:
    labels, probabilities, patients, groups = women(np.random.default_rng(8))
    sides = np.where(groups["vendor"] == "C", "", "L")
    found = in_subgroups(labels, probabilities, patients, groups, 0.5, BOOTSTRAP, "breast", None, sides)
    count = int(np.sum(groups["vendor"] == "C"))
    assert list(found["vendor"].levels) == ["A", "B"]
    assert as_metrics(found)["vendor"]["images_of_levels_without_cases"] == {"C": count}
    said = f"C: no breast, since none of its {count} images shows one breast whose side is known."
    assert said in said_of(found, "breast")


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
    said = said_of({"age": found})
    assert "healthy only: all images are of class healthy, so the ROC AUC cannot be computed." in said
    assert "cancer only: all images are of class cancer, so the ROC AUC cannot be computed." in said
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
    assert "9 images have no value." in said_of(found)


def test_levels_without_any_error_do_not_differ() -> None:
    labels = np.tile([0, 1], 40)
    found = in_subgroups(labels, 0.1 + 0.8 * labels, np.arange(80), {"g": np.repeat(["a", "b"], 40)}, 0.5, BOOTSTRAP)
    assert {score: test.p for score, test in found["g"].interactions.items()} == dict.fromkeys(SCORES, 1.0)
    assert "no difference is shown" in said_of(found)[0]


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
    assert found["vendor"].interactions["roc_auc"].corrected < FOUND
    others = [test.corrected for column in ("site", "view") for test in found[column].interactions.values()]
    assert min(others) > FOUND
    assert any("ROC AUC and sensitivity differ between the levels" in line for line in said_of(found))
    assert isinstance(as_metrics(found)["vendor"]["levels"]["C"]["roc_auc"], Interval)


def test_names_of_groups_run_no_script_on_the_plots_page() -> None:
    labels, probabilities, patients, _ = women(np.random.default_rng(9))
    name = "</script><img onerror=alert(1)>\x1b"
    found = in_subgroups(labels, probabilities, patients, {"vendor": [name] * len(labels)}, 0.5, BOOTSTRAP)
    everything = overall(in_units("image", labels, probabilities, patients), len(labels), 0.5, BOOTSTRAP)
    rows = as_rows(found, everything, "data")
    assert [row[0] for row in rows[:2]] == [
        "ROC AUC: all images",
        "ROC AUC: vendor ‹/script›‹img onerror=alert(1)›?",
    ]
    assert rows[0][1:] == rows[1][1:]
    assert rows[0][4:] == (len(labels), 150, "data")


# --- How often ---

SETS = 200
MANY = 4000
"""Sets without a difference: so many that the interval of their share is within 1 %."""


def rates(sets: int = SETS, **planted: float) -> tuple[float, dict[str, float], dict[str, np.ndarray]]:
    """Share of sets in which anything is found; and for vendor, share of p below 0.05 and the scores of each set."""
    anything, small = 0, dict.fromkeys(SCORES, 0)
    values: dict[str, list[list[float]]] = {score: [] for score in SCORES}
    for seed in range(sets):
        labels, probabilities, patients, groups = women(np.random.default_rng(seed), number=300, **planted)
        found = in_subgroups(labels, probabilities, patients, groups, 0.5, Bootstrap(1, 200))
        anything += any(test.corrected < FOUND for each in found.values() for test in each.interactions.values())
        for score in SCORES:
            small[score] += found["vendor"].interactions[score].p < 0.05
            values[score].append([level.scores[score].value for level in found["vendor"].levels.values()])
    return (
        anything / sets,
        {score: count / sets for score, count in small.items()},
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
    anything, small, _ = rates(MANY)
    interval = stats.binomtest(round(MANY * anything), MANY).proportion_ci()
    print(f"any of nine tests, corrected: {anything} {interval}; single tests of vendor: {small}")
    limit = stats.binom.ppf(0.99, MANY, 0.05) / MANY
    assert 0.03 < anything <= limit
    assert all(0.03 < rate <= limit for rate in small.values())


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

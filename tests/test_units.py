"""Scores per image, breast and exam against loops in plain Python and scikit-learn."""

from mammo.core.errors import UserError
from mammo.scoring import Bootstrap, Cases, in_units, numbers_by_class, scores, unit_scores, units

import numpy as np
import pytest
from sklearn import metrics

BOOTSTRAP = Bootstrap(1, 400)


def exams(seed: int = 0, patients: int = 60):
    """Images of patients with one or two exams of one or two breasts in one to three views; sides sometimes unknown."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(patients):
        ill = number % 3 == 0
        woman = random.normal()
        for exam in range(random.integers(1, 3)):
            for side in ("L", "R")[: random.integers(1, 3)]:
                cancer = int(ill and side == "L")
                strength = woman + 1.5 * cancer + random.normal()
                for _ in range(random.integers(1, 4)):
                    said = random.choice([side, side, side, side, "", "B"])
                    probability = round(float(1 / (1 + np.exp(-strength - random.normal()))), 2)
                    rows.append((f"woman {number}", f"exam {exam}" if exam else "", said, cancer, probability))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return dict(zip(("patients", "exams", "laterality", "labels", "probabilities"), columns, strict=True))


def by_loops(images, over_breasts):
    """Label and score of every breast and exam, by dictionaries."""
    views: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for row in zip(*images.values(), strict=True):
        patient, exam, side, label, probability = (str(part) for part in row)
        if side in ("L", "R"):
            views.setdefault((patient, exam, side), []).append((int(label), float(probability)))
    breasts = {key: (max(a for a, _ in seen), sum(b for _, b in seen) / len(seen)) for key, seen in views.items()}
    women: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for (patient, exam, _), seen in breasts.items():
        women.setdefault((patient, exam), []).append(seen)
    return breasts, {key: (max(a for a, _ in seen), over_breasts([b for _, b in seen])) for key, seen in women.items()}


@pytest.mark.parametrize(("unit", "over_breasts"), [("breast", max), ("exam", max), ("exam_mean", np.mean)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_of_breasts_and_exams_are_those_of_loops_and_scikit_learn(unit, over_breasts, seed) -> None:
    images = exams(seed)
    own = in_units(unit, **images)
    breasts, women = by_loops(images, over_breasts)
    expected = breasts if unit == "breast" else women
    assert own.names.tolist() == [" ".join(filter(None, key)) for key in sorted(expected)]
    assert own.labels.tolist() == [expected[key][0] for key in sorted(expected)]
    np.testing.assert_allclose(own.probabilities, [expected[key][1] for key in sorted(expected)], atol=1e-12)
    assert own.patients.tolist() == [key[0] for key in sorted(expected)]
    assert own.without_side == int(np.sum(images["laterality"] == "")) > 0
    assert own.both_sides == int(np.sum(images["laterality"] == "B")) > 0

    scored = unit_scores(own, 0.6, BOOTSTRAP)
    labels, probabilities = (np.array(column) for column in zip(*expected.values(), strict=True))
    probabilities = np.round(probabilities, 12)
    assert scored["roc_auc"].value == pytest.approx(metrics.roc_auc_score(labels, probabilities), abs=1e-12)
    assert scored["sensitivity"].value == pytest.approx(metrics.recall_score(labels, probabilities >= 0.6), abs=1e-12)
    assert scored["specificity"].value == pytest.approx(
        metrics.recall_score(labels, probabilities >= 0.6, pos_label=0), abs=1e-12
    )
    assert all(score.low <= score.value <= score.high for score in scored.values())
    assert "patient_roc_auc" not in scored


def test_the_interval_is_over_patients_not_over_breasts() -> None:
    """The same breast twice, as two exams of one woman, tells nothing new: the interval must not shrink."""
    images = {name: np.concatenate([column, column]) for name, column in exams(patients=90).items()}
    images["exams"] = np.array([f"{exam} {half}" for half in (1, 2) for exam in exams(patients=90)["exams"]])
    once, twice = (
        unit_scores(in_units("breast", **part), 0.6, BOOTSTRAP)["roc_auc"] for part in (exams(patients=90), images)
    )
    assert twice == once
    women = in_units("breast", **images)
    independent = scores(Cases(women.labels, women.probabilities), 0.6, BOOTSTRAP)["roc_auc"]
    assert independent.high - independent.low < 0.85 * (twice.high - twice.low)


def test_units_do_not_depend_on_the_order_of_the_images() -> None:
    images = exams(3)
    shuffled = np.random.default_rng(5).permutation(len(images["labels"]))
    for unit in ("breast", "exam", "exam_mean"):
        a = in_units(unit, **images)
        b = in_units(unit, **{name: column[shuffled] for name, column in images.items()})
        for field in ("names", "labels", "probabilities", "patients"):
            assert getattr(a, field).tobytes() == getattr(b, field).tobytes()


def test_images_are_units_of_their_own_and_give_the_headline() -> None:
    images = exams(4)
    own = unit_scores(in_units("image", **images), 0.6, BOOTSTRAP)
    headline = scores(Cases(images["labels"], images["probabilities"], images["patients"]), 0.6, BOOTSTRAP)
    assert own == {name: score for name, score in headline.items() if name != "patient_roc_auc"}


def test_no_side_at_all_gives_no_breast_and_says_so_instead_of_failing() -> None:
    for unit in ("breast", "exam"):
        none = in_units(unit, [0, 1], [0.2, 0.8], ["a", "b"], laterality=["", "B"])
        assert (len(none.labels), none.without_side, none.both_sides) == (0, 1, 1)
        assert unit_scores(none, 0.5, BOOTSTRAP) == {}


def test_units_of_one_class_give_no_scores() -> None:
    one = in_units("breast", [0, 1], [0.2, 0.8], ["a", "b"], laterality=["L", ""])
    assert unit_scores(one, 0.5, BOOTSTRAP) == {}
    with pytest.raises(UserError, match="no cancer image"):
        one.cases()


def test_numbers_that_differ_by_class_are_remarked_on() -> None:
    # Two healthy women with both breasts in two views, two with cancer of whom only the affected breast is there.
    patients = ["a"] * 4 + ["b"] * 4 + ["c"] * 2 + ["d"] * 2
    sides = ["L", "L", "R", "R"] * 2 + ["L", "L"] + ["R", "R"]
    labels = [0] * 8 + [1] * 4
    numbers = numbers_by_class(labels, patients, laterality=sides)
    assert numbers == {"images": {"healthy": 4.0, "cancer": 2.0}, "breasts": {"healthy": 2.0, "cancer": 1.0}}
    said = units.remarks(numbers)
    assert [line.partition(":")[0] for line in said] == [
        "Patients with cancer have 2.0 images and 1.0 breasts on average, healthy ones 4.0 and 2.0",
    ]
    assert numbers_by_class(labels, patients)["images"] == {"healthy": 4.0, "cancer": 2.0}
    assert "breasts" not in numbers_by_class(labels, patients, laterality=["", *sides[1:]])


def test_equal_numbers_are_not_remarked_on() -> None:
    numbers = numbers_by_class([0, 0, 1, 1], ["a", "a", "b", "b"], laterality=["L", "R"] * 2)
    assert units.remarks(numbers) == []
    assert numbers_by_class([0, 0], ["a", "b"]) == {}


def test_the_mean_per_patient_rises_where_only_the_affected_breast_is_there_and_the_score_per_breast_does_not() -> None:
    """What the remark warns of: the same scores, once with both breasts of women with cancer, once with one."""
    random = np.random.default_rng(8)
    women, ill = 2000, 800
    patient = np.repeat(np.arange(women), 4)
    sides = np.tile(["L", "L", "R", "R"], women)
    cancer = ((patient < ill) & (sides == "L")).astype(int)
    strength = 0.5 * cancer + 0.7 * random.normal(size=women)[patient] + 0.7 * random.normal(size=len(patient))
    probabilities = 1 / (1 + np.exp(-strength))
    one = (patient >= ill) | (sides == "L")

    def area(keep: np.ndarray, unit: units.Unit) -> float:
        own = in_units(unit, cancer[keep], probabilities[keep], patient[keep], laterality=sides[keep])
        return float(metrics.roc_auc_score(own.labels, own.probabilities))

    everything = np.ones(len(patient), bool)
    assert area(one, "exam_mean") > area(everything, "exam_mean") + 0.04
    assert area(one, "breast") == pytest.approx(area(everything, "breast"), abs=0.02)

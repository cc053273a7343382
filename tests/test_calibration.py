"""Calibration: intercept, slope and Brier skill with their intervals, and a recalibration learned on validation."""

from pathlib import Path

from mammo.core import predictions
from mammo.core.model_info import logit
from mammo.core.predictions import Prediction
from mammo.scoring import (
    Bootstrap,
    Cases,
    agreement,
    calibration,
    learned_recalibration,
    net_benefit,
    reliability,
    with_interval,
)

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

FEW = Bootstrap(3, 200)


def study(seed: int, patients: int = 60, slope: float = 0.6, shift: float = -0.8) -> tuple[np.ndarray, ...]:
    """Labels, probabilities and patients, two images each; the logit is off by `slope` and `shift`."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), 2)
    ill = (np.arange(patients) % 3 == 0)[patient]
    seen = np.where(ill, 0.8, -1.4) + random.normal(0, 0.9, patients)[patient] + random.normal(0, 0.7, 2 * patients)
    return ill.astype(int), expit((seen - shift) / slope), patient


def by_sklearn(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Slope of scikit-learn's unpenalised regression, and the intercept at slope 1 by a search for the root."""
    logits = np.log(probabilities / (1 - probabilities))
    free = LogisticRegression(C=np.inf, tol=1e-12, solver="newton-cholesky").fit(logits[:, None], labels)
    level = brentq(lambda level: (expit(level + logits) - labels).sum(), -20, 20, xtol=1e-12)
    return float(level), float(free.coef_[0, 0])


@pytest.mark.parametrize("seed", range(4))
def test_intercept_slope_and_skill_are_those_of_another_computation(seed: int) -> None:
    labels, probabilities, patients = study(seed)
    found = agreement(Cases(labels, probabilities, patients), FEW)
    level, slope = by_sklearn(labels, probabilities)
    assert found["intercept"].value == pytest.approx(level, abs=1e-6)
    assert found["slope"].value == pytest.approx(slope, abs=1e-4)
    brier, prevalence = ((probabilities - labels) ** 2).mean(), labels.mean()
    assert found["brier_skill"].value == pytest.approx(1 - brier / (prevalence * (1 - prevalence)), abs=1e-9)


def test_intervals_are_quantiles_over_resamples_of_patients_each_fitted_by_sklearn() -> None:
    labels, probabilities, patients = study(1)
    cases = Cases(labels, probabilities, patients)
    found = agreement(cases, FEW)
    drawn = []
    for counts in (row for chunk in FEW.counts(np.ones(60, bool), len(labels)) for row in chunk):
        chosen = np.repeat(np.arange(len(labels)), counts[cases.patient].astype(int))
        drawn.append(by_sklearn(cases.labels[chosen].astype(int), cases.probabilities[chosen]))
    levels, slopes = np.array(drawn).T
    for name, values in (("intercept", levels), ("slope", slopes)):
        inside = ((values >= found[name].low - 1e-4) & (values <= found[name].high + 1e-4)).mean()
        assert 0.95 <= inside <= 0.98, "95 %, a little wider for the number of patients"
    alone = agreement(cases.independent(), FEW)
    assert alone["slope"].high - alone["slope"].low < found["slope"].high - found["slope"].low


def test_probabilities_that_are_right_have_intercept_0_and_slope_1_within_the_interval() -> None:
    random = np.random.default_rng(5)
    probabilities = random.uniform(0.02, 0.98, 3000)
    labels = (random.uniform(size=3000) < probabilities).astype(int)
    right = agreement(Cases(labels, probabilities), FEW)
    assert right["intercept"].low < 0 < right["intercept"].high
    assert right["slope"].low < 1 < right["slope"].high
    too_high = agreement(Cases(labels, expit(2 * logit(probabilities) + 1)), FEW)
    assert too_high["intercept"].high < 0, "probabilities that are too high"
    assert too_high["slope"].value == pytest.approx(right["slope"].value / 2, abs=1e-6), "and too extreme"


def test_the_interval_of_the_intercept_covers_what_chance_does_to_the_number_of_cancers() -> None:
    """In 100 studies of probabilities that are right; resamples with a fixed number cover 0 in about 80 of them."""
    random, covered = np.random.default_rng(6), 0
    for _ in range(100):
        probabilities = random.uniform(0.02, 0.98, 80)
        found = agreement(Cases((random.uniform(size=80) < probabilities).astype(int), probabilities), FEW)
        covered += found["intercept"].low < 0 < found["intercept"].high
    assert covered >= 90


def test_where_the_likelihood_has_no_maximum_the_slope_is_at_its_bound_and_its_interval_the_whole_range() -> None:
    labels = np.array([0, 0, 1, 1] * 6)
    found = agreement(Cases(labels, labels.astype(float)), FEW)
    assert (found["slope"].value, found["slope"].low, found["slope"].high) == (100, -100, 100)
    assert agreement(Cases(labels, 1.0 - labels), FEW)["slope"].value == -100
    assert agreement(Cases(labels, np.full(24, 0.3)), FEW)["slope"].value == 0
    one = agreement(Cases([0, 0, 0, 1], [0.1, 0.4, 0.6, 0.5]), FEW)
    assert (one["slope"].low, one["slope"].high) == (-100, 100)


def test_recalibration_is_platts_regression_and_survives_separation() -> None:
    labels, probabilities, patients = study(2)
    learned = learned_recalibration(Cases(labels, probabilities, patients))
    ill, healthy = labels.sum(), (1 - labels).sum()
    # The same targets as weights of both labels of every image.
    share = np.where(labels == 1, (ill + 1) / (ill + 2), 1 / (healthy + 2))
    logits = np.log(probabilities / (1 - probabilities))
    doubled = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(
        np.tile(logits, 2)[:, None], np.repeat([1, 0], len(labels)), np.concatenate([share, 1 - share])
    )
    assert learned.slope == pytest.approx(float(doubled.coef_[0, 0]), abs=1e-4)
    assert learned.intercept == pytest.approx(float(doubled.intercept_[0]), abs=1e-4)

    again = learned_recalibration(Cases(labels[::-1], probabilities[::-1], patients[::-1]))
    assert again == learned, "the order of the images does not matter"
    apart = learned_recalibration(Cases(labels, labels.astype(float)))
    assert 0 < apart.slope < 1 and (apart.calibrated(np.array([0.0, 1.0])) > 0).all()
    wrong = learned_recalibration(Cases(labels, 1 - probabilities))
    assert wrong.slope == 0
    assert wrong.calibrated(np.array([0.1, 0.9])) == pytest.approx([labels.mean()] * 2, abs=0.01)


def test_recalibration_mends_what_is_off_and_keeps_the_order() -> None:
    labels, probabilities, patients = study(7, 300, slope=0.4)
    other_labels, other, other_patients = study(8, 300, slope=0.4)
    learned = learned_recalibration(Cases(labels, probabilities, patients))
    moved = learned.calibrated(other)
    assert (np.argsort(moved, kind="stable") == np.argsort(other, kind="stable")).all()
    raw = calibration(Cases(other_labels, other, other_patients), FEW)
    after = calibration(Cases(other_labels, moved, other_patients), FEW)
    assert raw["slope"].high < 1 and raw["brier_skill"].value < after["brier_skill"].value
    assert after["slope"].low < 1 < after["slope"].high and after["intercept"].low < 0 < after["intercept"].high
    assert after["brier"].value < raw["brier"].value


def test_probabilities_of_0_and_1_are_clipped_before_the_logit() -> None:
    assert logit(np.array([0, 1e-6, 0.5, 1])) == pytest.approx([-13.8155, -13.8155, 0, 13.8155], abs=1e-4)
    found = agreement(Cases([0, 1, 0, 1, 1, 0], [0, 1, 1, 0, 1, 0.2]), FEW)
    assert np.isfinite([found["intercept"].value, found["slope"].value]).all()


def test_curves_carry_the_recalibrated_probabilities_in_their_last_columns() -> None:
    labels, probabilities, patients = study(3)
    cases = Cases(labels, probabilities, patients)
    moved = Cases(labels, probabilities**2, patients)
    table, plain = reliability(cases, FEW, moved)[1], reliability(cases, FEW)[1]
    assert table.columns == (*plain.columns, "recalibrated")
    assert [row[:-1] for row in table.rows] == list(plain.rows)
    assert sum(row[-1] * row[-2] for row in table.rows) == pytest.approx((probabilities**2).sum())
    curve, without = net_benefit(cases, FEW, moved), net_benefit(cases, FEW)
    assert curve.columns[6:] == ("recalibrated", "recalibrated_low", "recalibrated_high")
    assert [row[:6] for row in curve.rows] == list(without.rows)
    assert [row[6:] for row in curve.rows] == [row[1:4] for row in net_benefit(moved, FEW).rows]


def test_a_score_below_0_is_written_without_a_dash_before_its_minus() -> None:
    assert with_interval(-0.66, -0.9, -0.4) == "-0.660 (-0.900 to -0.400)"
    assert with_interval(0.5, 0.4, 0.6) == "0.500 (0.400–0.600)"


# Tables


def test_a_table_without_calibrated_is_read_and_written_as_before(tmp_path: Path) -> None:
    rows = [Prediction("a.png", "1", 0, 0.25, 0), Prediction("b.png", "2", 1, 0.75, 1)]
    predictions.write(tmp_path / "old.csv", rows)
    assert (tmp_path / "old.csv").read_text().splitlines()[0] == "image,patient,label,probability,predicted"
    assert predictions.read(tmp_path / "old.csv") == rows
    new = [row._replace(calibrated=0.5) for row in rows]
    predictions.write(tmp_path / "new.csv", new)
    assert (tmp_path / "new.csv").read_text().splitlines()[0] == "image,patient,label,probability,predicted,calibrated"
    assert predictions.read(tmp_path / "new.csv") == new
    with pytest.raises(predictions.UserError, match=r"line 2: calibrated is '1.5'; allowed is a number from 0 to 1"):
        predictions.parse(b"image,patient,label,probability,predicted,calibrated\na,1,0,0.5,1,1.5\n", "x.csv")

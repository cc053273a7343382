"""Proof by simulation that the intervals and tests do what they claim where patients have several images."""

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from mammo import scoring
from mammo.core.randomness import generator
from mammo.scoring import COMPARED, TITLES, Bootstrap, Cases, intervals, measures
from mammo.scoring.measures import DECIDED

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

STUDIES = 1000
ILL, HEALTHY = 60, 120  # patients, each with 1 to 6 images
PATIENT_SHARE = 0.6  # of the variance of an image's score is the patient's, the same in all her images
SHARED = 0.5  # of that variance is common to the two models: what is hard for one is hard for the other


def reader_study(number: int, auc: float, ill: int = ILL, healthy: int = HEALTHY):
    """Labels, patients and the probabilities of two equally good models whose true ROC AUC is `auc`.

    The binormal model with a random effect of the patient (as Obuchowski 1997 simulates clustered ROC data): scores of
    both kinds are normal with variance 1, their means sqrt(2) * Phi^-1(auc) apart.
    """
    random = generator(1, "reader study", number, str(auc))
    patient = np.repeat(np.arange(ill + healthy), random.integers(1, 7, ill + healthy))
    labels = (patient < ill).astype(int)

    def noise():
        own = random.normal(size=ill + healthy)[patient], random.normal(size=len(patient))
        return PATIENT_SHARE**0.5 * own[0] + (1 - PATIENT_SHARE) ** 0.5 * own[1]

    common = noise()
    scores = [
        2**0.5 * norm.ppf(auc) * (labels - 0.5) + SHARED**0.5 * common + (1 - SHARED) ** 0.5 * noise() for _ in range(2)
    ]
    return labels, patient, *(norm.cdf(score) for score in scores)


def outcome(number: int, auc: float) -> Counter:
    """One study: does each interval hold the truth, does each test call the equal models different?"""
    labels, patients, a, b = reader_study(number, auc)
    of_a, of_b = Cases(labels, a, patients), Cases(labels, b, patients)
    found = scoring.paired_bootstrap(of_a, of_b, a >= 0.5, b >= 0.5, Bootstrap(number))
    image_level = scoring.delong_interval(of_a)
    decided = float(norm.cdf(norm.ppf(auc) / 2**0.5))  # of each of DECIDED, at the threshold between the two means
    truth = {"roc_auc": auc, **dict.fromkeys(DECIDED, decided)}
    seen = Counter({f"{name} holds": found[name].a.low <= true <= found[name].a.high for name, true in truth.items()})
    seen["image-level holds"] = image_level.low <= auc <= image_level.high
    seen.update({f"{name} differs": found[name].p < 0.05 for name in COMPARED})
    seen["delong differs"] = scoring.delong_test(of_a, of_b).p < 0.05
    seen["mcnemar differs"] = scoring.mcnemar((a >= 0.5) == labels, (b >= 0.5) == labels) < 0.05
    return seen


@pytest.mark.proof
@pytest.mark.parametrize("auc", [0.75, 0.9])
def test_intervals_hold_the_truth_and_equal_models_are_seldom_called_different(auc):
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        outcomes = pool.map(partial(outcome, auc=auc), range(STUDIES), chunksize=20)
        share = {key: count / STUDIES for key, count in sum(outcomes, Counter()).items()}
    rows = [
        ("95 % interval of ROC AUC holds the truth: clustered bootstrap", share["roc_auc holds"]),
        ("— the same, DeLong on images", share["image-level holds"]),
        *((f"95 % interval of {TITLES[name]} holds the truth", share[f"{name} holds"]) for name in DECIDED),
        *((f"equal models differ at p < 0.05 in {TITLES[name]}", share[f"{name} differs"]) for name in COMPARED),
        ("— in ROC AUC, DeLong on images", share["delong differs"]),
        ("— in accuracy, McNemar on images", share["mcnemar differs"]),
    ]
    print(f"\n{STUDIES} simulated reader studies, {ILL} women with and {HEALTHY} without cancer, true AUC {auc}\n")
    print("| | share of studies |\n|---|---:|")
    for what, value in rows:
        print(f"| {what} | {100 * value:.1f} % |")
    assert 0.93 <= share["roc_auc holds"] <= 0.97
    assert share["image-level holds"] < 0.88
    for name in COMPARED:
        assert 0.03 <= share[f"{name} differs"] <= 0.07, name


def limits(number: int, auc: float, ill: int, healthy: int) -> tuple[float, ...]:
    """One study: the limits of the interval of the ROC AUC, of the percentile interval, of Newcombe's method 5."""
    labels, patients, probabilities, _ = reader_study(number, auc, ill, healthy)
    cases = Cases(labels, probabilities, patients)
    resampled = measures.all_scores(cases, cases.probabilities >= 0.5, Bootstrap(number))["roc_auc"]
    ours = intervals.interval_of(cases, "roc_auc", resampled)
    percentile = np.quantile(resampled.resamples, intervals.quantile_levels(min(ill, healthy)))
    if percentile[0] == 1:
        percentile[0] = intervals.when_all_agree(min(ill, healthy))

    def beyond(t: float) -> float:
        return (ours.value - t) ** 2 - norm.ppf(0.975) ** 2 * intervals.of_area(t, ill, healthy)

    below = brentq(beyond, 1e-9, ours.value - 1e-9)
    above = brentq(beyond, ours.value + 1e-9, 1 - 1e-9) if ours.value < 1 else 1.0
    return ours.low, ours.high, *percentile, below, above


@pytest.mark.proof
@pytest.mark.parametrize(("ill", "healthy"), [(12, 24), (40, 80), (60, 120)])
def test_intervals_near_one_hold_the_truth_and_are_not_too_wide(ill, healthy):
    print(f"\n{STUDIES} studies per row, {ill} women with and {healthy} without cancer; share that holds the truth")
    print("\n| true AUC | interval | percentile | Newcombe's method 5 | width / percentile's | width / Newcombe's |")
    print("|---|---:|---:|---:|---:|---:|")
    for auc in (0.75, 0.9, 0.95, 0.98, 0.995):
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            one = partial(limits, auc=auc, ill=ill, healthy=healthy)
            low, high = np.array(list(pool.map(one, range(STUDIES), chunksize=20))).reshape(STUDIES, 3, 2).T
        (ours, percentile, newcombe), widths = ((low <= auc) & (auc <= high)).mean(axis=1), (high - low).mean(axis=1)
        by_percentile, by_newcombe = widths[0] / widths[1], widths[0] / widths[2]
        print(
            f"| {auc} | {ours:.1%} | {percentile:.1%} | {newcombe:.1%} | {by_percentile:.2f} | {by_newcombe:.2f} |",
            flush=True,
        )
        assert ours >= 0.93
        if auc <= 0.9:
            assert ours <= 0.985 and by_percentile <= 1.05
        else:
            assert by_newcombe <= 1.3

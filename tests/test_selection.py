"""The best of several models, corrected for having been chosen, and intervals over patients and seeds."""

from mammo.scoring import Bootstrap, Cases, Interval, corrected, over_seeds, scores

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

TRUE = 0.65  # ROC AUC of every model, unless it is said to be better
SHARED = 0.6  # part of the noise that all models share: correlation 0.36


def models(random: np.random.Generator, aucs: list[float], patients: int = 100) -> list[Cases]:
    """Models with these true ROC AUCs on the same two images of each of the patients, half of whom have cancer."""
    labels, names = (np.repeat(values, 2) for values in (np.arange(patients) % 2, np.arange(patients)))
    shared = SHARED * np.repeat(random.normal(size=patients), 2)
    own = (1 - SHARED**2) ** 0.5
    return [
        Cases(labels, norm.cdf(2**0.5 * norm.ppf(auc) * labels + shared + own * random.normal(size=len(labels))), names)
        for auc in aucs
    ]


def named(every: list[Cases]) -> dict[str, Cases]:
    return {f"model {number}": one for number, one in enumerate(every)}


def test_choosing_among_equal_models_looks_better_than_they_are_and_is_corrected() -> None:
    raw, left, held, p = [], [], [], []
    for seed in range(40):
        random = np.random.default_rng(seed)
        *every, reference = models(random, [TRUE] * 9)
        chosen = corrected(named(every), reference, Bootstrap(seed, 200))
        raw.append(chosen.raw.value)
        left.append(chosen.corrected.value)
        held.append(chosen.corrected.low <= TRUE <= chosen.corrected.high)
        p.append(chosen.change.p)
    assert np.mean(raw) - TRUE > 0.035, "luck of the best of eight"
    assert np.mean(left) == pytest.approx(TRUE, abs=0.012)
    assert np.mean(held) >= 0.95
    assert np.mean(np.array(p) < 0.05) <= 0.1, "none of them is better than the reference"


@pytest.mark.proof
@pytest.mark.parametrize("number", [2, 5, 20])
def test_the_correction_fits_the_number_of_models(number: int) -> None:
    found = []
    for seed in range(100):
        *every, reference = models(np.random.default_rng(seed), [TRUE] * (number + 1), patients=150)
        chosen = corrected(named(every), reference, Bootstrap(seed, 400))
        held = chosen.corrected.low <= TRUE <= chosen.corrected.high
        found.append((chosen.raw.value - TRUE, chosen.corrected.value - TRUE, held))
    optimism, left, coverage = np.mean(found, axis=0)
    print(f"best of {number:2}: raw {optimism:+.4f}, corrected {left:+.4f}, coverage {coverage:.2f}")
    assert optimism > 0.01 and abs(left) < min(0.01, optimism) and coverage >= 0.93


def test_a_model_that_is_better_is_chosen_nearly_always_and_hardly_corrected() -> None:
    every = models(np.random.default_rng(1), [0.6, 0.6, 0.85], patients=200)
    chosen = corrected(named(every), every[0], Bootstrap(1, 300))
    assert chosen.best == "model 2" and chosen.times["model 2"] > 0.99
    assert sum(chosen.times.values()) == pytest.approx(1)
    assert chosen.raw.value == pytest.approx(roc_auc_score(every[2].labels, every[2].probabilities))
    assert abs(chosen.optimism) < 0.01 and chosen.optimism == chosen.raw.value - chosen.corrected.value
    assert chosen.change.p < 0.001
    assert chosen.change.change.value == pytest.approx(chosen.corrected.value - chosen.change.a.value, abs=0.01)


def test_one_model_alone_is_not_corrected_and_the_seed_decides_the_bytes() -> None:
    one, reference = models(np.random.default_rng(2), [0.7, 0.6])
    every = {"model 0": one}
    chosen = corrected(every, reference, Bootstrap(5, 400))
    assert chosen.raw == scores(every["model 0"], 0.5, Bootstrap(5, 400))["roc_auc"]
    assert chosen.corrected.value == pytest.approx(chosen.raw.value, abs=0.01)
    assert corrected(every, reference, Bootstrap(5, 400)) == chosen != corrected(every, reference, Bootstrap(6, 400))


def test_models_of_other_images_are_refused() -> None:
    (one,), (other,) = (models(np.random.default_rng(1), [0.7], patients=number) for number in (40, 42))
    with pytest.raises(ValueError, match="scored on different images"):
        corrected({"one": one}, other, Bootstrap(1, 200))


def test_seeds_widen_the_interval_of_their_mean() -> None:
    random = np.random.default_rng(3)
    labels, names = np.arange(200) % 2, np.arange(200)
    signal, noise = labels + random.normal(size=200), random.normal(size=(3, 200))

    def interval(strength: float) -> tuple[Interval, Interval]:
        alone = norm.cdf(signal + strength * noise)
        found = over_seeds(alone, lambda chances: Cases(labels, chances, names), Bootstrap(1, 600))
        return found, scores(Cases(labels, alone.mean(axis=0), names), 0.5, Bootstrap(1, 600))["roc_auc"]

    same, patients_alone = interval(0.0)
    assert (same.value, same.low, same.high) == pytest.approx(
        (patients_alone.value, patients_alone.low, patients_alone.high)
    )
    differing, patients_alone = interval(2.0)
    assert differing.value == patients_alone.value
    assert differing.high - differing.low > 1.1 * (patients_alone.high - patients_alone.low)

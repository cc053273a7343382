"""Likely label errors: ranked by confident learning, suggested and never dropped."""

from mammo.scoring import label_errors

import numpy as np
import pytest
from scipy.stats import norm


def planted(separation: float, share: float, seed: int = 1, number: int = 1000) -> tuple[np.ndarray, ...]:
    """Labels of which a share is flipped, which those are, and out-of-fold probabilities of a model."""
    random = np.random.default_rng(seed)
    truth = np.arange(number) % 3 == 0
    wrong = random.random(number) < share
    return (
        np.where(wrong, ~truth, truth).astype(int),
        wrong,
        norm.cdf(separation * (truth - 0.5) + random.normal(size=number)),
    )


def test_the_images_whose_labels_a_good_model_contradicts_come_first() -> None:
    labels, wrong, chances = planted(separation=4, share=0.05)
    found = label_errors.ranked(labels, chances)
    assert label_errors.precision_at(found.order, wrong, int(wrong.sum())) > 0.7
    assert wrong[found.suspected].mean() > 0.9 and found.suspected[wrong].mean() > 0.7
    assert sorted(found.order.tolist()) == list(range(1000)), "none is left out"


def test_a_model_that_knows_nothing_finds_no_more_than_chance() -> None:
    labels, wrong, chances = planted(separation=0, share=0.1)
    found = label_errors.ranked(labels, chances)
    assert label_errors.precision_at(found.order, wrong, 200) == pytest.approx(0.1, abs=0.05)


def test_suspicion_and_rank_by_hand() -> None:
    labels = [1, 1, 1, 0, 0, 0]
    chances = [0.9, 0.8, 0.1, 0.2, 0.3, 0.7]
    # Usual: cancer (0.9 + 0.8 + 0.1) / 3 = 0.6, healthy (0.8 + 0.7 + 0.3) / 3 = 0.6.
    found = label_errors.ranked(labels, chances)
    assert found.suspected.tolist() == [False, False, True, False, False, True]
    assert found.margins == pytest.approx([0.8, 0.6, -0.8, 0.6, 0.4, -0.4])
    assert found.order.tolist() == [2, 5, 4, 1, 3, 0]


def test_probabilities_that_lean_to_one_class_do_not_make_all_of_the_other_suspicious() -> None:
    """The usual probability of each class is the bar, so a model that calls everything cancer is no reason."""
    labels, wrong, chances = planted(separation=4, share=0.05)
    leaning = label_errors.ranked(labels, 1 - (1 - chances) / 3)
    assert label_errors.ranked(labels, chances).suspected.sum() == pytest.approx(leaning.suspected.sum(), rel=0.5)
    assert wrong[leaning.suspected].mean() > 0.4

"""Whether an image is unlike those of the training."""

from mammo.learning import novelty

import numpy as np
import pytest


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(400, 5)) @ np.diag([1, 2, 3, 10, 0.1])


def test_distances_are_those_of_mahalanobis(features: np.ndarray) -> None:
    known = novelty.reference(features, features[:9])
    row = np.array([3.0, -1, 4, 20, 0.2])
    gap = row - features.mean(axis=0)
    covariance = np.cov(features.T, bias=True) + np.eye(5) * novelty.RIDGE * features.var(axis=0).mean()
    assert novelty.distances(row[None], known)[0] == pytest.approx((gap @ np.linalg.inv(covariance) @ gap) ** 0.5, 1e-6)


def test_the_limit_is_the_farthest_held_out_image(features: np.ndarray) -> None:
    known = novelty.reference(features[:300], features[300:])
    assert known.limit == pytest.approx(novelty.distances(features[300:], known).max(), 1e-5)
    assert novelty.distances(features.mean(axis=0)[None] + 100, known)[0] > known.limit


def test_channels_that_are_always_off_divide_by_nothing(features: np.ndarray) -> None:
    features[:, 2:] = 0
    assert np.isfinite(novelty.distances(features, novelty.reference(features, features))).all()
    features[:] = 0
    assert (novelty.distances(features, novelty.reference(features, features)) == 0).all()

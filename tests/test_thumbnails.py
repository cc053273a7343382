"""The search for near-duplicates and neighbours among many thumbnails: exact where it must be, linear otherwise."""

import sys

from mammo.auditing import thumbnails
from mammo.auditing.duplicates import same_images
from mammo.core.randomness import generator

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))

import duplicates as bench


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Generated thumbnails of 3,000 breasts, every tenth a copy of an earlier one with noise of its own strength."""
    drawn = np.array(bench.breasts(3000, tmp_path_factory.mktemp("breasts") / "images.npy"))
    random = generator(3, "copies")
    for place in range(10, len(drawn), 10):
        copy = drawn[random.integers(0, place)].astype(float)
        copy = copy[:, :: random.choice([-1, 1])] + random.normal(0, random.uniform(0, 12), copy.shape)
        drawn[place] = np.clip(255 - copy if random.random() < 0.3 else copy, 0, 255)
    return drawn


def test_near_duplicates_are_those_of_all_pairs(some: np.ndarray) -> None:
    found = thumbnails.near_duplicates(some, thumbnails.spectra(some))
    assert set(found) == bench.all_pairs(some)
    assert 100 < len(found) < 3000
    assert any(mirrored for _, mirrored, _ in found.values()) and any(inverted for *_, inverted in found.values())


def test_few_pairs_are_looked_at_to_find_them(some: np.ndarray) -> None:
    of = thumbnails.spectra(some)
    assert len(thumbnails.near_duplicates(some, of)) <= len(list(thumbnails.close(of))) < len(some) / 5


def test_neighbours_found_in_cells_are_nearly_those_found_among_all(
    some: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = thumbnails.spectra(some)
    monkeypatch.setattr(thumbnails, "NEIGHBOURS", thumbnails.NEIGHBOURS_OF_MANY)
    every = pairs_of(thumbnails.neighbours(of))
    monkeypatch.setattr(thumbnails, "EXHAUSTIVE", 100)
    monkeypatch.setattr(thumbnails, "CELL", 50)
    monkeypatch.setattr(thumbnails, "CELLS", 20)  # of 60
    some_of_them = pairs_of(thumbnails.neighbours(of))
    assert len(some_of_them & every) > 0.9 * len(every)
    assert some_of_them == pairs_of(thumbnails.neighbours(of)), "the same again"
    near = thumbnails.near_duplicates(some, of)
    assert set(near) & some_of_them
    assert pairs_of(thumbnails.neighbours(of, near)) == some_of_them - set(near)


def pairs_of(found: thumbnails.Neighbours) -> set[tuple[int, int]]:
    return {(a, b) for a, b in found.pairs.tolist()}


def test_neighbours_are_turned_as_the_exact_correlation_turns_them(some: np.ndarray) -> None:
    of = thumbnails.spectra(some)
    near = thumbnails.near_duplicates(some, of)
    found = thumbnails.neighbours(of)
    turned = {
        (a, b): (mirrored, inverted)
        for (a, b), mirrored, inverted in zip(*(part.tolist() for part in found), strict=True)
        if (a, b) in near
    }
    assert len(turned) > 100 and turned == {pair: near[pair][1:] for pair in turned}


def test_of_many_copies_few_pairs_are_listed_but_one_across_every_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "LISTED", 3)
    random = generator(5, "many")
    picture = np.clip(np.cumsum(random.normal(0, 9, (64, 64)), axis=1) + 120, 0, 255)
    images = np.clip(picture + random.normal(0, 1, (40, 64, 64)), 0, 255).astype(np.uint8)
    splits = ["test"] * 20 + ["train"] * 19 + ["valid"]
    pairs = same_images(images, [str(i) for i in range(40)], splits)
    assert {pair.kind for pair in pairs} == {"near-duplicate"}
    assert len(pairs) <= 40 * 3 * 3
    for place in range(20, 40):  # every image of a later split is listed with one of each earlier split
        partners = {splits[pair.first] for pair in pairs if pair.second == place}
        assert partners >= {split for split in splits[: place - 1] if splits.index(split) < splits.index(splits[place])}

"""Cross-validation that leaves out one level of a group, e.g. the images of one vendor."""

from dataclasses import replace

from mammo.core.dataset import Entry
from mammo.core.errors import UserError

import pytest
from crossvalidation import Folds, assign

THREE = Folds(number=3, seed=1, valid=0.2, by="vendor")


def women(number: int = 60) -> list[Entry]:
    """Two images each; every tenth woman was seen by two vendors, more often by the first."""
    entries = []
    for woman in range(number):
        vendor = "ABC"[woman // 2 % 3]
        makers = [vendor, vendor] + (["C" if vendor == "A" else "A"] if woman % 10 == 0 else [])
        entries += [
            Entry(
                f"train/{woman % 2}/{woman}_{place}.png",
                woman % 2,
                "train",
                f"{woman}",
                "",
                groups=(("vendor", maker),),
            )
            for place, maker in enumerate(makers)
        ]
    return entries


def test_each_fold_tests_a_level_that_its_network_never_saw() -> None:
    entries, tested = women(), []
    for fold, vendor in enumerate("ABC"):
        assigned = assign(entries, fold, THREE)
        by_split = {
            split: [entry for entry in assigned if entry.split == split]
            for split in ("train", "valid", "test", "left out")
        }
        assert {dict(entry.groups)["vendor"] for entry in by_split["test"]} == {vendor}
        for split in ("train", "valid"):
            assert vendor not in {dict(entry.groups)["vendor"] for entry in by_split[split]}
            assert {entry.label for entry in by_split[split]} == {0, 1}
        patients = {split: {entry.patient for entry in part} for split, part in by_split.items()}
        assert not patients["test"] & (patients["train"] | patients["valid"])
        assert not patients["train"] & patients["valid"]
        assert by_split["left out"], "images of women seen by two vendors"
        tested += [entry.image for entry in by_split["test"]]
    assert len(tested) == len(set(tested)) == 120


def test_without_a_group_folds_are_as_they_were() -> None:
    plain = Folds(number=3, seed=1, valid=0.2)
    assert plain.model_dump(exclude_defaults=True) == {"number": 3, "seed": 1, "valid": 0.2}
    without = [replace(entry, groups=()) for entry in women()]
    assert [entry.split for entry in assign(women(), 0, plain)] == [entry.split for entry in assign(without, 0, plain)]


@pytest.mark.parametrize(
    ("change", "folds", "words"),
    [
        ({}, {"by": "site"}, "folds.by is 'site', which is no group of data/raw/index.csv; it has vendor"),
        ({"groups": (("vendor", ""),)}, {}, "folds.by: 1 of 126 images have no vendor, so it cannot be left out"),
        (
            {},
            {"number": 5},
            r"vendor has 3 levels \(A, B, C\) and folds.number is 5: set folds.number to 3, and the folds",
        ),
    ],
)
def test_levels_that_are_no_folds_are_refused(change: dict, folds: dict, words: str) -> None:
    entries = women()
    entries[0] = replace(entries[0], **change)
    with pytest.raises(UserError, match=words):
        assign(entries, 0, THREE.model_copy(update=folds))

"""The audit asks whether a group alone, e.g. the vendor, predicts the label."""

from mammo.auditing import metadata
from mammo.core.dataset import Dataset, Delivered, Entry
from mammo.imaging.appearance import Appearance

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

FILE = Delivered("", 1000, 300, 300, "PNG L")


def collected(of_cancer: dict[str, float], of_healthy: dict[str, float], seed: int = 1, women: int = 200) -> Dataset:
    """Two images of each woman, who comes from one vendor, drawn with the probabilities of her class."""
    random = np.random.default_rng(seed)
    entries = []
    for woman in random.permutation(women).tolist():
        shares = of_cancer if woman % 2 else of_healthy
        vendor = str(random.choice(list(shares), p=list(shares.values())))
        groups = (("constant", "x"), ("vendor", vendor))
        entries += [
            Entry(f"train/{woman % 2}/{woman}_{view}.png", woman % 2, "train", f"{woman}", "", groups=groups)
            for view in ("CC", "MLO")
        ]
    entries.sort(key=lambda entry: entry.image)
    return Dataset(np.zeros((len(entries), 8, 8), np.uint8), entries)


def told(data: Dataset) -> dict[str, metadata.Separation | None]:
    same = Appearance(**dict.fromkeys(Appearance.__dataclass_fields__, 0))
    return metadata.separations(data, [FILE] * len(data.entries), [same] * len(data.entries), seed=1)


def about(data: Dataset) -> list[str]:
    return [row.detail for row in metadata.findings(told(data)) if "group" in row.detail]


def test_a_vendor_that_the_cancers_come_from_is_found_and_said() -> None:
    data = collected({"A": 0.2, "B": 0.7, "C": 0.1}, {"A": 0.6, "B": 0.2, "C": 0.2})
    found = told(data)["group_vendor"]
    assert found is not None
    frequent = {
        vendor: float(data.labels[data.groups["vendor"] == vendor].mean()) for vendor in ("A", "B", "C")
    }  # of all images, not of those in other folds
    expected = roc_auc_score(data.labels, [frequent[vendor] for vendor in data.groups["vendor"]])
    assert expected - 0.06 < found.roc_auc.value <= expected  # shares of other folds fit less well than its own
    assert found.roc_auc.low > 0.6
    assert found.cases == 400
    (said,) = about(data)
    assert said.startswith(f"the label can be told by the group vendor alone: ROC AUC {found.roc_auc.value:.3f} (")
    assert said.endswith("so a network may use it instead of cancer")
    content = metadata.as_metrics(told(data))
    assert list(content)[-1] == "group_vendor"
    assert content["group_vendor"]["pixels_can_carry_it"] is True


def test_a_value_that_is_missing_for_one_class_tells_the_label_too() -> None:
    assert about(collected({"": 0.6, "A": 0.4}, {"": 0.1, "A": 0.9}))


def test_a_group_of_one_level_is_no_property_and_changes_no_other_p() -> None:
    data = collected({"A": 1.0}, {"A": 1.0})
    assert not any(name.startswith("group_") for name in told(data))


def test_images_of_one_woman_do_not_count_as_many() -> None:
    """With 200 women, a chance difference of vendors is not made certain by 30 images of each."""
    data = collected({"A": 0.5, "B": 0.5}, {"A": 0.45, "B": 0.55}, women=40)
    entries = [
        Entry(f"{number}/{entry.image}", *(entry.label, entry.split, entry.patient, ""), groups=entry.groups)
        for entry in data.entries
        for number in range(15)
    ]
    many = Dataset(np.zeros((len(entries), 8, 8), np.uint8), entries)
    once, often = told(data)["group_vendor"], told(many)["group_vendor"]
    assert once is not None and often is not None
    assert often.p == pytest.approx(once.p, abs=0.02)


@pytest.mark.proof
def test_vendors_that_both_classes_come_from_are_warned_of_in_few_sets() -> None:
    shares = {"A": 0.5, "B": 0.3, "C": 0.2}
    assert sum(bool(about(collected(shares, shares, seed))) for seed in range(20)) <= 3

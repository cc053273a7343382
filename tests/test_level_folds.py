"""Cross-validation that leaves out one level of a group, e.g. the images of one vendor."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

from mammo.core import files, predictions, settings
from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.sources import phantom

import cv2
import pytest
import yaml
from crossvalidation import Folds, assign
from miniature import Run, change, dvc, run
from sklearn.metrics import roc_auc_score

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


def two_vendors(folder: Path, clone: Path) -> dict[str, tuple[int, str]]:
    """Draw phantoms with a column vendor; B's are darker, and one woman was seen by both. Label and vendor by file."""
    params = settings.read(clone / "params.yaml").data.phantom
    folder.mkdir()
    entries = phantom.generate(params, folder, 1)
    shutil.rmtree(folder / "masks")
    women = sorted({entry.patient for entry in entries})
    vendors = {entry.image: "AB"[women.index(entry.patient) // 2 % 2] for entry in entries}
    seen_by_both = [entry.image for entry in entries if entry.patient == women[0]]
    vendors[seen_by_both[0]] = "B"
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("image", "label", "patient", "vendor"))
        table.writerows((entry.image, entry.label, entry.patient, vendors[entry.image]) for entry in entries)
    for image, vendor in vendors.items():
        if vendor == "B":
            cv2.imwrite(str(folder / image), 0.6 * cv2.imread(str(folder / image), cv2.IMREAD_GRAYSCALE))
    return {Path(entry.image).name: (entry.label, vendors[entry.image]) for entry in entries}


@pytest.mark.proof
def test_networks_are_trained_without_a_vendor_and_tested_on_it(first: Run, tmp_path: Path) -> None:
    """Two vendors, the specified network, three epochs, by DVC."""
    clone = Path(shutil.copytree(first.folder, tmp_path / "clone", symlinks=True))
    known = two_vendors(tmp_path / "vendors", clone)
    change(clone, data={"source": "folder", "folder": str(tmp_path / "vendors"), "pseudonyms": False})
    content = yaml.safe_load((clone / "cv/params.yaml").read_text())
    content["folds"] |= {"by": "vendor", "number": 2}
    quick = {
        "reason": "a test",
        "time": "seconds",
        "score": "none",
        "preprocess": {"size": [64, 64]},
        "train": {"epochs": 3},
    }
    (clone / "recipes/quick.yaml").write_text(yaml.safe_dump(quick, sort_keys=False))
    content["variants"] = {"baseline": {"recipe": "quick", "compared_with": "shortcut", "seeds": [1]}}
    content |= {"finetuned": {}, "ensembles": {}}
    (clone / "cv/params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    stages = (clone / "cv/dvc.yaml").read_text()
    (clone / "cv/dvc.yaml").write_text(stages.replace("fold: [0, 1, 2, 3, 4]", "fold: [0, 1]"))
    dvc(clone, "repro", "download")
    said = dvc(clone / "cv", "repro", "summarise")
    assert said.count("Running stage 'fold@") == 2
    tested, aucs = [], {}
    for fold, vendor in enumerate("AB"):
        work = clone / f"cv/work/baseline/{fold}"
        rows = predictions.read(work / "predictions.csv")
        names = {Path(row.image).name for row in rows}
        assert names <= {name for name, (_, own) in known.items() if own == vendor}
        selecting = {known[Path(row.image).name][1] for row in predictions.read(work / "valid.csv")}
        assert selecting == {"AB"[1 - fold]}, "epoch and threshold are selected on the other vendor"
        aucs[vendor] = roc_auc_score([row.label for row in rows], [row.probability for row in rows])
        tested += [row.image for row in rows]
    assert len(tested) == len(set(tested)) == len(known) - 1, "all but the image of the other vendor of one woman"
    pooled = predictions.read(clone / "cv/plots/baseline.csv")
    assert sorted(row.image for row in pooled) == sorted(tested)
    found = files.read_json(clone / "cv/metrics/cv.json")["rows"]["baseline"]["roc_auc"]
    labels, chances = [row.label for row in pooled], [row.probability for row in pooled]
    assert found["value"] == pytest.approx(roc_auc_score(labels, chances))
    print(f"ROC AUC on the vendor left out: {aucs}; pooled {found}")
    run(clone / "cv", "mammo", "compare", "plots/shortcut.csv", "plots/baseline.csv")
    assert "up to date" in dvc(clone / "cv", "status", "summarise")

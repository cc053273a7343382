"""Cross-validation: every image predicted by a network that never saw its patient, rows compared with each other."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pool
import pytest
import yaml
from conftest import ROOT, run_stage
from mammo import folds
from mammo.core import files
from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.folds import Folds
from miniature import Run, dvc, git
from readme import block, shell
from sklearn.metrics import roc_auc_score

PIPELINE = yaml.safe_load((ROOT / "cv/dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "cv/params.yaml").read_text())
COMMANDS = block("Cross-validation")
FIVE = Folds(number=5, seed=1, valid=0.15)


def entries(patients: int = 200) -> list[Entry]:
    """Patients with one to four images; every third has cancer, in his first image alone."""
    return [
        Entry(f"train/{label}/{patient}_{image}.png", label, "train", str(patient), "")
        for patient in range(patients)
        for image in range(1 + patient % 4)
        for label in [int(patient % 3 == 0 and image == 0)]
    ]


def test_every_image_is_tested_in_exactly_one_fold_and_no_patient_is_in_two_splits_of_a_fold() -> None:
    tested = Counter()
    for fold in range(5):
        placed = folds.assigned(entries(), fold, FIVE)
        tested.update(entry.image for entry in placed if entry.split == "test")
        splits = {}
        for entry in placed:
            assert splits.setdefault(entry.patient, entry.split) == entry.split
    assert set(tested.values()) == {1} and len(tested) == len(entries())


def test_folds_hold_both_classes_evenly_and_validation_its_share() -> None:
    for fold in range(5):
        placed = {entry.patient: entry.split for entry in folds.assigned(entries(), fold, FIVE)}
        ill = Counter(split for patient, split in placed.items() if int(patient) % 3 == 0)
        assert ill["test"] in (13, 14) and Counter(placed.values())["test"] in (39, 40, 41)
        assert Counter(placed.values())["valid"] / (200 - 40) == pytest.approx(0.15, abs=0.02)


def test_who_is_in_which_fold_depends_on_the_seed_and_not_on_the_order_of_files() -> None:
    there = {entry.image: entry.split for entry in folds.assigned(entries(), 2, FIVE)}
    back = {entry.image: entry.split for entry in folds.assigned(entries()[::-1], 2, FIVE)}
    other = {entry.image: entry.split for entry in folds.assigned(entries(), 2, FIVE.model_copy(update={"seed": 2}))}
    assert there == back != other


def test_a_share_of_the_training_patients_leaves_the_other_splits_as_they_are() -> None:
    def patients(share: float) -> dict[str, set[str]]:
        placed = folds.assigned(entries(), 2, FIVE, share)
        return {
            split: {entry.patient for entry in placed if entry.split == split} for split in ("train", "valid", "test")
        }

    whole, half, quarter = patients(1.0), patients(0.5), patients(0.25)
    assert whole["test"] == half["test"] == quarter["test"] and whole["valid"] == half["valid"] == quarter["valid"]
    assert quarter["train"] < half["train"] < whole["train"]
    assert len(half["train"]) == pytest.approx(len(whole["train"]) / 2, abs=1)
    assert sum(int(patient) % 3 == 0 for patient in half["train"]) == pytest.approx(len(half["train"]) / 3, abs=2)


def test_too_few_patients_for_so_many_folds_are_refused() -> None:
    with pytest.raises(UserError, match="fold 4: its test split lacks a class: fewer folds or more patients"):
        folds.assigned(entries(12), 4, FIVE)


def test_pooled_scores_and_corrected_comparisons(tmp_path: Path) -> None:
    """`pool` on predictions made here: three rows of which the last is far better than the first two."""
    random = np.random.default_rng(1)
    every = entries()
    write_images(tmp_path / "raw", every)
    (tmp_path / "cv").mkdir()
    quality = {"first": 0.2, "second": 0.2, "third": 2.5}
    (tmp_path / "cv/params.yaml").write_text(
        yaml.safe_dump(
            {
                "folds": FIVE.model_dump(),
                "rows": {name: {} for name in quality},
                "ensembles": {"both": ["first", "third"]},
            },
            sort_keys=False,
        )
    )
    chances = {}
    for name, strength in quality.items():
        for fold in range(5):
            tested = [entry for entry in folds.assigned(every, fold, FIVE) if entry.split == "test"]
            said = [1 / (1 + np.exp(-(strength * entry.label + random.normal()))) for entry in tested]
            chances |= {(name, entry.image): chance for entry, chance in zip(tested, said, strict=True)}
            rows = [
                (entry.image, entry.patient, entry.label, chance, int(chance >= 0.5))
                for entry, chance in zip(tested, said, strict=True)
            ]
            files.write_csv(tmp_path / f"cv/work/{name}/{fold}/predictions.csv", folds.PREDICTIONS, rows)
    done = run_stage("pool", "../raw", "work", "metrics/cv.json", "plots", folder=tmp_path / "cv")
    assert done.returncode == 0, done.stderr
    content = files.read_json(tmp_path / "cv/metrics/cv.json")
    assert list(content["rows"]) == ["shortcut", *quality, "both"]
    labels = [entry.label for entry in every]
    for name in quality:
        auc = content["rows"][name]["roc_auc"]
        assert auc["value"] == pytest.approx(roc_auc_score(labels, [chances[name, entry.image] for entry in every]))
        assert auc["low"] < auc["value"] < auc["high"]
    compared = content["comparisons"]
    assert list(compared) == ["shortcut_to_first", "first_to_second", "second_to_third", "third_to_both"]
    assert compared["second_to_third"]["p_holm"] < 0.05 < compared["first_to_second"]["p_holm"]
    for row in compared.values():
        assert row["p"] <= row["p_holm"] <= 4 * row["p"]
    both = {
        row["image"]: float(row["probability"])
        for row in files.read_csv(tmp_path / "cv/plots/both.csv", folds.PREDICTIONS)
    }
    assert all(
        both[entry.image] == pytest.approx((chances["first", entry.image] + chances["third", entry.image]) / 2)
        for entry in every
    )
    table = list(files.read_csv(tmp_path / "cv/plots/third.csv", folds.PREDICTIONS))
    assert len(table) == len(every)
    again = run_stage("pool", "../raw", "work", "metrics/again.json", "plots", folder=tmp_path / "cv")
    assert again.returncode == 0
    assert (tmp_path / "cv/metrics/again.json").read_bytes() == (tmp_path / "cv/metrics/cv.json").read_bytes()


def write_images(raw: Path, every: list[Entry]) -> None:
    """Noise whose brightness says nothing of the label."""
    import cv2
    from mammo.core import dataset

    random = np.random.default_rng(2)
    for entry in every:
        (raw / entry.image).parent.mkdir(parents=True, exist_ok=True)
        level = random.integers(60, 200)
        cv2.imwrite(str(raw / entry.image), random.integers(level - 50, level + 50, (48, 40)).astype(np.uint8))
    dataset.write_index(raw, every)


def test_p_is_corrected_as_holm_says() -> None:
    changes = {name: {"p": p} for name, p in {"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.5}.items()}
    corrected = {name: change["p_holm"] for name, change in pool.holm(changes).items()}
    assert corrected == pytest.approx({"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.5})
    assert list(corrected) == list(changes)


def test_a_row_may_only_set_what_a_fold_reads(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"rows": {"one": {"split": {"by": "folder"}}}}))
    with pytest.raises(
        UserError, match=r"rows\.one\.split is unknown; allowed are preprocess, augment, train and patients"
    ):
        folds.row("one", path)
    path.write_text(yaml.safe_dump({"rows": {"one": {"patients": 1.5}}}))
    with pytest.raises(UserError, match=r"rows\.one\.patients is 1\.5; it is a share, greater than 0 and at most 1"):
        folds.row("one", path)
    with pytest.raises(UserError, match="rows has no 'two'; it has one"):
        folds.row("two", path)
    with pytest.raises(UserError, match=r"folds"):
        folds.read("folds", Folds, path)


def test_every_row_has_its_folds_and_the_pipeline_names_what_its_scripts_reach() -> None:
    fitted = {name for stage in ("fold", "finetune") for name in PIPELINE[stage]["matrix"]["row"]}
    assert fitted == set(PARAMS["rows"])
    assert all(
        PIPELINE[stage]["matrix"]["fold"] == list(range(PARAMS["folds"]["number"])) for stage in ("fold", "finetune")
    )
    pooled = set(PIPELINE["pool"]["deps"])
    assert {f"work/{row}" for row in PARAMS["rows"]} <= pooled
    drawn = {name for out in PIPELINE["pool"]["outs"] for name in out}
    assert drawn == {f"plots/{row}.csv" for row in ("shortcut", "scores", *PARAMS["rows"], *PARAMS["ensembles"])}
    for stage in PIPELINE.values():
        script = stage["cmd"].split()[1]
        code = {dep for dep in stage["deps"] if dep.endswith(".py")}
        assert code == {f"../{path.relative_to(ROOT)}" for path in reached_with_scripts(ROOT / "cv" / script)}


def reached_with_scripts(path: Path) -> set[Path]:
    """As `reached` of test_dvc_yaml, the scripts that a script takes from included."""
    from test_dvc_yaml import imported, reached

    found, ahead = set(), [path.resolve()]
    while ahead:
        here = ahead.pop()
        found |= reached(here)
        others = (ROOT / "stages" / f"{name}.py" for name in imported(here))
        ahead += [other for other in others if other.is_file() and other not in found]
    return found


@pytest.mark.proof
def test_cross_validation_by_dvc_gives_the_same_bytes_and_leaves_the_pipeline_alone(first: Run, tmp_path: Path) -> None:
    """In a clone with the phantoms in miniature: all rows and folds, with small networks' inputs and two epochs."""
    clone = tmp_path / "clone"
    shutil.copytree(first.folder, clone, symlinks=True)
    content = yaml.safe_load((clone / "cv/params.yaml").read_text())
    for row in content["rows"].values():
        train = row.setdefault("train", {})
        train.update({"epochs": 2, "threads": 2} | ({"average": 1} if "network" in train else {}))
        row.setdefault("preprocess", {})["size"] = [64, 48]
    phantoms = content["pretraining"]["phantom"] | {"patients": 40, "size": 96}
    content["pretraining"] |= {"epochs": 2, "phantom": phantoms}
    (clone / "cv/params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    before = dvc(clone, "status")
    output = shell(clone, COMMANDS)
    assert "A: plots/shortcut.csv\nB: plots/compact.csv\n" in output
    scores = (clone / "cv/metrics/cv.json").read_bytes()
    lock = (clone / "cv/dvc.lock").read_bytes()
    assert set(files.read_json(clone / "cv/metrics/cv.json")["rows"]) == {
        "shortcut",
        *content["rows"],
        *content["ensembles"],
    }
    dvc(clone / "cv", "repro", "--force", "--no-run-cache")
    assert (clone / "cv/metrics/cv.json").read_bytes() == scores
    assert (clone / "cv/dvc.lock").read_bytes() == lock
    assert "up to date" in dvc(clone / "cv", "status")
    assert dvc(clone, "status") == before
    assert not [line for line in git(clone, "status", "--porcelain").splitlines() if "work/" in line or "data/" in line]

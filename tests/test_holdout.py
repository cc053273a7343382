"""Patients who are set aside before the first try: in no fold, and scored once by the shipped recipe alone."""

import shutil
from collections import Counter
from pathlib import Path

from mammo.core import dataset, files, predictions
from mammo.core.errors import UserError
from mammo.scoring import with_interval

import brightness
import numpy as np
import pytest
from crossvalidation import HELD_OUT, Folds, Holdout, assign, assign_held_out, held_out
from documents import PAGES, README, block, shell
from miniature import ROOT, run, told
from sklearn.metrics import roc_auc_score
from test_folds import entries, recipe, resolved, small, variant, write_learnable

FIVE = Folds(number=5, seed=1, valid=0.15, holdout=Holdout(share=0.2, seed=7))
COMMANDS = block("Patients set aside")
WITHOUT = FIVE.model_copy(update={"holdout": None})


def test_who_is_set_aside_is_in_no_fold_and_everybody_else_is_tested_once() -> None:
    every, tested = entries(), Counter()
    aside = held_out(every, FIVE)
    for fold in range(5):
        placed = assign(every, fold, FIVE)
        assert {entry.patient for entry in placed if entry.split == HELD_OUT} == aside
        tested.update(entry.image for entry in placed if entry.split == "test")
    assert set(tested.values()) == {1}
    assert set(tested) == {entry.image for entry in every if entry.patient not in aside}


def test_a_fifth_of_each_class_is_drawn_by_the_seed_whatever_the_order() -> None:
    every = entries()
    aside = held_out(every, FIVE)
    assert len(aside) == 40 and sum(int(patient) % 3 == 0 for patient in aside) == 13
    assert held_out(every[::-1], FIVE) == aside
    other = FIVE.model_copy(update={"holdout": Holdout(share=0.2, seed=8)})
    assert held_out(every, other) != aside
    assert held_out(every, WITHOUT) == set()
    assert [entry.split for entry in assign(every, 0, WITHOUT)] != [entry.split for entry in assign(every, 0, FIVE)]


def test_the_last_training_learns_from_all_others_and_tests_those_set_aside() -> None:
    every = entries()
    placed = assign_held_out(every, FIVE)
    splits = {
        split: {entry.patient for entry in placed if entry.split == split} for split in ("train", "valid", "test")
    }
    assert splits["test"] == held_out(every, FIVE)
    assert not splits["train"] & splits["valid"] and not splits["test"] & (splits["train"] | splits["valid"])
    assert set().union(*splits.values()) == {entry.patient for entry in every}
    with pytest.raises(UserError, match=r"no patients are set aside: give folds\.holdout in cv/params\.yaml a share"):
        assign_held_out(every, WITHOUT)


def test_a_vendor_is_left_out_of_those_who_are_not_set_aside() -> None:
    by = FIVE.model_copy(update={"by": "vendor", "number": 2})
    every = [
        dataset.Entry(entry.image, entry.label, "train", entry.patient, "", groups=(("vendor", "AB"[number % 2]),))
        for number, entry in enumerate(entries())
    ]
    aside = held_out(every, by)
    for fold, vendor in enumerate("AB"):
        placed = assign(every, fold, by)
        assert {entry.patient for entry in placed if entry.split == HELD_OUT} == aside
        assert {dict(entry.groups)["vendor"] for entry in placed if entry.split == "test"} == {vendor}


def test_the_brightness_baseline_learns_nothing_of_those_set_aside(tmp_path: Path) -> None:
    """Their labels are swapped: the forest must not notice."""
    every = entries(60)
    random = np.random.default_rng(1)
    known = brightness.Images(every, every, random.normal(size=(len(every), 38)))
    placed = assign(every, 0, FIVE)
    swapped = [
        entry if entry.split != HELD_OUT else dataset.Entry(entry.image, 1 - entry.label, HELD_OUT, entry.patient, "")
        for entry in placed
    ]
    assert brightness.predicted(known, placed, 1) == brightness.predicted(known, swapped, 1)


def project(folder: Path) -> Path:
    """Images of 40 patients, a recipe that learns them in seconds, and a fifth of the patients set aside."""
    write_learnable(folder / "data/raw", entries(40))
    recipe(folder / "recipes", "quick", preprocess={"size": [48, 48]}, train={"epochs": 3, "learning_rate": 0.01})
    recipe(folder / "recipes", "other", preprocess={"size": [48, 48]})
    (folder / "recipes/best.yaml").write_text("recipe: quick\n")
    variants = {
        "quick": {"compared_with": "shortcut", "seeds": [1, 2]},
        "half": variant("quick", recipe="other", patients=0.5),
    }
    small(folder / "cv/params.yaml", variants, folds=FIVE.model_dump())
    shutil.copy(ROOT / "params.yaml", folder)
    resolved(folder / "cv")
    for path in (ROOT / "cv").glob("*.py"):
        shutil.copy(path, folder / "cv")
    (folder / "stages").symlink_to(ROOT / "stages")
    return folder


def test_the_shipped_recipe_is_scored_once_and_no_other_after_it(tmp_path: Path) -> None:
    cv = project(tmp_path) / "cv"
    (first,) = [line for line in shell(tmp_path, COMMANDS).splitlines() if line.startswith("holdout: ")]
    command = COMMANDS[-1].split()
    scores = files.read_json(cv / "held_out/scores.json")
    rows = predictions.read(cv / "held_out/predictions.csv")
    every = dataset.read_index(tmp_path / "data/raw")
    assert {row.patient for row in rows} == held_out(every, FIVE)
    assert scores["recipe"] == "quick" and rows[0].seeds == 2
    assert first.startswith(f"holdout: recipe quick, ROC AUC {scores['roc_auc']['value']:.3f} (")
    assert scores["against_shortcut"]["roc_auc_change"]["value"] == pytest.approx(
        scores["roc_auc"]["value"] - scores["shortcut"]["roc_auc"]["value"]
    )
    kept = {path.name: path.read_bytes() for path in (cv / "held_out").iterdir()}
    assert run(cv, *command).stdout == f"{first} (scored before; nothing was trained)\n"
    assert not (cv / "data/state/holdout").exists()
    (tmp_path / "recipes/best.yaml").write_text("recipe: other\n")
    assert "holdout: recipe other is no variant of cv/params.yaml: cross-validate it first" in told(
        cv, *command, fails=True
    ), "half of the patients are not all of them"
    path = cv / "params.yaml"
    path.write_text(path.read_text().replace("patients: 0.5", "patients: 1.0"))
    resolved(cv)
    refused = told(cv, *command, fails=True)
    assert refused.startswith("holdout: held_out/scores.json holds the score of recipe quick (")
    assert "a second score, of other (" in refused and "Traceback" not in refused
    assert {path.name: path.read_bytes() for path in (cv / "held_out").iterdir()} == kept
    table = run(tmp_path, "python", "-c", TABLE).stdout
    assert f"scored once by the shipped recipe `quick`: ROC AUC per image {scores['roc_auc']['value']:.3f} (" in table


def test_the_pages_give_the_score_of_the_patients_set_aside() -> None:
    scores = files.read_json(ROOT / "cv/held_out/scores.json")
    detector = PAGES[ROOT / "docs/detector.md"]
    rows = (("finetuned, mean of three seeds", scores), ("brightness baseline", scores["shortcut"]))
    for (name, row), table in zip(rows, ("predictions", "shortcut"), strict=True):
        cells = [with_interval(**row[key]) for key in ("roc_auc", "breast_roc_auc", "patient_roc_auc")]
        assert f"| {name} | {' | '.join(cells)} |" in detector.replace("`", "")
        assert cells[0] in README.replace("\n", " ")
        images = predictions.read(ROOT / f"cv/held_out/{table}.csv")
        assert predictions.images_digest(images) == scores["images"]
        auc = roc_auc_score([one.label for one in images], [one.probability for one in images])
        assert auc == pytest.approx(row["roc_auc"]["value"])
    assert not {one.patient for one in images} & {
        one.patient for one in predictions.read(ROOT / "cv/plots/finetuned.csv")
    }, "set aside"


TABLE = """
from pathlib import Path
from mammo.core import files
from mammo.scoring import recipe_table
files.write_json(Path("cv.json"), {"rows": {}})
print(recipe_table.table(Path("cv.json")))
"""

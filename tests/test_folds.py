"""Cross-validation: every image predicted by a network that never saw its patient; variants are then compared."""

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from mammo.core import dataset, files, predictions, recipes, tried
from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.core.predictions import Prediction

import crossvalidation
import cv2
import numpy as np
import pytest
import scored_rows
import summarise
import yaml
from crossvalidation import Folds, assign
from documents import block, shell
from miniature import ROOT, Run, dvc, git, run
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

PIPELINE = yaml.safe_load((ROOT / "cv/dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "cv/params.yaml").read_text())
COMMANDS = block("Cross-validation")
FIVE = Folds(number=5, seed=1, valid=0.15)


def entries(patients: int = 200) -> list[Entry]:
    """Patients with one to four images; every third has cancer, in the first image alone."""
    return [
        Entry(f"train/{label}/{patient}_{image}.png", label, "train", str(patient), "")
        for patient in range(patients)
        for image in range(1 + patient % 4)
        for label in [int(patient % 3 == 0 and image == 0)]
    ]


def test_every_image_is_tested_in_exactly_one_fold_and_no_patient_is_in_two_splits_of_a_fold() -> None:
    tested = Counter()
    for fold in range(5):
        placed = assign(entries(), fold, FIVE)
        tested.update(entry.image for entry in placed if entry.split == "test")
        splits = {}
        for entry in placed:
            assert splits.setdefault(entry.patient, entry.split) == entry.split
    assert set(tested.values()) == {1} and len(tested) == len(entries())


def test_folds_hold_both_classes_evenly_and_validation_its_share() -> None:
    for fold in range(5):
        placed = {entry.patient: entry.split for entry in assign(entries(), fold, FIVE)}
        ill = Counter(split for patient, split in placed.items() if int(patient) % 3 == 0)
        assert ill["test"] in (13, 14) and Counter(placed.values())["test"] in (39, 40, 41)
        assert Counter(placed.values())["valid"] / (200 - 40) == pytest.approx(0.15, abs=0.02)


def test_who_is_in_which_fold_depends_on_the_seed_and_not_on_the_order_of_files() -> None:
    there = {entry.image: entry.split for entry in assign(entries(), 2, FIVE)}
    back = {entry.image: entry.split for entry in assign(entries()[::-1], 2, FIVE)}
    other = {entry.image: entry.split for entry in assign(entries(), 2, FIVE.model_copy(update={"seed": 2}))}
    assert there == back != other


def test_a_share_of_the_training_patients_leaves_the_other_splits_as_they_are() -> None:
    def patients(share: float) -> dict[str, set[str]]:
        placed = assign(entries(), 2, FIVE, share)
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
        assign(entries(12), 4, FIVE)


def small(path: Path, variants: dict[str, Any], ensembles: dict[str, Any] | None = None, **sections: Any) -> None:
    """Write a cv/params.yaml with other variants, none of them fine-tuned."""
    content = {"folds": FIVE.model_dump(), "variants": variants, "finetuned": None, "ensembles": ensembles} | sections
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({**content, "pretraining": PARAMS["pretraining"]}, sort_keys=False))


def variant(compared_with: str, **more: Any) -> dict[str, Any]:
    """An entry of `variants`."""
    return {"compared_with": compared_with, "seeds": [1], "recipe": "default"} | more


def recipe(folder: Path, name: str, **settings: Any) -> None:
    """Write a recipe into `folder`, and the project's default beside it."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / "recipes/default.yaml", folder)
    head = {"reason": "tried here", "time": "seconds", "score": "none"}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(head | settings))


def resolved(cv: Path) -> None:
    """Write cv/data/settings from cv/params.yaml and the recipes beside it."""
    run(cv, sys.executable, str(ROOT / "cv/variant_settings.py"), "../recipes", "data/settings")


def test_pooled_scores_and_corrected_comparisons(tmp_path: Path) -> None:
    """`summarise` on predictions made here: three variants of which the last is far better than the first two.

    In params.yaml they stand in another order than they are compared in.
    """
    random = np.random.default_rng(1)
    every = entries()
    write_images(tmp_path / "raw", every)
    quality = {"first": 0.2, "second": 0.2, "third": 2.5}
    variants = {"third": variant("second"), "first": variant("shortcut"), "second": variant("first")}
    ensembles = {"both": {"compared_with": "third", "mean_of": ["first", "third"]}}
    small(tmp_path / "cv/params.yaml", variants, ensembles)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    recipe(tmp_path / "recipes", "none")
    resolved(tmp_path / "cv")
    chances = {}
    for name, strength in quality.items():
        for fold in range(5):
            for split, table in (("test", "predictions"), ("valid", "valid")):
                tested = [entry for entry in assign(every, fold, FIVE) if entry.split == split]
                said = [1 / (1 + np.exp(-(strength * entry.label + random.normal()))) for entry in tested]
                if split == "test":
                    chances |= {(name, entry.image): chance for entry, chance in zip(tested, said, strict=True)}
                rows = [
                    Prediction(entry.image, entry.patient, entry.label, chance, int(chance >= 0.4), seeds=2)
                    for entry, chance in zip(tested, said, strict=True)
                ]
                predictions.write(tmp_path / f"cv/work/{name}/{fold}/{table}.csv", rows)
    command = (sys.executable, str(ROOT / "cv/summarise.py"), "../raw", "data/settings", "work")
    run(tmp_path / "cv", *command, "metrics/cv.json", "plots", "tried.csv")
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
    corrected_for_the_choice(content, tmp_path / "cv/plots/label_errors.csv", quality)
    both = {row.image: row.probability for row in predictions.read(tmp_path / "cv/plots/both.csv")}
    assert all(
        both[entry.image] == pytest.approx((chances["first", entry.image] + chances["third", entry.image]) / 2)
        for entry in every
    )
    assert len(predictions.read(tmp_path / "cv/plots/third.csv")) == len(every)
    tries = tried.read(tmp_path / "cv/tried.csv")
    assert {one.variant: one.roc_auc for one in tries} == {
        name: row["roc_auc"]["value"] for name, row in content["rows"].items() if name != "shortcut"
    }
    assert len({one.settings for one in tries}) == 2  # the three variants differ in name only
    before = (tmp_path / "cv/tried.csv").read_bytes()
    called_at_the_threshold_of_validation(tmp_path / "cv", every)  # runs it again
    assert (tmp_path / "cv/tried.csv").read_bytes() == before


def corrected_for_the_choice(content: dict[str, Any], suspicions: Path, quality: dict[str, float]) -> None:
    """What is said of the best row, of every row against the brightness baseline, and of the labels."""
    against = content["against_shortcut"]
    assert list(against) == [*quality, "both"]
    assert against["third"]["p_holm"] < 0.001 < 0.05 < against["first"]["p_holm"]
    chosen = content["selection"]
    assert (chosen["tried"], chosen["rows"], chosen["image"]["best"]) == (4, 4, "third")
    assert chosen["image"]["raw"]["value"] == content["rows"]["third"]["roc_auc"]["value"]
    assert chosen["image"]["corrected"]["value"] == pytest.approx(chosen["image"]["raw"]["value"], abs=0.01)
    assert chosen["image"]["against_shortcut"]["p"] < 0.001
    rows = files.read_csv(suspicions, ("image", "label", "row", "probability", "margin", "suspected"))
    assert len(rows) == len(entries()) and {row["row"] for row in rows} == {"third"}
    margins = [float(row["margin"]) for row in rows if row["suspected"] == "1"]
    assert 0 < len(margins) < len(rows) / 3 and margins == sorted(margins)


def called_at_the_threshold_of_validation(cv: Path, every: list[Entry]) -> None:
    """The ensemble `both` in each fold, and what is said where the validation predictions are not there."""
    both = {row.image: row for row in predictions.read(cv / "plots/both.csv")}
    for fold in range(5):
        first, third = (
            {row.image: row for row in predictions.read(cv / f"work/{name}/{fold}/valid.csv")}
            for name in ("first", "third")
        )
        chances = np.array([(first[image].probability + third[image].probability) / 2 for image in first])
        labels = np.array([row.label for row in first.values()])
        # The highest balanced accuracy that any threshold reaches on validation, and where.
        reached = [balanced_accuracy_score(labels, chances >= level) for level in np.sort(chances)]
        tested = [entry.image for entry in assign(every, fold, FIVE) if entry.split == "test"]
        below = np.sort(chances)[np.flatnonzero(reached == np.max(reached))[0]]
        under = max((chance for chance in chances if chance < below), default=0)
        threshold = (under + below) / 2
        assert [both[image].predicted for image in tested] == [
            int(both[image].probability >= threshold) for image in tested
        ]
        assert abs(threshold - 0.5) > 0.001
    (cv / "work/third/0/valid.csv").unlink()
    command = (sys.executable, str(ROOT / "cv/summarise.py"), "../raw", "data/settings", "work")
    done = run(cv, *command, "metrics/again.json", "plots", "tried.csv")
    assert done.stdout.startswith(
        "summarise: both cannot be called at a locked threshold, so its table has no column predicted: third kept no "
        "predictions of validation images (`dvc repro` makes valid.csv)\n"
    )
    suspected = [
        row for row in files.read_csv(cv / "plots/label_errors.csv", ("suspected",)) if row["suspected"] == "1"
    ]
    assert done.stdout.splitlines()[1:] == [
        f"summarise: third contradicts the label of {len(suspected)} images of 500; plots/label_errors.csv "
        "ranks them, as a suggestion to look: nothing is dropped"
    ]
    first_line = (cv / "plots/both.csv").read_text().splitlines()[0]
    assert first_line == "image,patient,label,probability,seeds,breast"
    assert (cv / "metrics/again.json").read_bytes() == (cv / "metrics/cv.json").read_bytes(), "scores of the ranking"


def test_the_variance_of_the_seeds_stands_in_the_table_with_its_interval(tmp_path: Path) -> None:
    random, every = np.random.default_rng(4), entries()
    aucs = {1: [], 2: [], 3: []}
    for fold in range(5):
        tested = [entry for entry in assign(every, fold, FIVE) if entry.split == "test"]
        rows, alone = [], []
        for entry in tested:
            own = {seed: 1 / (1 + np.exp(-(entry.label + random.normal()))) for seed in aucs}
            rows.append(Prediction(entry.image, entry.patient, entry.label, np.mean([*own.values()]), 0, seeds=3))
            alone += [(entry.image, seed, chance) for seed, chance in own.items()]
            for seed, chance in own.items():
                aucs[seed].append((entry.label, chance))
        predictions.write(tmp_path / f"{fold}/predictions.csv", rows)
        files.write_csv(tmp_path / f"{fold}/seeds.csv", ("image", "seed", "probability"), alone)
    rows = [row for fold in range(5) for row in predictions.read(tmp_path / f"{fold}/predictions.csv")]
    chances = summarise.of_seeds(FIVE, tmp_path, rows)
    assert chances.shape == (3, len(rows))
    found = summarise.seed_deviation(chances, np.array([row.label for row in rows]))
    expected = np.std([roc_auc_score(*np.array(pairs).T) for pairs in aucs.values()], ddof=1)
    assert found.value == pytest.approx(expected)
    # Three seeds: the interval of a standard deviation with two degrees of freedom, from tables of chi-square.
    assert found.low == pytest.approx(expected * (2 / 7.3778) ** 0.5, rel=1e-4)
    assert found.high == pytest.approx(expected * (2 / 0.050636) ** 0.5, rel=1e-4)
    (tmp_path / "0/seeds.csv").unlink()
    assert summarise.of_seeds(FIVE, tmp_path, rows) is None, "folds of an older commit"


def write_learnable(raw: Path, every: list[Entry]) -> None:
    """Write images that are learned in seconds, those of class 1 with a bright square, and their index."""
    random = np.random.default_rng(2)
    for entry in every:
        (raw / entry.image).parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(40, 90, (48, 48))
        pixels[16:32, 16:32] += 120 * entry.label
        cv2.imwrite(str(raw / entry.image), pixels.astype(np.uint8))
    dataset.write_index(raw, every)


@pytest.mark.proof
def test_a_fold_trains_each_seed_and_averages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = entries(40)
    write_learnable(tmp_path / "raw", every)
    recipe(tmp_path / "recipes", "quick", preprocess={"size": [48, 48]}, train={"epochs": 3, "learning_rate": 0.01})
    two = variant("shortcut", recipe="quick", seeds=[2, 1])
    small(tmp_path / "cv/params.yaml", {"two": two, "one": variant("two", recipe="quick")})
    shutil.copy(ROOT / "params.yaml", tmp_path)
    resolved(tmp_path / "cv")
    monkeypatch.chdir(tmp_path / "cv")
    for name in ("two", "one"):  # in a process of its own: another test may have set TensorFlow's threads in this one
        command = [sys.executable, ROOT / "cv/fold.py", "../raw", f"data/settings/{name}.json", f"work/{name}/0"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    table = {name: predictions.read(Path(f"work/{name}/0/predictions.csv")) for name in ("two", "one")}
    alone: dict[str, dict[str, float]] = {"1": {}, "2": {}}
    for one in files.read_csv(Path("work/two/0/seeds.csv"), ("image", "seed", "probability")):
        alone[one["seed"]][one["image"]] = float(one["probability"])
    assert alone["1"] == {row.image: row.probability for row in table["one"]}, "whatever was trained before"
    assert alone["1"] != alone["2"]
    for row in table["two"]:
        assert row.probability == pytest.approx((alone["1"][row.image] + alone["2"][row.image]) / 2)
        assert (row.seeds, table["one"][0].seeds) == (2, 1)
    selecting = predictions.read(Path("work/two/0/valid.csv"))
    placed = {entry.image for entry in assign(every, 0, FIVE) if entry.split == "valid"}
    assert {row.image for row in selecting} == placed
    highest = max((row.probability for row in selecting if not row.predicted), default=0)
    lowest = min((row.probability for row in selecting if row.predicted), default=1)
    assert highest < lowest, "one threshold"
    assert all(
        row.predicted == (row.probability > (highest + lowest) / 2)
        for row in table["two"]
        if not highest < row.probability < lowest
    )
    epochs = files.read_csv(Path("work/two/0/history.csv"), ("epoch", "seed"))
    assert {row["seed"] for row in epochs} == {"1", "2"}
    assert not Path("data/state/two/0").exists()


def write_images(raw: Path, every: list[Entry]) -> None:
    """Noise whose brightness says nothing of the label."""
    random = np.random.default_rng(2)
    for entry in every:
        (raw / entry.image).parent.mkdir(parents=True, exist_ok=True)
        level = random.integers(60, 200)
        cv2.imwrite(str(raw / entry.image), random.integers(level - 50, level + 50, (48, 40)).astype(np.uint8))
    dataset.write_index(raw, every)


def test_p_is_corrected_as_holm_says() -> None:
    changes = {name: {"p": p} for name, p in {"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.5}.items()}
    corrected = {name: change["p_holm"] for name, change in scored_rows.holm(changes).items()}
    assert corrected == pytest.approx({"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.5})
    assert list(corrected) == list(changes)
    among_six = {name: change["p_holm"] for name, change in scored_rows.holm(changes, 6).items()}
    assert among_six == pytest.approx({"a": 0.16, "b": 0.06, "c": 0.15, "d": 1.0}), "others had been tried too"


def test_rows_stand_in_the_order_in_which_they_are_compared() -> None:
    asked = crossvalidation.read(ROOT / "cv/params.yaml")
    compared_with, order = summarise.in_order({**asked.variants, **asked.ensembles})
    committed = files.read_json(ROOT / "cv/metrics/cv.json")
    assert order == list(committed["rows"])
    assert [f"{before}_to_{row}" for row, before in compared_with.items()] == list(committed["comparisons"])


def test_comparisons_lead_back_to_the_brightness_baseline(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    small(path, {"one": variant("shortcut"), "two": variant("three"), "three": variant("two"), "four": variant("on")})
    with pytest.raises(UserError, match="not so two with 'three', three with 'two', four with 'on'"):
        summarise.in_order(crossvalidation.read(path).variants)
    small(path, {"shortcut": variant("shortcut")})
    with pytest.raises(UserError, match="shortcut is the brightness baseline; give that row another name"):
        summarise.in_order(crossvalidation.read(path).variants)


def test_seeds_are_named_each_once_and_never_left_out(tmp_path: Path) -> None:
    small(tmp_path / "params.yaml", {"one": {**variant("shortcut"), "seeds": [1, 2, 1]}})
    with pytest.raises(UserError, match=r"variants.one.seeds is \[1, 2, 1\]; allowed is every seed once"):
        crossvalidation.read(tmp_path / "params.yaml")
    small(tmp_path / "params.yaml", {"one": {"compared_with": "shortcut"}})
    with pytest.raises(UserError, match=r"variants\.one\.seeds is missing"):
        crossvalidation.read(tmp_path / "params.yaml")


def test_a_variants_recipe_is_checked_with_all_of_the_pipelines_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(tmp_path / "cv/params.yaml", {"one": variant("shortcut", recipe="none"), "two": variant("one", recipe="x")})
    recipe(tmp_path / "recipes", "none", train={"epochs": 0})
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path / "cv")
    asked, recipes = crossvalidation.read(), Path("../recipes")
    with pytest.raises(UserError, match=r"variant one of cv/params.yaml: ../recipes/none.yaml: train.epochs is 0; "):
        crossvalidation.resolve(asked, "one", recipes)
    with pytest.raises(UserError, match=r"variant two of cv/params.yaml: there is no recipe 'x'; there are default, n"):
        crossvalidation.resolve(asked, "two", recipes)
    recipe(tmp_path / "recipes", "none", train={"seeds": [1, 2]})
    with pytest.raises(UserError, match=r"the mean over the seeds \[1, 2\].* write seeds: \[1, 2\], not \[1\]"):
        crossvalidation.resolve(asked, "one", recipes)
    small(Path("params.yaml"), {"one": variant("shortcut", recipe="none", patients=0.5)})
    found = crossvalidation.resolve(crossvalidation.read(), "one", recipes)
    assert (found.seeds, found.patients) == ([1], 0.5), "a point of a learning curve may have fewer"
    Path("params.yaml").write_text("folds: {number: 5, seed: 1, valid: 0.15}\n")
    with pytest.raises(UserError, match="must hold the sections folds, variants, finetuned, ensembles, pretraining"):
        crossvalidation.read()


def test_a_variant_is_trained_with_its_recipe_whichever_the_pipeline_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(tmp_path / "cv/params.yaml", {"baseline": {"compared_with": "shortcut", "seeds": [3, 4]}})
    for folder in ("cv", "recipes"):
        shutil.copytree(ROOT / folder, tmp_path / folder, dirs_exist_ok=True, ignore=lambda *_: ["params.yaml"])
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path / "cv")
    asked = crossvalidation.read()
    before = crossvalidation.resolve(asked, "baseline", Path("../recipes"))
    assert (before.train.network, before.train.precision, before.seeds) == ("baseline", "bfloat16", [3, 4])
    run(tmp_path, "mammo", "recipe", "apply", "imagenet")
    assert crossvalidation.resolve(asked, "baseline", Path("../recipes")) == before


def test_the_digest_of_settings_tells_variants_apart_and_does_not_depend_on_new_settings_at_their_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {
        "one": variant("shortcut"),
        "two": variant("one", recipe="short"),
        "half": variant("two", recipe="short", patients=0.5),
    }
    ensembles = {
        "first": {"compared_with": "half", "mean_of": ["one", "two"]},
        "second": {"compared_with": "half", "mean_of": ["one", "half"]},
    }
    small(tmp_path / "cv/params.yaml", entries, ensembles)
    recipe(tmp_path / "recipes", "short", train={"epochs": 3})
    shutil.copy(ROOT / "params.yaml", tmp_path)
    resolved(tmp_path / "cv")
    monkeypatch.chdir(tmp_path / "cv")
    asked = crossvalidation.read()
    found = {
        name: crossvalidation.settings_digest(asked, name, Path("data/settings")) for name in [*entries, *ensembles]
    }
    assert len(set(found.values())) == len(found)
    for name in entries:  # files of a version that did not have these settings yet
        path = Path(f"data/settings/{name}.json")
        content = files.read_json(path)
        content["preprocess"]["canonical"] = {}
        del content["preprocess"]["for_processing"]
        files.write_json(path, content)
    assert {name: crossvalidation.settings_digest(asked, name, Path("data/settings")) for name in found} == found


def test_the_digests_of_settings_are_those_of_the_tries(tmp_path: Path) -> None:
    """So that a try is recognised, wherever its settings are written down."""
    run(ROOT / "cv", sys.executable, "variant_settings.py", "../recipes", str(tmp_path / "settings"))
    asked, tries = crossvalidation.read(ROOT / "cv/params.yaml"), tried.read(ROOT / "cv/tried.csv")
    rows = {**asked.variants, **asked.ensembles}  # others were tried and taken out again
    names = {one.variant for one in tries if one.variant in rows}
    known = {name: crossvalidation.settings_digest(asked, name, tmp_path / "settings") for name in names}
    assert len(known) > 5
    assert known.items() <= {(one.variant, one.settings) for one in tries}


def test_variants_are_named_in_params_yaml_alone() -> None:
    text = (ROOT / "cv/dvc.yaml").read_text().replace("item.variant", "")
    named = {*PARAMS["variants"], *PARAMS["finetuned"]} - PARAMS.keys()  # finetuned is a section, too
    assert named and not [name for name in named if f" {name}" in text]
    assert PIPELINE["fold"]["matrix"]["variant"] == "${variants}"
    assert PIPELINE["finetune"]["matrix"]["variant"] == "${finetuned}"
    for stage in ("fold", "finetune"):
        assert PIPELINE[stage]["matrix"]["fold"] == list(range(PARAMS["folds"]["number"]))


def test_only_finetuned_variants_wait_for_the_weights_of_phantoms() -> None:
    weights = str(Path(*PIPELINE["pretrain"]["outs"]))
    assert weights in PIPELINE["finetune"]["deps"] and weights not in PIPELINE["fold"]["deps"]
    for section, starts in (("variants", False), ("finetuned", True)):
        for name, entry in PARAMS[section].items():
            train = recipes.read(entry.get("recipe", name), ROOT / "recipes").train
            assert (train.get("weights") == Path(weights).name) is starts


@pytest.mark.parametrize("stage", sorted(PIPELINE))
def test_a_stage_depends_on_all_code_that_its_script_reaches(stage: str) -> None:
    deps = {(ROOT / "cv" / dep).resolve() for dep in PIPELINE[stage]["deps"]}
    code = reached(ROOT / "cv" / PIPELINE[stage]["cmd"].split()[1])
    assert not [path for path in code if not deps & {path, *path.parents}]
    rooms = {dep for dep in deps if dep.is_relative_to(ROOT / "stages")}
    assert not [room for room in rooms if not any(path.is_relative_to(room) for path in code)], "declared for nothing"
    assert (ROOT / "requirements.txt" in deps) is (ROOT / "stages/mammo/learning" in rooms)


def reached(script: Path) -> set[Path]:
    """The script and all modules of cv/ and of rooms of mammo/ that it imports, those of modules included."""
    found, ahead = set(), [script]
    while ahead:
        found.add(here := ahead.pop())
        names: set[str] = set()
        for node in ast.walk(ast.parse(here.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        paths = [top / name.replace(".", "/") for name in names - {"mammo"} for top in (ROOT / "cv", ROOT / "stages")]
        files = {file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()}
        ahead += files - found
    return found


@pytest.mark.proof
def test_cross_validation_by_dvc_gives_the_same_bytes_and_leaves_the_pipeline_alone(first: Run, tmp_path: Path) -> None:
    """In a clone with the phantoms in miniature: all variants and folds, with small networks' inputs and two epochs."""
    clone = tmp_path / "clone"
    shutil.copytree(first.folder, clone, symlinks=True)
    content = yaml.safe_load((clone / "cv/params.yaml").read_text())
    variants = {**content["variants"], **content["finetuned"]}
    for path in (clone / "recipes").glob("*.yaml"):
        recipe = yaml.safe_load(path.read_text())
        if train := recipe.get("train"):
            train.update({"epochs": 2} | ({"average": 1} if train.get("average") else {}))
            recipe.setdefault("preprocess", {})["size"] = [64, 48]
            path.write_text(yaml.safe_dump(recipe))
    del content["folds"]["holdout"]  # without a fifth of these few, a network would learn nothing in two epochs
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
        *variants,
        *content["ensembles"],
    }
    dvc(clone / "cv", "repro", "--force", "--no-run-cache")
    assert (clone / "cv/metrics/cv.json").read_bytes() == scores
    assert (clone / "cv/dvc.lock").read_bytes() == lock
    assert "up to date" in dvc(clone / "cv", "status")
    assert dvc(clone, "status") == before
    assert not [line for line in git(clone, "status", "--porcelain").splitlines() if "work/" in line or "data/" in line]
    path = clone / "recipes/canonical.yaml"
    path.write_text(path.read_text().replace("tried", "tried again") + "# a remark\n")
    assert ran_of(dvc(clone / "cv", "repro")) == {"settings"}, "another reason trains nothing"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 3"))
    again = ran_of(dvc(clone / "cv", "repro"))
    assert again == {"settings", "summarise", *(f"fold@canonical-{fold}" for fold in range(5))}


def ran_of(output: str) -> set[str]:
    """Stages of which DVC ran the command, with their keys."""
    return set(re.findall(r"^Running stage '([^']+)'", output, re.MULTILINE))

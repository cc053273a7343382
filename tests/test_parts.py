"""What evaluate writes per image, breast, exam and subgroup, against scikit-learn on the predictions it wrote."""

import csv
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from mammo.core import dataset, files

import numpy as np
import pytest
from conftest import run_stage, write_params, write_shortcut
from sklearn import metrics

PATHS = ("data/prepared", "data/model", "plots/shortcut.csv", "plots/history.csv", "metrics", "plots")


def prepared_again(trained: Path, folder: Path, **changes: object) -> Path:
    """A training, of whose patients some have both breasts; some labels are wrong, so that not all is right."""
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    entries = []
    for number, entry in enumerate(dataset.read_index(folder / "data/prepared")):
        woman = int(entry.patient)
        side = "LR"[number // 2 % 2] if woman % 3 else "L"
        told = {"view": ("CC", "MLO")[number % 2], "laterality": side, "laterality_from": "table"}
        told |= {"groups": (("vendor", "AB"[woman % 4 > 1]),), "patient": f"{woman // 3}"}
        entries.append(replace(entry, label=entry.label ^ (number % 7 == 0), **(told | changes)))
    dataset.write_index(folder / "data/prepared", entries)
    write_shortcut(folder)
    return folder


def evaluated(folder: Path, **settings: object) -> tuple[int, str]:
    write_params(folder, evaluate={"resamples": 200, **settings})
    done = run_stage("evaluate", *PATHS, folder=folder)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = prepared_again(trained, tmp_path_factory.mktemp("parts"))
    code, errors = evaluated(folder)
    assert code == 0, errors
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "plots/predictions.csv").open() as file:
        return list(csv.DictReader(file))


def units_of(rows: list[dict[str, str]]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Patients, labels and mean probabilities of the breasts in a table of predictions."""
    breasts = defaultdict(list)
    for row in rows:
        breasts[row["patient"], row["breast"]].append((int(row["label"]), float(row["probability"])))
    labels = [max(label for label, _ in each) for each in breasts.values()]
    means = [float(np.mean([probability for _, probability in each])) for each in breasts.values()]
    return [patient for patient, _ in breasts], np.array(labels), np.array(means)


def test_predictions_name_the_breast(run: Path) -> None:
    header = (run / "plots/predictions.csv").read_text().splitlines()[0].split(",")
    assert header[-1] == "breast"
    assert {row["breast"] for row in rows_of(run)} == {"L", "R"}


def test_scores_per_unit_are_those_of_the_predictions(run: Path) -> None:
    content = files.read_json(run / "metrics/units.json")
    rows = rows_of(run)
    threshold = files.read_json(run / "metrics/test.json")["threshold"]["value"]
    women, labels, means = units_of(rows)
    assert content["breast"]["units"] == {"healthy": int((labels == 0).sum()), "cancer": int(labels.sum())}
    assert content["breast"]["roc_auc"]["value"] == pytest.approx(metrics.roc_auc_score(labels, means), abs=1e-9)
    called = means >= threshold
    assert content["breast"]["sensitivity"]["value"] == pytest.approx(metrics.recall_score(labels, called), abs=1e-9)
    assert content["image"]["roc_auc"] == files.read_json(run / "metrics/test.json")["roc_auc"]
    assert content["left_out"] == {"without_side": 0, "both_sides": 0}
    patients = {row["patient"] for row in rows}
    assert sum(content["exam"]["units"].values()) == len(patients) < len(labels) < len(rows)
    for unit, over in (("exam", max), ("exam_mean", np.mean)):
        of_women = {
            woman: [b for own, b in zip(women, means, strict=True) if own == woman] for woman in sorted(patients)
        }
        ill = [max(a for own, a in zip(women, labels, strict=True) if own == woman) for woman in of_women]
        expected = metrics.roc_auc_score(ill, [over(each) for each in of_women.values()])
        assert content[unit]["roc_auc"]["value"] == pytest.approx(expected, abs=1e-9)
    assert content["per_patient"]["images"].keys() == {"healthy", "cancer"}


def test_scores_per_subgroup_are_those_of_the_predictions(run: Path) -> None:
    content = files.read_json(run / "metrics/subgroups.json")
    assert list(content) == ["view", "laterality", "vendor"]
    rows = rows_of(run)
    entries = {entry.image: entry for entry in dataset.read_index(run / "data/prepared")}
    for vendor, level in content["vendor"]["levels"].items():
        held = [row for row in rows if dict(entries[row["image"]].groups)["vendor"] == vendor]
        labels, probabilities = [int(row["label"]) for row in held], [float(row["probability"]) for row in held]
        assert level["images"] == len(held) > 0
        assert level["roc_auc"]["value"] == pytest.approx(metrics.roc_auc_score(labels, probabilities), abs=1e-9)
        assert level["prevalence"]["value"] == pytest.approx(np.mean(labels))
    table = files.read_csv(run / "plots/subgroups.csv", ("row", "value", "low", "high", "images", "patients", "data"))
    assert [row["row"] for row in table[:7]] == [
        "ROC AUC: all images",
        "ROC AUC: view CC",
        "ROC AUC: view MLO",
        "ROC AUC: laterality L",
        "ROC AUC: laterality R",
        "ROC AUC: vendor A",
        "ROC AUC: vendor B",
    ]
    assert len(table) == 21
    assert float(table[0]["value"]) == files.read_json(run / "metrics/test.json")["roc_auc"]["value"]


def test_the_unit_of_the_headline_is_a_setting_and_what_has_no_side_is_left_out(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    image = files.read_json(folder / "metrics/test.json")
    entries = dataset.read_index(folder / "data/prepared")
    test = [position for position, entry in enumerate(entries) if entry.split == "test"]
    for position, side in zip(test[:5], ("", "", "", "B", "B"), strict=True):
        entries[position] = replace(entries[position], laterality=side)
    dataset.write_index(folder / "data/prepared", entries)
    code, errors = evaluated(folder, unit="breast")
    assert code == 0, errors
    headline, units = files.read_json(folder / "metrics/test.json"), files.read_json(folder / "metrics/units.json")
    assert units["left_out"] == {"without_side": 3, "both_sides": 2}
    assert units["image"] == files.read_json(run / "metrics/units.json")["image"]
    assert list(headline) == [*(name for name in image if name in headline), "unit", "units"]
    assert headline["unit"] == "breast" and headline["units"] == units["breast"]["units"]
    assert headline["images"] == image["images"]
    for name in ("roc_auc", "average_precision", "sensitivity", "specificity"):
        assert headline[name] == units["breast"][name]
    change = headline["against_shortcut"]["roc_auc_change"]["value"]
    assert change == pytest.approx(headline["roc_auc"]["value"] - headline["shortcut_roc_auc"]["value"])
    curve = files.read_csv(folder / "plots/roc.csv", ("fpr", "tpr"))
    area = metrics.auc([float(row["fpr"]) for row in curve], [float(row["tpr"]) for row in curve])
    assert area == pytest.approx(headline["roc_auc"]["value"])
    assert len(files.read_csv(folder / "plots/confusion.csv", ("actual",))) == sum(headline["units"].values())
    assert files.read_csv(folder / "plots/scores.csv", ("data",))[0]["data"].endswith(", scored per breast")


def test_a_unit_that_cannot_be_scored_is_refused_and_nothing_is_left(trained: Path, tmp_path: Path) -> None:
    folder = prepared_again(trained, tmp_path / "run", laterality="", laterality_from="")
    code, errors = evaluated(folder, unit="breast")
    assert code == 1
    assert errors.splitlines() == [
        "evaluate: evaluate.unit is breast, but 24 test images have no laterality, and no breast is left: "
        "name the breasts in the column laterality of labels.csv, or set evaluate.unit: image"
    ]
    assert not (folder / "metrics/test.json").exists()

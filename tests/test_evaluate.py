"""The test split scored, with intervals, at a threshold that the test images had no part in."""

import json
import os
import shutil
from pathlib import Path
from typing import get_args

from mammo.core import dataset, files, model_info
from mammo.core import predictions as tables
from mammo.core.errors import UserError
from mammo.core.model_info import Recalibration
from mammo.core.rules import ThresholdRule
from mammo.scoring import Bootstrap, as_json, comparison, paired_bootstrap

import numpy as np
import pytest
from conftest import run_stage, write_params, write_shortcut
from PIL import Image
from sklearn import metrics as reference

PATHS = ("data/prepared", "data/model", "plots/shortcut.csv", "plots/history.csv", "metrics", "plots")
HEADLINE = (
    "roc_auc",
    "shortcut_roc_auc",
    "patient_roc_auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "accuracy_at_half",
    "majority_accuracy",
)
PICTURES = ("roc", "pr", "confusion", "calibration", "decision", "history")


def evaluate(trained: Path, folder: Path, **sections: dict) -> Path:
    """Copy a finished training into `folder` and evaluate it there."""
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    write_shortcut(folder)
    write_params(folder, **sections)
    return folder


@pytest.fixture(scope="module")
def evaluated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = evaluate(trained, tmp_path_factory.mktemp("evaluated"))
    done = run_stage("evaluate", *PATHS, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def predictions(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and calls of plots/predictions.csv."""
    columns = ("image", "patient", "label", "probability", "predicted")
    rows = files.read_csv(folder / "plots/predictions.csv", columns)
    table = np.array([[float(row["label"]), float(row["probability"]), float(row["predicted"])] for row in rows])
    return table[:, 0], table[:, 1], table[:, 2]


def curve(folder: Path, name: str, *columns: str) -> np.ndarray:
    rows = files.read_csv(folder / f"plots/{name}.csv", columns)
    return np.array([[float(row[column]) for column in columns] for row in rows]).T


def test_every_headline_score_has_an_interval_around_it(evaluated: Path) -> None:
    content = files.read_json(evaluated / "metrics/test.json")
    for name in HEADLINE:
        score = content[name]
        assert set(score) == {"value", "low", "high"}
        assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
        assert score["low"] < score["high"] or name == "majority_accuracy"
    assert "leaking" not in content


def test_the_scores_are_those_of_the_predictions(evaluated: Path) -> None:
    labels, probability, called = predictions(evaluated)
    content = files.read_json(evaluated / "metrics/test.json")
    expected = {
        "roc_auc": reference.roc_auc_score(labels, probability),
        "average_precision": reference.average_precision_score(labels, probability),
        "accuracy": reference.accuracy_score(labels, called),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, called),
        "sensitivity": reference.recall_score(labels, called),
        "specificity": reference.recall_score(labels, called, pos_label=0),
        "precision": reference.precision_score(labels, called),
        "f1": reference.f1_score(labels, called),
        "accuracy_at_half": reference.accuracy_score(labels, probability >= 0.5),
        "majority_accuracy": max(labels.mean(), 1 - labels.mean()),
    }
    for name, value in expected.items():
        assert content[name]["value"] == pytest.approx(value, abs=1e-12), name


def test_the_network_is_tested_against_the_shortcut_as_mammo_compare_does(evaluated: Path, trained: Path) -> None:
    content = files.read_json(evaluated / "metrics/test.json")
    tables = (evaluated / "plots/shortcut.csv", evaluated / "plots/predictions.csv")
    paired = comparison.pair(*(comparison.read(str(table)) for table in tables))
    (forest, network), called = paired.cases, paired.predicted
    judged = paired_bootstrap(forest, network, called[0], called[1], Bootstrap(1, 200))["roc_auc"]
    assert content["against_shortcut"] == as_json({"roc_auc_change": judged.change, "p": judged.p})
    assert content["shortcut_roc_auc"] == as_json(judged.a)
    assert judged.change.low > 0 and judged.p < 0.05  # by chance against a learned square


def test_a_shortcut_of_other_images_is_refused(evaluated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(evaluated, tmp_path / "other"))
    table = folder / "plots/shortcut.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    done = run_stage("evaluate", *PATHS, folder=folder)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "plots/shortcut.csv is not of the test images of data/prepared: run `dvc repro`" in done.stderr


def test_only_the_test_split_is_scored_each_image_once(evaluated: Path) -> None:
    rows = files.read_csv(evaluated / "plots/predictions.csv", ("image", "patient", "label"))
    entries = [entry for entry in dataset.read_index(evaluated / "data/prepared") if entry.split == "test"]
    assert [(row["image"], row["patient"], row["label"]) for row in rows] == [
        (entry.image, entry.patient, str(entry.label)) for entry in entries
    ]


def test_the_threshold_is_the_one_locked_on_validation(evaluated: Path) -> None:
    _, probability, called = predictions(evaluated)
    locked = files.read_json(evaluated / "data/model/model.json")["thresholds"]["balanced_accuracy"]
    assert files.read_json(evaluated / "metrics/test.json")["threshold"]["value"] == locked
    assert (called == (probability >= locked)).all()


def test_another_rule_takes_another_threshold(trained: Path, tmp_path: Path) -> None:
    folder = evaluate(trained, tmp_path, evaluate={"threshold": "half"})
    done = run_stage("evaluate", *PATHS, folder=folder)
    assert done.returncode == 0
    content = files.read_json(folder / "metrics/test.json")
    auc = content["roc_auc"]
    said = f"evaluate: ROC AUC of 24 test images {auc['value']:.3f} ({auc['low']:.3f}–{auc['high']:.3f}), brightness"
    assert done.stdout.startswith(said) and done.stdout.endswith("; pictures in plots\n")
    assert content["threshold"]["value"] == 0.5
    assert content["accuracy"] == content["accuracy_at_half"]


def test_curves_belong_to_the_scores(evaluated: Path) -> None:
    content = files.read_json(evaluated / "metrics/test.json")
    labels, probability, _ = predictions(evaluated)
    fpr, tpr, threshold = curve(evaluated, "roc", "fpr", "tpr", "threshold")
    assert np.trapezoid(tpr, fpr) == pytest.approx(content["roc_auc"]["value"], abs=1e-12)
    for x, y, level in zip(fpr, tpr, threshold, strict=True):
        assert x == pytest.approx((probability[labels == 0] >= level).mean())
        assert y == pytest.approx((probability[labels == 1] >= level).mean())
    recall, precision, threshold = curve(evaluated, "pr", "recall", "precision", "threshold")
    for x, y, level in zip(recall, precision, threshold, strict=True):
        assert x == pytest.approx((probability[labels == 1] >= level).mean())
        assert y == pytest.approx(labels[probability >= level].mean())


def test_the_confusion_table_counts_the_predictions(evaluated: Path) -> None:
    labels, _, called = predictions(evaluated)
    rows = files.read_csv(evaluated / "plots/confusion.csv", ("actual", "predicted"))
    words = {"healthy": 0, "cancer": 1}
    assert [(words[row["actual"]], words[row["predicted"]]) for row in rows] == list(zip(labels, called, strict=True))


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_drawn_and_carry_no_date(evaluated: Path, name: str) -> None:
    with Image.open(evaluated / f"plots/{name}.png") as picture:
        assert picture.size[0] >= 600
        assert np.asarray(picture.convert("L")).std() > 10
        assert "Software" not in picture.info
        assert not [key for key in picture.info if "date" in key.lower() or "time" in key.lower()]


def test_the_same_inputs_give_the_same_bytes_on_one_core(evaluated: Path, tmp_path: Path) -> None:
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(all_cores)})  # a child process inherits it
    try:
        assert run_stage("evaluate", *PATHS, folder=tmp_path).returncode == 0
    finally:
        os.sched_setaffinity(0, all_cores)
    written = sorted(path for part in ("metrics", "plots") for path in (evaluated / part).rglob("*") if path.is_file())
    assert len(written) >= 17
    for path in written:
        assert path.read_bytes() == (tmp_path / path.relative_to(evaluated)).read_bytes(), path.name


@pytest.mark.parametrize(
    "verdict",
    [
        {"leaking": True, "sentence": "LEAKING: 9 of 24 test images show a patient who is also in training."},
        {"leaking": False, "sentence": "CANNOT BE CHECKED: 9 of 120 images have no patient.", "unchecked": True},
    ],
    ids=["leak", "unchecked"],
)
def test_a_leak_or_an_unchecked_state_is_carried_into_scores_and_pictures(
    evaluated: Path, tmp_path: Path, verdict: dict[str, object]
) -> None:
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    card = files.read_json(tmp_path / "data/model/model.json")
    card["audit"] = verdict
    files.write_json(tmp_path / "data/model/model.json", card)
    assert run_stage("evaluate", *PATHS, folder=tmp_path).returncode == 0
    content = files.read_json(tmp_path / "metrics/test.json")
    assert list(content.items())[: len(verdict)] == list(verdict.items())
    assert files.read_csv(tmp_path / "plots/scores.csv", ("data",))[0]["data"].startswith(str(verdict["sentence"]))
    for name in PICTURES:
        assert (tmp_path / f"plots/{name}.png").read_bytes() != (evaluated / f"plots/{name}.png").read_bytes()


def test_a_split_with_one_class_is_refused_by_name_and_leaves_no_score(evaluated: Path, tmp_path: Path) -> None:
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    entries = dataset.read_index(tmp_path / "data/prepared")
    moved = [
        dataset.Entry(e.image, e.label, "train" if e.split == "test" and e.label == 1 else e.split, e.patient, e.sha256)
        for e in entries
    ]
    dataset.write_index(tmp_path / "data/prepared", moved)
    done = run_stage("evaluate", *PATHS, folder=tmp_path)
    assert done.returncode == 1
    assert "test" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "metrics/test.json").exists(), "the scores of the run before are not this run's"


def test_an_evaluation_that_fails_at_a_drawing_keeps_its_scores_but_does_not_claim_a_finished_run(
    trained: Path, tmp_path: Path
) -> None:
    folder = evaluate(trained, tmp_path)
    (folder / "plots/history.csv").write_text("epoch\n1\n")
    assert run_stage("evaluate", *PATHS, folder=folder).returncode == 1
    rows = files.read_csv(folder / "plots/scores.csv", ("score",))
    assert {row["score"] for row in rows} == set(HEADLINE)
    assert {path.name for path in (folder / "metrics").iterdir()} >= {"operating_points.json", "calibration.json"}
    assert not (folder / "metrics/test.json").exists()


def test_the_scores_of_the_page_are_the_headline_and_say_of_what(evaluated: Path) -> None:
    content = files.read_json(evaluated / "metrics/test.json")
    rows = files.read_csv(evaluated / "plots/scores.csv", ("score", "value", "low", "high", "data"))
    assert {row["score"] for row in rows} == set(HEADLINE)
    for row in rows:
        assert {key: float(row[key]) for key in ("value", "low", "high")} == content[row["score"]]
        assert row["data"] == "Data: folder · 24 test images of 12 patients"


def test_operating_points_and_calibration_have_intervals(evaluated: Path) -> None:
    points = files.read_json(evaluated / "metrics/operating_points.json")
    for rule in get_args(ThresholdRule):
        for name in ("sensitivity", "specificity"):
            assert points[rule][name]["low"] <= points[rule][name]["value"] <= points[rule][name]["high"]
    calibration = json.loads((evaluated / "metrics/calibration.json").read_text())
    labels, probability, _ = predictions(evaluated)
    assert calibration["brier"]["value"] == pytest.approx(((probability - labels) ** 2).mean(), abs=1e-12)


def test_at_a_prevalence_new_keys_stand_beside_the_old_ones_and_the_warning_with_them(
    evaluated: Path, tmp_path: Path
) -> None:
    before = files.read_json(evaluated / "metrics/operating_points.json")
    assert set(before) == set(get_args(ThresholdRule)), "off by default"
    folder = shutil.copytree(evaluated, tmp_path / "copy")
    write_params(folder, evaluate={"prevalence": 0.006})
    assert run_stage("evaluate", *PATHS, folder=folder).returncode == 0
    after = files.read_json(folder / "metrics/operating_points.json")
    added = after.pop("at_prevalence")
    assert after == before
    assert (added["prevalence"], "spectrum of cases" in added["warning"]) == (0.006, True)
    for rule in get_args(ThresholdRule):
        point, scores = before[rule], added[rule]
        found = 0.006 * point["sensitivity"]["value"]
        recalled = found + 0.994 * (1 - point["specificity"]["value"])
        assert scores["cancers_found_per_1000"]["value"] == pytest.approx(1000 * found)
        assert scores["recall_rate"]["value"] == pytest.approx(recalled)
        assert scores["ppv"]["value"] == pytest.approx(found / recalled if recalled else 0)
        for score in scores.values():
            assert score["low"] <= score["value"] <= score["high"]
    for path in ("metrics/test.json", "metrics/calibration.json", "plots/predictions.csv"):
        assert (folder / path).read_bytes() == (evaluated / path).read_bytes()


# Recalibration


def test_the_probability_stays_raw_and_the_calibrated_one_stands_last(evaluated: Path) -> None:
    info = model_info.read(evaluated / "data/model")
    assert info.recalibration is not None
    rows = tables.read(evaluated / "plots/predictions.csv")
    raw = np.array([row.probability for row in rows])
    assert [row.predicted for row in rows] == list(raw >= info.thresholds["balanced_accuracy"])
    assert [row.calibrated for row in rows] == list(info.recalibration.calibrated(raw))
    first = (evaluated / "plots/predictions.csv").read_text().splitlines()[0]
    assert first == "image,patient,label,probability,predicted,calibrated"


def test_metrics_hold_both_under_their_names(evaluated: Path) -> None:
    content = files.read_json(evaluated / "metrics/calibration.json")
    keys = ["brier", "expected_calibration_error", "intercept", "slope", "brier_skill"]
    assert list(content) == [*keys, "recalibrated"] and list(content["recalibrated"]) == keys
    rows = tables.read(evaluated / "plots/predictions.csv")
    for part, column in ((content, "probability"), (content["recalibrated"], "calibrated")):
        squares = [(getattr(row, column) - row.label) ** 2 for row in rows]
        assert part["brier"]["value"] == pytest.approx(np.mean(squares))
        for key in keys:
            assert part[key]["low"] <= part[key]["value"] <= part[key]["high"]
    assert "recalibrated" in files.read_csv(evaluated / "plots/calibration.csv", ())[0]
    assert list(files.read_csv(evaluated / "plots/decision.csv", ())[0])[6] == "recalibrated"


def test_a_model_of_an_older_commit_is_evaluated_without_recalibration(evaluated: Path, tmp_path: Path) -> None:
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    content = files.read_json(tmp_path / "data/model/model.json")
    del content["recalibration"]
    files.write_json(tmp_path / "data/model/model.json", content)
    assert run_stage("evaluate", *PATHS, folder=tmp_path).returncode == 0
    old, new = (files.read_json(folder / "metrics/calibration.json") for folder in (tmp_path, evaluated))
    assert old == {key: value for key, value in new.items() if key != "recalibrated"}
    first = (tmp_path / "plots/predictions.csv").read_text().splitlines()[0]
    assert first == "image,patient,label,probability,predicted"
    assert (tmp_path / "plots/calibration.png").read_bytes() != (evaluated / "plots/calibration.png").read_bytes()


def test_a_model_info_with_a_slope_that_turns_the_order_is_refused(evaluated: Path, tmp_path: Path) -> None:
    content = files.read_json(evaluated / "data/model/model.json")
    content["recalibration"]["slope"] = -1.0
    files.write_json(tmp_path / "model.json", content)
    with pytest.raises(UserError, match=r"recalibration.slope: Input should be greater than or equal to 0"):
        model_info.read(tmp_path)
    assert Recalibration(intercept=0.0, slope=1.0).calibrated(np.array([0.3])) == pytest.approx([0.3])

"""The report of a run: what it says, that it says it to the byte, and how it looks in a real browser."""

import html
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mammo import commands, scoring
from mammo.core import files, model_info, predictions
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.core.wording import markdown
from mammo.reporting import pages
from mammo.scoring import TITLES, percent, rounded, with_interval

import cv2
import markdown_it
import numpy as np
import pytest
import yaml
from conftest import ROOT, run_stage
from miniature import commit, dvc, git, merged, signed
from test_page import LAPTOP, PHONE, Reader, assert_readable, luminance, opened

import report

STAGE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["report"]
SHOWN = {
    "metrics": [
        *("preprocess", "audit", "train", "test", "operating_points", "calibration", "explanation"),
        *("units", "subgroups"),
    ],
    "tables": ["audit", "predictions", "roc", "pr"],
    "pictures": ["roc", "pr", "confusion", "calibration", "decision", "history"],
    "folders of pictures": ["audit", "explanation", "cases"],
}
FILES = [
    "data/model/model.json",
    "data/model/model.keras",
    *(f"metrics/{name}.json" for name in SHOWN["metrics"]),
    *(f"plots/{name}.csv" for name in SHOWN["tables"]),
    *(f"plots/{name}.png" for name in SHOWN["pictures"]),
    *(f"plots/{name}" for name in SHOWN["folders of pictures"]),
]
"""What the stage reads of the folders that it depends on."""
PATHS = tuple(STAGE["cmd"].split()[2:])
LEAK = "LEAKING: 7 of 240 test images and 0 of 240 validation images show a patient who is also in training."
MODEL = {
    "schema": 1,
    "epoch": 17,
    "network": "baseline",
    "weights": 1498218,
    "trained_on": {"source": "phantom", "images": 720, "patients": 240, "cancer": 240},
    "audit": {"leaking": False},
    "flip_at_test": "none",
    "preprocess": {"size": [224, 224], "canonical": {}},
    "thresholds": {"balanced_accuracy": 0.4, "half": 0.5},
    "arithmetic": {
        "precision": "float32",
        "threads": 2,
        "tensorflow": "2.21.0",
        "keras": "3.15.1",
        "instructions": "avx2",
    },
    "training_intensity": {"percentile_50": 60.0},
    "training_features": {"mean": [0.0], "covariance": [[1.0]], "limit": 9.0},
}
EXPLANATION = {
    "true_positives": 61,
    "pointing_game": {"value": 0.87, "low": 0.75, "high": 0.95},
    "chance": {"value": 0.0625},
    "randomised_network": {"rank_correlation": {"value": -0.0312}, "images": 100},
}
AGAINST_SHORTCUT = {"roc_auc_change": {"value": 0.429, "low": 0.31, "high": 0.548}, "p": 0.0}
CROSS_VALIDATED = {"cross_validated_roc_auc": {"value": 0.512, "low": 0.461, "high": 0.563}, "folds": 5}
METADATA = {
    "patient_number": {"pixels_can_carry_it": False, "cases": 0},
    "file_size": {
        "value": 0.564,
        "low": 0.522,
        "high": 0.604,
        "p_holm": 0.009,
        "higher_with_cancer": True,
        "pixels_can_carry_it": True,
        "cases": 1200,
    },
}


def picture(path: Path, width: int = 640, height: int = 480) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.linspace(0, 255, width * height).reshape(height, width).astype(np.uint8)
    cv2.imwrite(str(path), grey)


def write_run(folder: Path) -> Path:
    """What the stage reads and nothing else: git's files as committed, DVC's in miniature."""
    for name in FILES:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copy(ROOT / "params.yaml", folder)
    model_info.write(folder / "data/model", ModelInfo.model_validate(MODEL))
    (folder / "data/model/model.keras").write_bytes(b"weights")
    files.write_json(folder / "metrics/explanation.json", EXPLANATION)
    change(folder / "metrics/test.json", against_shortcut=AGAINST_SHORTCUT)
    audit = files.read_json(folder / "metrics/audit.json") | {"metadata": METADATA}
    files.write_json(folder / "metrics/audit.json", merged(audit, {"shortcut": CROSS_VALIDATED}))
    picture(folder / "plots/decision.png")
    picture(folder / "plots/audit/splits.png")
    picture(folder / "plots/explanation/false_negatives.png", 1350, 900)
    write_cases(folder)
    return folder


def write_cases(folder: Path) -> None:
    """The test images' groups as evaluate writes them, and the pictures of the first two."""
    rows = predictions.read(folder / "plots/predictions.csv")
    groups = [(row.image, row.breast, row.image.rpartition("_")[2].removesuffix(".png")) for row in rows]
    files.write_csv(folder / "plots/cases/cases.csv", ("image", "laterality", "view"), groups)
    for number in (1, 2):
        for suffix in ("jpg", "png"):
            picture(folder / f"plots/cases/{number:04d}.{suffix}", 64, 64)


def change(path: Path, **keys: Any) -> None:
    """Replace values of a JSON or YAML file."""
    path.write_text(json.dumps(merged(yaml.safe_load(path.read_text()), keys)))


def leaking(folder: Path) -> None:
    change(folder / "data/model/model.json", audit={"leaking": True, "sentence": LEAK})


def of_own_images(folder: Path, where: str = "data/own") -> None:
    """The run as if on images of a folder."""
    change(folder / "data/model/model.json", trained_on={"source": "folder"})
    change(folder / "params.yaml", data={"source": "folder", "folder": where})


def written(folder: Path) -> tuple[str, str]:
    """The page and the model card of the run in `folder`, made in this process."""
    report.main(*map(Path, PATHS))
    return (folder / "report/report.html").read_text(), (folder / "report/model_card.md").read_text()


def text_of(page: str) -> str:
    """What a reader sees of a page, on one line."""
    body = page.split("</head>")[1]
    text = re.sub(r"<[^>]*>", " ", body)
    text = re.sub(r" (?=[,.;:)])|(?<=\() ", "", " ".join(html.unescape(text).split()))
    return text


def items(page: str) -> dict[int, str]:
    """What a reader sees of each item of the checklist, by number."""
    parts = re.split(r'<section class="item[^>]* id="item-(\d+)">', page)
    return {
        int(number): text_of("</head>" + part.split("</section>")[0])
        for number, part in zip(parts[1::2], parts[2::2], strict=True)
    }


def front_matter(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to change and to report on, the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_run(tmp_path)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed run, reported as DVC does it."""
    folder = write_run(tmp_path_factory.mktemp("reported"))
    done = run_stage("report", *PATHS, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "report: report/report.html\n"
    return folder


@pytest.fixture(scope="module")
def page(reported: Path) -> str:
    return (reported / "report/report.html").read_text()


@pytest.fixture(scope="module")
def card(reported: Path) -> str:
    return (reported / "report/model_card.md").read_text()


def section(page: str, anchor: str) -> str:
    """What a reader sees of a section of the page."""
    return text_of("</head>" + page.split(f'id="{anchor}"')[1].split("</section>")[0].partition(">")[2])


def scores() -> dict[str, dict[str, float]]:
    """The committed headline scores."""
    content = files.read_json(ROOT / "metrics/test.json")
    return {key: entry for key, entry in content.items() if isinstance(entry, dict) and "low" in entry}


# What it says


def test_every_headline_score_stands_with_its_interval_on_the_page_and_in_the_card(page: str, card: str) -> None:
    assert len(scores()) >= 12
    shown = section(page, "scores")
    for key, score in scores().items():
        title = TITLES[key][0].upper() + TITLES[key][1:]
        assert f"{title} {with_interval(**score)}" in shown
        assert f"| {title} | {with_interval(**score)} |" in card


def test_operating_points_calibration_and_heat_maps_stand_with_their_intervals(page: str, card: str) -> None:
    shown = items(page)
    points = files.read_json(ROOT / "metrics/operating_points.json")
    calibration = files.read_json(ROOT / "metrics/calibration.json")
    entries = [point[name] for point in points.values() for name in ("sensitivity", "specificity")]
    measures = [score for score in calibration.values() if "low" in score]
    for score in [*entries, *measures, *calibration.get("recalibrated", {}).values()]:
        assert with_interval(**score) in shown[38] and with_interval(**score) in card
    for point in points.values():
        assert rounded(point["threshold"]) in shown[38]
    assert "0.870 (0.750–0.950)" in shown[31]
    assert "-0.031" in shown[31] and "61" in shown[31] and "0.063" in shown[31]


def test_recalibration_and_another_prevalence_stand_with_what_they_hold_for(run: Path) -> None:
    page, card = written(run)
    assert "This model has no recalibration." in items(page)[38] and "At a prevalence" not in page + card
    measures = {
        "brier": 0.2,
        "expected_calibration_error": 0.1,
        "intercept": -0.66,
        "slope": 1.87,
        "brier_skill": -0.06,
    }
    raw, after = (
        {
            key: {"value": value + off, "low": value + off - 0.05, "high": value + off + 0.05}
            for key, value in measures.items()
        }
        for off in (0, 0.001)
    )
    files.write_json(run / "metrics/calibration.json", {**raw, "recalibrated": after})
    change(run / "data/model/model.json", recalibration={"intercept": -0.75, "slope": 1.05})
    points = files.read_json(run / "metrics/operating_points.json")
    added = scoring.as_json(scoring.at_prevalence({rule: intervals(point) for rule, point in points.items()}, 0.006))
    files.write_json(run / "metrics/operating_points.json", {**points, "at_prevalence": added})
    page, card = written(run)
    shown = items(page)[38]
    for score in [*raw.values(), *after.values()]:
        assert with_interval(**score) in shown and with_interval(**score) in card
    assert "-0.660 (-0.710 to -0.610)" in shown
    for text in (shown, " ".join(card.split())):
        assert "times 1.050, plus -0.750, two numbers learned on validation" in text
        assert "At a prevalence of 0.6 % (evaluate.prevalence)." in text and scoring.prevalence.WARNING in text
    for rule in points:
        for key in ("ppv", "npv", "recall_rate", "cancers_found_per_1000"):
            assert with_interval(**added[rule][key]) in shown and with_interval(**added[rule][key]) in card


def intervals(point: dict[str, Any]) -> dict[str, Any]:
    """An operating point as evaluate has it."""
    return {key: scoring.Interval(**value) if isinstance(value, dict) else value for key, value in point.items()}


def test_the_scores_stay_where_evaluate_wrote_them(reported: Path, tmp_path: Path) -> None:
    """Unlike the stages before it, which remove what no longer describes the workspace."""
    assert (reported / "metrics/test.json").read_bytes() == (write_run(tmp_path) / "metrics/test.json").read_bytes()


@pytest.mark.parametrize("own", [False, True])
def test_all_items_of_the_checklist_stand_in_their_order_and_none_is_empty(run: Path, own: bool) -> None:
    if own:
        of_own_images(run)
    shown = items(written(run)[0])
    assert list(shown) == list(range(1, 45))
    headings = {4: "Aims", 11: "De-identification", 20: "Level at which partitions are disjoint", 21: "sample size"}
    headings |= {29: "Uncertainty", 33: "external data", 39: "Failure analysis", 40: "Limitations", 44: "Funding"}
    for number, heading in headings.items():
        assert heading in shown[number]
    assert all(len(text.split()) > 4 for text in shown.values())


def test_what_no_file_can_say_is_left_to_the_authors_and_phantoms_leave_less(run: Path) -> None:
    unknown = "Not known to this pipeline: to be filled in by the authors."
    of_phantoms = {number for number, text in items(written(run)[0]).items() if "filled in by the authors" in text}
    of_own_images(run)
    page, _ = written(run)
    shown = items(page)
    own = {number for number, text in shown.items() if "filled in by the authors" in text}
    assert unknown in shown[4] and unknown in shown[13] and unknown in shown[44]
    assert {4, 44} <= of_phantoms < own
    assert {7, 11, 13, 14, 15, 16, 34, 36} <= own - of_phantoms
    alone = sum(unknown in text for text in shown.values())
    assert f"{44 - len(own)} are answered from the files of this run and {len(own) - alone} in part" in text_of(page)
    assert f"{alone} only the authors can answer" in text_of(page)


def test_failures_are_counted_from_the_predictions(page: str) -> None:
    rows = predictions.read(ROOT / "plots/predictions.csv")
    cancer = [row for row in rows if row.label]
    missed = [row for row in cancer if not row.predicted]
    false = [row for row in rows if row.predicted and not row.label]
    found = {row.patient for row in rows if row.predicted}
    patients = {row.patient for row in cancer}
    shown, worst = items(page)[39], section(page, "worst-cases")
    assert f"False negatives: {len(missed)} of {len(cancer)} images with cancer" in shown
    assert f"False positives: {len(false)} of {len(rows) - len(cancer)} healthy images" in shown
    assert f"Of {len(patients)} patients with cancer, {len(patients - found)} had no image classified" in shown
    for case in (
        sorted(missed, key=lambda row: row.probability)[:5] + sorted(false, key=lambda row: -row.probability)[:5]
    ):
        assert f"{case.image} {rounded(case.probability)}" in worst


def test_every_setting_in_force_is_shown_and_none_of_a_source_that_was_not_used(run: Path) -> None:
    def settings(page: str) -> dict[str, str]:
        table = page.split('id="settings"')[1]
        return dict(re.findall(r'<th scope="row" class="name">([^<]*)</th>\s*<td[^>]*>([^<]*)</td>', table))

    drawn = settings(written(run)[0])
    assert drawn["train.learning_rate"] == "0.001" and drawn["preprocess.size"] == "[224, 224]"
    assert drawn["data.phantom.lesions"] == "true" and drawn["data.patient"] == r"^(\d+)_"
    assert not {"data.kaggle", "data.folder"} & set(drawn)
    of_own_images(run)
    own = settings(written(run)[0])
    assert own["data.folder"] == "data/own"
    assert not any(key.startswith(("data.phantom", "data.kaggle")) for key in own)
    assert {key for key in drawn if not key.startswith("data.")} == {key for key in own if not key.startswith("data.")}


def test_a_network_that_started_from_imagenet_and_was_averaged_is_said_to_have(run: Path) -> None:
    own = items(written(run)[0])
    assert "no weights were taken from another training" in own[24]
    assert "with the highest validation ROC AUC" in own[26]
    recipe = {"network": "EfficientNetLite0", "weights": "imagenet", "frozen": True, "average": 3}
    change(run / "params.yaml", train=recipe)
    change(run / "data/model/model.json", network="EfficientNetLite0")
    taken = items(written(run)[0])
    assert "EfficientNet-Lite0" in taken[22]
    assert (
        "Initial weights: imagenet (train.weights), the last layer zero; only the last layer was trained." in taken[24]
    )
    assert "the mean of the weights over the last 3 of" in taken[26] and "none was selected" in taken[26]


def test_a_network_no_better_than_brightness_or_the_majority_class_is_said_to_be(run: Path) -> None:
    assert "p <0.001: the network sees more than brightness." in items(written(run)[0])[40]
    score = {"value": 0.6, "low": 0.5, "high": 0.7}
    paired = {"roc_auc_change": {"value": 0.0, "low": -0.01, "high": 0.01}, "p": 1.0}
    change(run / "metrics/test.json", roc_auc=score, shortcut_roc_auc=score, accuracy=score, against_shortcut=paired)
    page, card = written(run)
    for text in (items(page)[40], card):
        assert "paired on the same test images: +0.000 (-0.010 to +0.010), p 1.000: this run does not show that" in text
        assert "Accuracy, 0.600 (0.500–0.700), is not shown to be above that of always predicting the majority" in text
    assert "this run does not show that the network sees more than brightness" in section(page, "results")


def test_overlapping_intervals_do_not_decide_what_a_paired_test_decides(run: Path) -> None:
    """Commit 7251e32: +0.055, p < 0.001, with two intervals that overlap."""
    network, forest = {"value": 0.638, "low": 0.6, "high": 0.68}, {"value": 0.583, "low": 0.54, "high": 0.63}
    paired = {"roc_auc_change": {"value": 0.055, "low": 0.025, "high": 0.085}, "p": 0.0003}
    change(run / "metrics/test.json", roc_auc=network, shortcut_roc_auc=forest, against_shortcut=paired)
    page, card = written(run)
    said = (
        "Network minus brightness baseline, paired on the same test images: +0.055 (+0.025 to +0.085), p <0.001: "
        "the network sees more than brightness."
    )
    assert said in section(page, "results") and said in card.replace("\\<", "<")
    assert "doubtful" not in page.split('id="results"')[1].split("</section>")[0]


def test_the_bar_is_named_first_with_what_its_folds_could_not_do(run: Path) -> None:
    section_of = section(written(run)[0], "results")
    bar = "its ROC AUC is 0.512 (0.461–0.563) in 5-fold cross-validation over all patients and"
    assert bar in section_of and section_of.index(bar) < section_of.index("The network's is")
    change(run / "metrics/audit.json", patients={"images_without_patient": 7})
    assert "(7 images have no patient, so the folds cannot keep patients together)" in section(
        written(run)[0], "results"
    )
    content = files.read_json(run / "metrics/audit.json")
    files.write_json(run / "metrics/audit.json", {**content, "shortcut": {"roc_auc": content["shortcut"]["roc_auc"]}})
    assert "cross-validation over all patients" not in section(written(run)[0], "results")


def test_the_results_come_first_and_the_checklist_after_them(page: str) -> None:
    chapters = ["results", "scores", "units", "subgroups", "curves", "explorer", "worst-cases", "audit", "checklist"]
    order = [*chapters, *(f"item-{n}" for n in range(1, 45))]
    anchors = re.findall(r'<(?:h2|section)[^>]* id="([^"]*)"', page)
    assert anchors == [*order, "settings"]
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(anchors)
    assert "the network sees more than brightness" in section(page, "results")
    assert "validation: 30 of 60 patients have cancer" in section(page, "audit")
    assert page.index('alt="ROC curve') < page.index('alt="Confusion matrix') < page.index('id="checklist"')


def test_a_warning_about_single_images_is_counted_and_none_is_said_to_be_none(run: Path) -> None:
    header = "kind,severity,image,other,patient,detail\n"
    (run / "plots/audit.csv").write_text(header + "no_breast,warning,a.png,,,\nno_breast,warning,b.png,,,\n")
    assert "No breast: 2 found." in section(written(run)[0], "audit")
    (run / "plots/audit.csv").write_text(header + "inverted,note,a.png,,,\n")
    assert "None: the audit found no leak, no duplicate and no shortcut." in section(written(run)[0], "audit")


def test_metadata_are_listed_with_what_they_tell_and_whether_pixels_can_carry_them(page: str) -> None:
    audit = section(page, "audit")
    assert "corrected for the 2 properties by Holm's method" in audit
    assert "File size 0.564 (0.522–0.604) higher 0.009 1,200 yes" in audit
    assert "Patient number cannot be checked 0 no" in audit


# One rounding, one name


def test_ties_are_rounded_away_from_zero_as_javascript_does_on_the_page_of_plots() -> None:
    assert [rounded(value) for value in (0.0625, 0.8125, -0.0625, 1.0, 0.99951)] == [
        *("0.063", "0.813", "-0.063", "1.000", "1.000")
    ]
    assert [percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0.125, 0.1, 0.07, 0.00625, 1.0)] == [
        *("12.5 %", "10 %", "7 %", "0.6 %", "100 %")
    ]
    assert with_interval(0.5, 0.0625, 1) == "0.500 (0.063–1.000)"


def test_the_page_of_plots_has_the_names_and_the_rounding_of_the_report() -> None:
    scores_plot = (ROOT / ".dvc/plots/scores.json").read_text()
    names = dict(re.findall(r"(\w+): '([^']*)'", scores_plot.split('"labelExpr": "{')[1].split("}[datum")[0]))
    assert list(names) == list(scores())
    assert names == {key: TITLES[key][0].upper() + TITLES[key][1:] for key in names}
    assert set(re.findall(r"\.\d~?[f%]", scores_plot)) == {".3f"}
    assert set(re.findall(r"\.\d~?[f%]", (ROOT / ".dvc/plots/confusion_matrix.json").read_text())) == {".1~%"}


# Leaks, phantoms, research


@pytest.mark.parametrize(
    ("leak", "own", "kinds"),
    [
        (False, False, ["phantoms", "research"]),
        (True, False, ["leak", "phantoms", "research"]),
        (True, True, ["leak", "research"]),
        (False, True, ["research"]),
    ],
)
def test_a_leak_then_phantoms_then_research_only_are_named_before_all_else(
    run: Path, leak: bool, own: bool, kinds: list[str]
) -> None:
    if leak:
        leaking(run)
    if own:
        of_own_images(run)
    page, card = written(run)
    body = page.split("<body>")[1]
    assert re.findall(r'<p class="notice (\w+)">', body.split("<header>")[0]) == kinds
    assert body.lstrip().startswith(f'<p class="notice {kinds[0]}">')
    assert ("<title>LEAKING" in page) == (LEAK in text_of(page)) == leak
    assert "Research only: not a medical device." in text_of(page)
    said = "These are phantoms, synthetic mammograms: the scores say nothing about real mammograms."
    assert (said in text_of(page)) == (said in card) == (not own)
    assert "Research only: not a medical device." in card
    assert card.startswith(f"---\n# {LEAK}\n") == leak
    (result,) = front_matter(card)["model-index"][0]["results"]
    assert result["dataset"]["name"].startswith("LEAKING") == leak
    assert ("PHANTOMS" in result["dataset"]["name"]) == (not own)
    first = card.split("---\n", 2)[2].strip().splitlines()[0]
    assert first.startswith({"leak": "> **LEAKING", "phantoms": "> **These are ph", "research": "> **Res"}[kinds[0]])


def test_units_and_subgroups_are_drawn_with_what_limits_them(run: Path) -> None:
    units, found = (files.read_json(run / f"metrics/{name}.json") for name in ("units", "subgroups"))
    change(run / "metrics/units.json", left_out={"without_side": 1, "both_sides": 2})
    images = {"healthy": 4.6, "cancer": 2.4}
    change(run / "metrics/units.json", per_patient={"images": images})
    found["laterality"]["levels"]["R"].pop("roc_auc")
    found["laterality"]["levels"]["R"] |= {"one_class": "healthy"}
    found["view"]["interaction"]["sensitivity"]["p_holm"] = 0.012
    files.write_json(run / "metrics/subgroups.json", found)
    page, card = written(run)
    text = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)))
    breast = units["breast"]["roc_auc"]
    assert f"Breast (mean of its views), 120 breasts {with_interval(**breast)}" in text.replace("  ", " ")
    assert "With cancer: 60 of 240 images; 30 of 120 breasts; 30 of 60 exams. " in text  # once, though scored twice
    for said in (
        "1 image has no known laterality and is in no score per breast or exam.",
        "2 images show both breasts and are in no score per breast or exam.",
        "Patients with cancer have 2.4 images on average, healthy ones 4.6: a score per patient or exam depends on",
        "R: all images are of class healthy, so the ROC AUC cannot be computed.",
        "Test of interaction: sensitivity differs between the levels (p, corrected for all columns and scores: ROC AUC",
    ):
        assert said in text
        assert said in re.sub(r"\\(.)", r"\1", card)
    assert "| Breast (mean of its views) | 120 breasts | 30 |" in card.replace("\\", "")
    level = found["view"]["levels"]["CC"]["roc_auc"]
    assert "| view: CC | 120 images of 60 patients | 25" in card
    assert with_interval(**level) in card


def test_a_headline_per_breast_says_so(run: Path) -> None:
    change(run / "metrics/test.json", unit="breast")
    found = files.read_json(run / "metrics/subgroups.json")
    for column in found.values():
        for level in column["levels"].values():
            level["breasts"] = level["images"] // 2
    files.write_json(run / "metrics/subgroups.json", found)
    page, card = written(run)
    assert "Test images, scored per breast; the line behind each value" in page
    assert "Scored per breast: the images of a level are combined, so a breast with images of several" in text_of(page)
    assert "CC, 60 breasts of 60 patients" in text_of(page)
    assert "| view: CC | 60 breasts of 60 patients | 25" in card
    assert ", scored per breast. Intervals" in card


def test_external_sets_are_named_and_without_one_none_is_claimed(run: Path) -> None:
    none = "no external data were tested"
    page, card = written(run)
    assert f"N{none[1:]}" in items(page)[33] and none in items(page)[40] and none in card
    change(run / "params.yaml", validate={"hospital": "/data/hospital", "rsna": "/data/rsna"})
    page, card = written(run)
    pages = "report/validate/hospital.html, report/validate/rsna.html."
    assert items(page)[33].endswith(f"The frozen model is scored on 2 external sets (validate): {pages}")
    assert f"Scores on other sets: {pages}" in items(page)[40] and f"Scores on other sets: {pages}" in card
    assert none not in page + card


def test_what_was_left_out_ignored_or_replaced_is_said(run: Path) -> None:
    of_own_images(run)
    change(run / "params.yaml", data={"exclude": ["train/0/black.png"]})
    delivered = {"healthy": 100, "cancer": 50, "patients": 80}
    change(run / "metrics/preprocess.json", delivered_split=dict.fromkeys(("train", "valid", "test"), delivered))
    with (run / "plots/audit.csv").open("a") as findings:
        findings.write("remark,note,,,,columns of labels.csv that are not used: 'Side'\n")
    shown = items(written(run)[0])
    assert "Columns of labels.csv that are not used: 'Side'." in shown[7]
    assert shown[8].startswith("8 Inclusion and exclusion in part Left out by data.exclude: 1 (train/0/black.png).")
    assert "150 training images (50 with cancer), 150 validation images (50 with cancer), 150 test images" in shown[19]
    assert "by data.exclude: 1 image." in shown[35]


def test_an_unchecked_state_is_named_as_a_leak_is_and_never_as_no_leak(run: Path) -> None:
    sentence = "CANNOT BE CHECKED: 9 of 240 images (3.8 %) have no patient; nobody knows more."
    change(run / "data/model/model.json", audit={"leaking": False, "unchecked": True, "sentence": sentence})
    with (run / "plots/audit.csv").open("a") as findings:
        findings.write("patient_unknown,warning,,,,9 of 240 images have no patient\n")
    page, card = written(run)
    assert "<title>CANNOT BE CHECKED · " in page
    body = page.split("<body>")[1].lstrip()
    assert body.startswith(f'<p class="notice leak">{sentence} The scores may not measure')
    assert card.startswith(f"---\n# {sentence}\n")
    (result,) = front_matter(card)["model-index"][0]["results"]
    assert result["dataset"]["name"].startswith("CANNOT BE CHECKED: ")
    assert card.split("---\n", 2)[2].strip().startswith("> **CANNOT BE CHECKED")
    assert "no leak" not in text_of(page) + card and "no patient and no image in more" not in text_of(page)


# The model card


def test_the_cards_metadata_have_the_hubs_form_and_the_values_of_the_run(card: str) -> None:
    head = front_matter(card)
    assert (head["library_name"], head["pipeline_tag"]) == ("keras", "image-classification")
    (model,) = head["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"]["type"] and result["dataset"]["split"] == "test"
    found = {metric["type"]: metric for metric in result["metrics"]}
    expected = {key: score for key, score in scores().items() if key not in ("shortcut_roc_auc", "majority_accuracy")}
    expected["recall"] = expected.pop("sensitivity")
    assert {key: metric["value"] for key, metric in found.items()} == {
        key: score["value"] for key, score in expected.items()
    }
    for key, score in expected.items():
        assert found[key]["name"].endswith(f"95 % interval {rounded(score['low'])}–{rounded(score['high'])}")
    assert head["metrics"] == list(found)


def test_the_card_is_text_and_has_the_hubs_headings(card: str) -> None:
    assert "data:image" not in card and "![" not in card
    headings = ["Model Details", "Uses", "Bias, Risks, and Limitations", "How to Get Started with the Model"]
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == [*headings, "Training Details", "Evaluation"]
    for line in card.splitlines():
        if line.startswith("|"):
            assert line.endswith("|") and len(re.findall(r"(?<!\\)\|", line)) >= 3


def test_neither_patients_of_real_images_nor_places_outside_the_project_reach_the_card(run: Path) -> None:
    of_own_images(run, "/home/somebody/scans of clinic")
    page, card = written(run)
    assert "/home" not in page and "/home" not in card
    assert "…/scans of clinic" in text_of(page)
    for row in files.read_csv(run / "plots/predictions.csv", ("image",)):
        assert row["image"] not in card


# Same bytes


def test_the_same_inputs_give_the_same_bytes_at_any_place_and_time(reported: Path, tmp_path: Path) -> None:
    write_run(tmp_path)
    odd = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    assert run_stage("report", *PATHS, folder=tmp_path, environment=odd).returncode == 0
    for name in ("report.html", "model_card.md"):
        content = (tmp_path / "report" / name).read_bytes()
        assert content == (reported / "report" / name).read_bytes()
        assert str(tmp_path).encode() not in content
        assert not re.search(rb"\b20[2-9]\d-\d\d-\d\d\b", content), "a date"


def digest(page: str) -> str:
    (found,) = re.findall(r'Run <code class="name">([0-9a-f]{12})</code>', page)
    return found


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("params.yaml", "augment", {"erase": 0.5}),
        ("data/model/model.json", "index", "0" * 64),
        ("metrics/test.json", "threshold", {"value": 0.25}),
        ("data/model/model.keras", "", ""),
        ("plots/predictions.csv", "", ""),
    ],
)
def test_the_digest_differs_between_runs_and_card_and_page_share_it(run: Path, name: str, key: str, value: Any) -> None:
    page, card = written(run)
    assert f"files of run {digest(page)};" in card
    change(run / "params.yaml", data={"folder": "not/used"})
    assert digest(written(run)[0]) == digest(page), "a setting without effect"
    if key:
        change(run / name, **{key: value})
    else:
        (run / name).write_bytes((run / name).read_bytes().replace(b"0.1", b"0.2") + b"\n")
    assert digest(written(run)[0]) != digest(page)


def test_git_keeps_the_card_and_not_the_page_which_may_show_scans() -> None:
    assert "/report.html" in (ROOT / "report/.gitignore").read_text().splitlines()
    kept = {next(iter(out)): out for out in STAGE["outs"] if isinstance(out, dict)}
    assert kept == {"report/model_card.md": {"report/model_card.md": {"cache": False}}}


# What is wrong


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_in_one_line(run: Path, name: str) -> None:
    """So none is left out in silence."""
    assert any(name.startswith(f"{dep}/") for dep in STAGE["deps"])
    shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    with pytest.raises(UserError, match=f"^{re.escape(name)}.*$") as failure:
        report.main(*map(Path, PATHS))
    assert "\n" not in str(failure.value)
    assert not (run / "report").exists()


def a_picture_that_is_none(run: Path) -> None:
    (run / "plots/roc.png").write_bytes(b"GIF89a")


def a_score_that_is_missing(run: Path) -> None:
    content = files.read_json(run / "metrics/test.json")
    del content["roc_auc"]
    files.write_json(run / "metrics/test.json", content)


def settings_that_are_missing(run: Path) -> None:
    content = yaml.safe_load((run / "params.yaml").read_text())
    del content["train"]
    (run / "params.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (a_picture_that_is_none, "plots/roc.png is not a PNG picture: run `dvc repro`"),
        (a_score_that_is_missing, "data/model, metrics or params.yaml lacks 'roc_auc': they are not of one run; run"),
        (settings_that_are_missing, "params.yaml: train is missing"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(run: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(run)
    done = run_stage("report", *PATHS, folder=run)
    assert done.returncode == 1
    assert done.stderr.startswith(f"report: {message}")
    assert done.stderr.count("\n") == 1


# In the browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    yield from opened(Reader, tmp_path_factory.mktemp("profile"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, 700, LAPTOP])
def test_the_page_fits_loads_nothing_and_complains_of_nothing(
    browser: Reader, reported: Path, width: int, scheme: str
) -> None:
    path = reported / "report/report.html"
    browser.open(path, width, scheme)
    assert {url for url in browser.requests() if not url.startswith("data:")} == {path.as_uri()}
    assert browser.complaints() == []
    assert browser.run("document.scripts.length") == 2, "the explorer's, and its data"
    of_cases = "[...document.images].filter((each) => each.closest('#cases-list'))"
    assert browser.run(f"{of_cases}.length") in (0, 3, 6), "each image, again under its heat map"
    assert browser.run(f"document.images.length - {of_cases}.length") == 8
    wide = "each.complete && each.naturalWidth >= (each.closest('#cases-list') ? 64 : 600)"
    assert browser.run(f"[...document.images].every((each) => {wide})")
    beyond = """[...document.querySelectorAll('body *')].filter((each) => {
      const box = each.getBoundingClientRect();
      if (each.closest(".scroll") || !box.width) return false;
      return box.left < -1 || box.right > document.documentElement.clientWidth + 1;
    }).map((each) => each.outerHTML.slice(0, 80))"""
    assert browser.run(beyond) == []
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(browser: Reader, reported: Path, scheme: str) -> None:
    browser.open(reported / "report/report.html", scheme=scheme)
    assert_readable(browser, scheme)


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
def test_each_score_is_drawn_where_its_numbers_say(browser: Reader, reported: Path, width: int) -> None:
    browser.open(reported / "report/report.html", width)
    rows = browser.run(
        """[...document.querySelectorAll('#scores + .panel .scores tbody tr')].map((row) => {
             const frame = row.querySelector('svg').getBoundingClientRect();
             const place = (x) => (x - frame.left) / frame.width;
             const line = row.querySelector('.interval');
             const dot = row.querySelector('circle').getBoundingClientRect();
             const ends = ['x1', 'x2'].map((end) => line[end].baseVal.value / frame.width);
             return [row.querySelector('.value').textContent, place((dot.left + dot.right) / 2), ...ends, frame.width];
           })"""
    )
    assert len(rows) == len(scores())
    for (text, value, low, high, wide), score in zip(rows, scores().values(), strict=True):
        assert text == with_interval(**score)
        assert [value, low, high] == pytest.approx([score[key] for key in ("value", "low", "high")], abs=2e-3)
        assert wide > 200


def test_what_the_data_say_is_shown_and_never_run(browser: Reader, run: Path) -> None:
    evil = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
    rows = files.read_csv(run / "plots/predictions.csv", ("image",))
    missed = next(row for row in rows if row["label"] == "1")
    missed |= {"image": f"test/1/{evil}.png", "predicted": "0", "probability": "0.0"}
    files.write_csv(run / "plots/predictions.csv", list(rows[0]), [list(row.values()) for row in rows])
    write_cases(run)
    with (run / "plots/audit.csv").open("a") as findings:
        findings.write(f"{evil.replace(chr(34), '')},warning,,,,a|b `c` *d* {evil.replace(chr(34), '')}\n")
    of_own_images(run, f"data/{evil}")
    change(run / "data/model/model.json", audit={"leaking": True, "sentence": f"LEAKING: {evil}\n---\nlicense: mit"})
    picture(run / "plots/audit/<script>1<script>.png")
    _, card = written(run)
    browser.open(run / "report/report.html")
    assert browser.run("document.title").startswith("LEAKING · Mammograms")
    assert browser.run("document.scripts.length") == 2 and browser.complaints() == []
    assert browser.run("document.querySelectorAll('img:not([src^=\"data:image/\"])').length") == 0
    seen = browser.run("document.body.textContent")
    assert seen.count(evil) >= 4
    body = card.split("---\n", 2)[2]
    assert "<script" not in re.sub(r"\\.", "", body) and "<img" not in re.sub(r"\\.", "", body)
    assert r"a\|b \`c\` \*d\*" in body
    assert "license" not in front_matter(card)


def test_a_strangers_page_runs_nothing_and_neither_does_the_name_of_its_branch(browser: Reader, tmp_path: Path) -> None:
    """`mammo report --revision` shows a page as its revision holds it."""
    evil = "<img src=x onerror=\"document.title = 'run'\">"
    page = f"<!DOCTYPE html>\n<html><head><title>A</title><script>document.title = 'run'</script></head><body>{evil}"
    page += "<a id=link href=\"javascript:document.title='run'\">x</a><header>h</header></body></html>"
    written = pages.of_revision(page, f"v1</b>{evil}", "abc", "now", evil)
    assert written.startswith("<!DOCTYPE html>\n<meta http-equiv=")
    (tmp_path / "page.html").write_text(written)
    browser.open(tmp_path / "page.html")
    browser.run("document.getElementById('link').click()")
    assert browser.run("document.title") == "A" and browser.run("document.compatMode") == "CSS1Compat"
    assert browser.run("document.body.textContent").count(evil) == 2, "the name and the ledger, as text"


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1)) ![y](http://a.example/b.png) <http://a.example>",
        "a | b `c` *d* __e__ ~~f~~ $g$ &lt; # h",
        "- a\n> b\n\n# c\n    d\n```",
        "</table></details><plaintext>]]>{{7*7}}",
        "www.a.example http://a.example @everybody a@b.example",
        "\\<b\\>\\\\`x`",
    ],
)
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    """As CommonMark and GitHub read it, in a line and in a cell; autolinks and mentions are no part of CommonMark."""
    parser = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    line = markdown(text)
    shown = " ".join(text.split())
    for document in (f"A: {line}", f"- A: {line}", f"**A: {line}**", f"| A | B |\n| --- | --- |\n| A: {line} | x |"):
        inline = [token for token in parser.parse(document) if token.type == "inline"]
        (token,) = [token for token in inline if token.content.startswith(("A: ", "**A"))]
        kinds = {child.type for child in token.children or []}
        assert kinds <= {"text", "text_special", "strong_open", "strong_close"}, document
        read = "".join(child.content for child in token.children or [])
        assert read.replace("\u200b", "") == f"A: {shown}", document
        assert len(inline) in (1, 4), "one paragraph, or the four cells"
    assert not re.search(r"@\w|://|www\.", line), "what GitHub would link"


BROKEN = r"""(() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const number = /[±−-]?\d[\d.,]*( \(\d[\d.]*–\d[\d.]*\)|\s?%|\s×\s\d+|°)?/g;
  const broken = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement.closest('.name, [aria-hidden]')) continue;
    const range = document.createRange();
    for (const found of node.data.matchAll(number)) {
      range.setStart(node, found.index);
      range.setEnd(node, found.index + found[0].length);
      if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) broken.push(found[0]);
    }
  }
  for (const score of document.querySelectorAll('.score')) {
    if (new Set([...score.getClientRects()].map((box) => Math.round(box.top))).size > 1) broken.push(score.textContent);
  }
  return broken;
})()"""


@pytest.mark.parametrize("width", [PHONE, 700, LAPTOP])
def test_no_number_breaks_across_lines(browser: Reader, reported: Path, width: int) -> None:
    browser.open(reported / "report/report.html", width)
    assert browser.run(BROKEN) == []


def test_in_the_dark_pictures_lie_on_a_dimmed_sheet_without_an_edge(browser: Reader, reported: Path) -> None:
    browser.open(reported / "report/report.html", scheme="dark")
    for background, blend, size in browser.run(
        """[...document.querySelectorAll('figure:has(img)')].map((each) => [getComputedStyle(each).backgroundColor,
             getComputedStyle(each.querySelector('img')).mixBlendMode,
             parseFloat(getComputedStyle(each.querySelector('figcaption')).fontSize)])"""
    ):
        assert 0.5 < luminance(background) < 0.75, "light enough for black lines, and no glare"
        assert blend == "multiply", "white becomes the sheet's grey"
        assert size >= 14, "pixels"


def test_it_prints_in_dark_ink_on_white_without_the_list_of_sections(browser: Reader, reported: Path) -> None:
    browser.open(reported / "report/report.html", scheme="dark")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.send("Emulation.setEmulatedMedia", media="print", features=dark)
    try:
        assert luminance(browser.run("getComputedStyle(document.body).backgroundColor")) == 1
        assert luminance(browser.run("getComputedStyle(document.querySelector('.item p')).color")) == 0
        assert browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    finally:
        browser.send("Emulation.setEmulatedMedia", media="")


# The command


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one stage, `report`, as a user has it after a run that was committed and tagged `v1`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source.html").write_text("<!DOCTYPE html><body><p>notice</p><header><h1>of v1</h1></header></body>")
    stage = {"cmd": "cp source.html report/report.html", "deps": ["source.html"], "outs": ["report/report.html"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"report": stage}}))
    (tmp_path / "report").mkdir()
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    dvc(tmp_path, "init", "--quiet")
    commit(signed(tmp_path), "no run")
    git(tmp_path, "tag", "v0")
    dvc(tmp_path, "repro", "--quiet")
    commit(tmp_path, "a run")
    git(tmp_path, "tag", "v1")
    return tmp_path


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of DVC
def test_mammo_report_says_where_the_page_is_and_whether_it_is_up_to_date(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.main(["report"]) == 0
    assert capsys.readouterr().out == "report/report.html\nIt is up to date.\n"
    (project / "source.html").write_text("other")
    assert commands.main(["report"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "report/report.html\n"
    assert "out of date, run `dvc repro` first. Changed: report (source.html)" in shown.err
    (project / "report/report.html").unlink()
    assert commands.main(["report"]) == 1
    assert (
        capsys.readouterr().err == "mammo report: report/report.html does not exist: run `dvc repro`, or `dvc pull`\n"
    )


def test_mammo_report_writes_the_page_of_a_revision_with_its_commit_and_date(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha, date = (
        git(project, "log", "-1", "--format=%H %cd", "--date=format:%Y-%m-%d %H:%M%z", "v1").strip().split(" ", 1)
    )
    date = f"{date[:-2]}:{date[-2:]}"
    assert commands.main(["report", "--revision", "v1"]) == 0
    page = (project / "report-v1.html").read_text()
    assert f'<p>notice</p><p class="notice research">Report of revision <b>v1</b>: commit {sha} of {date}.' in page
    assert page.count("<h1>of v1</h1>") == 1
    assert capsys.readouterr().out == f"report-v1.html: the report of v1, commit {sha[:7]} of {date}\n"
    git(project, "branch", "topic/<b>&")
    assert commands.main(["report", "--revision", "topic/<b>&", "--out", "here.html"]) == 0
    assert "<b>topic/&lt;b&gt;&amp;</b>" in (project / "here.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--revision", "v0"], "v0 holds no report/report.html: its run was not committed"),
        (["--revision", "v9"], "v9 is not a revision of this repository: name a branch, tag or commit"),
        (
            ["--revision", "v1", "--out", "report/report.html"],
            "--out report/report.html: the name must end in .html and",
        ),
        (["--revision", "v1", "--out", "page.txt"], "--out page.txt: the name must end in .html"),
    ],
)
def test_mammo_report_refuses_in_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = (project / "report/report.html").read_bytes()
    assert commands.main(["report", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"mammo report: {message}") and error.count("\n") == 1
    assert (project / "report/report.html").read_bytes() == before
    assert sorted(path.name for path in project.glob("*.html")) == ["source.html"]


def test_a_page_that_dvcs_cache_lacks_is_named_in_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(project / ".dvc/cache")
    (project / "report/report.html").unlink()
    assert commands.main(["report", "--revision", "v1"]) == 1
    error = capsys.readouterr().err
    assert (
        error.count("\n") == 1 and "mammo report: report/report.html of v1 is not in DVC's cache: `dvc fetch" in error
    )

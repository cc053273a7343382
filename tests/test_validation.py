"""A frozen model on another set: what changes, what drifts, and what is no other set at all."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

from mammo import commands
from mammo.auditing.copies import copies
from mammo.core import model_info, settings
from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo, Recalibration
from mammo.imaging import images
from mammo.predicting.validation import Predicted
from mammo.scoring import Bootstrap, Cases, in_units, scores
from mammo.scoring.unpaired import SHIFTED, unpaired_changes
from mammo.scoring.validation import External, Rules, validated
from mammo.sources import external, phantom

import cv2
import numpy as np
import pytest
from documents import block, shell
from miniature import Run, asked, change, commit, dvc, git, read, run
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

FEW = Bootstrap(1, 200)
VALIDATING = block("Validation on another set")
AS_A_STAGE = block("As a stage")


def women(seed: int, ill: int = 40, healthy: int = 80, auc: float = 0.8, shift: float = 0.0) -> External:
    """Three images of each woman; their logits are normal, correlated within a woman, and moved by `shift`."""
    random = np.random.default_rng(seed)
    label = np.repeat(np.arange(ill + healthy) < ill, 3).astype(int)
    names = np.repeat([f"{seed}-{number}" for number in range(ill + healthy)], 3)
    logits = random.normal(0, 0.6, ill + healthy).repeat(3) + random.normal(0, 0.8, len(label))
    logits += np.sqrt(2) * stats.norm.ppf(auc) * label + shift
    return External(label, 1 / (1 + np.exp(-logits)), names, None)


def called(one: External, threshold: float = 0.7) -> np.ndarray:
    return (one.probabilities >= threshold).astype(int)


def changed(a: External, b: External, bootstrap: Bootstrap = FEW) -> dict[str, Any]:
    return unpaired_changes(a.cases(), b.cases(), called(a), called(b), bootstrap)


def test_changes_are_differences_of_the_scores_with_the_limits_of_independent_samples() -> None:
    a, b = women(1, auc=0.9), women(2, auc=0.7)
    found = changed(a, b)
    assert tuple(found) == SHIFTED
    before, after = (scores(side.cases(), 0.7, FEW) for side in (a, b))
    for name, one in found.items():
        x, y = before[name], after[name]
        assert (one.a, one.b) == (x, y)
        assert one.change.value == y.value - x.value
        low = one.change.value - ((y.value - y.low) ** 2 + (x.high - x.value) ** 2) ** 0.5
        high = one.change.value + ((y.high - y.value) ** 2 + (x.value - x.low) ** 2) ** 0.5
        assert (one.change.low, one.change.high) == pytest.approx((low, high), abs=1e-12)
    assert found["roc_auc"].change.value == pytest.approx(
        roc_auc_score(b.labels, b.probabilities) - roc_auc_score(a.labels, a.probabilities), abs=1e-12
    )
    assert found["roc_auc"].p < 0.01


def test_p_is_below_5_percent_exactly_where_the_interval_leaves_0_out() -> None:
    seen = set()
    for seed in range(12):
        for one in changed(women(seed), women(100 + seed, 20, 40, auc=0.7)).values():
            outside = one.change.low > 0 or one.change.high < 0
            assert (one.p < 0.05) is outside
            seen.add(outside)
    assert seen == {True, False}


def test_the_same_scores_on_both_sets_are_no_change() -> None:
    a = women(1)
    b = External(a.labels, a.probabilities, np.char.add(a.patients, "b"), None)
    assert {(one.change.value, one.p) for one in changed(a, b).values()} == {(0.0, 1.0)}


def test_with_two_women_of_a_kind_nothing_is_significant() -> None:
    one = changed(women(1, auc=0.99), women(2, ill=2, healthy=2, auc=0.01))["roc_auc"]
    assert one.p >= 0.5


@pytest.mark.proof
def test_two_sets_of_one_population_differ_in_one_study_of_twenty() -> None:
    """400 studies at each ROC AUC; the interval is conservative near 1."""
    for auc, least in ((0.75, 0.03), (0.9, 0.01), (0.98, 0.0)):
        hits = dict.fromkeys(SHIFTED, 0)
        for seed in range(400):
            for name, one in changed(women(seed, auc=auc), women(10_000 + seed, 30, 60, auc=auc)).items():
                hits[name] += one.p < 0.05
        print(auc, {name: count / 400 for name, count in hits.items()})
        assert all(least * 400 <= count <= 0.08 * 400 for count in hits.values()), hits


# What is computed


@pytest.fixture(scope="module")
def info(first: Run) -> ModelInfo:
    return model_info.read(first.folder / "data/model")


def of(external: External, internal: External, info: ModelInfo, prevalence: float | str = "none") -> dict[str, Any]:
    rules = Rules("half", prevalence, FEW)
    return validated(external, Cases(internal.labels, internal.probabilities, internal.patients), info, rules)


@pytest.mark.proof
def test_a_planted_drift_of_the_probabilities_is_measured_and_recalibrated_away(info: ModelInfo) -> None:
    random = np.random.default_rng(3)
    true = random.normal(-0.5, 1.5, 1500)
    labels = (random.random(1500) < 1 / (1 + np.exp(-true))).astype(int)
    patients = np.array([f"p{number // 3}" for number in range(1500)])
    drifted = External(labels, 1 / (1 + np.exp(-(2 * true + 1.5))), patients, None)
    known = info.model_copy(update={"recalibration": Recalibration(intercept=-0.75, slope=0.5)})
    content = of(drifted, women(1), known)
    assert content["calibration"]["slope"].value == pytest.approx(0.5, abs=0.1)
    assert content["calibration"]["slope"].high < 1 and content["calibration"]["intercept"].high < 0
    assert content["recalibrated"]["slope"].value == pytest.approx(1, abs=0.2)
    here = content["recalibrated_here"]
    patients_ill = set(patients[labels == 1])
    each = [len(patients_ill), len(set(patients)) - len(patients_ill)]
    assert here["learned_on"]["value"] == sum(round(0.2 * number) for number in each)
    assert here["before"]["intercept"].high < 0
    assert here["after"]["intercept"].low < 0 < here["after"]["intercept"].high
    assert here["after"]["slope"].low < 1 < here["after"]["slope"].high
    assert content["calibration"]["brier"].value == pytest.approx(brier_score_loss(labels, drifted.probabilities))
    line = LogisticRegression(C=np.inf).fit((2 * true + 1.5)[:, None], labels)
    assert content["calibration"]["slope"].value == pytest.approx(line.coef_[0, 0], abs=1e-3)


def test_another_prevalence_alone_changes_neither_ranking_nor_sensitivity(info: ModelInfo) -> None:
    internal, external = women(1, 100, 100), women(2, 30, 300)
    content = of(external, internal, info, prevalence=0.006)
    assert all(entry["p"] > 0.01 for entry in content["change"].values())
    assert content["images"] == {"healthy": 900, "cancer": 90}
    assert content["patients"] == {"value": 330}
    assert content["calibration"]["intercept"].high < 0, "the share of cancer fell, so probabilities are too high"
    at = content["operating_points"]["at_prevalence"]
    point = content["operating_points"]["half"]
    sensitivity, specificity = point["sensitivity"].value, point["specificity"].value
    recalled = 0.006 * sensitivity + 0.994 * (1 - specificity)
    assert at["half"]["ppv"].value == pytest.approx(0.006 * sensitivity / recalled)
    assert at["half"]["recall_rate"].value == pytest.approx(recalled)
    assert at["half"]["cancers_found_per_1000"].value == pytest.approx(6 * sensitivity)


@pytest.mark.parametrize("unit", ["breast", "exam"])
def test_the_unit_of_the_headline_holds_for_another_set_too(info: ModelInfo, unit: str) -> None:
    random = np.random.default_rng(5)
    number = 480
    sides = np.tile(["L", "L", "R", "R"], number // 4)
    patients = np.array([f"p{place // 8}" for place in range(number)])
    exams = np.array([f"{place // 4 % 2}" for place in range(number)])
    labels = (np.arange(number) // 4 % 3 == 0) & (sides == "L")
    chances = 1 / (1 + np.exp(-random.normal(1.2 * labels, 1)))
    vendor = np.array(["A", "B", "C"])[np.arange(number) // 16 % 3]
    images = External(labels.astype(int), chances, patients, None, exams, sides, {"vendor": vendor})
    known = info.model_copy(update={"recalibration": Recalibration(intercept=-0.5, slope=1.2)})
    units = in_units(unit, labels, chances, patients, exams, sides)
    internal = women(1)
    content = validated(images, internal.cases(), known, Rules("half", "none", FEW, unit))
    expected = roc_auc_score(units.labels, units.probabilities)
    assert content["roc_auc"].value == pytest.approx(expected, abs=1e-12)
    own = roc_auc_score(internal.labels, internal.probabilities)
    assert content["change"]["roc_auc"]["change"].value == pytest.approx(expected - own, abs=1e-12)
    assert content["roc_auc"] == content["units"][unit]["roc_auc"] != content["units"]["image"]["roc_auc"]
    assert content["calibration"]["brier"].value == pytest.approx(brier_score_loss(units.labels, units.probabilities))
    moved = in_units(unit, labels, known.recalibration.calibrated(chances), patients, exams, sides)
    after = content["recalibrated"]["brier"].value
    assert after == pytest.approx(brier_score_loss(moved.labels, moved.probabilities))
    assert content["unit"] == unit
    assert content["images"] == {"healthy": int((~labels).sum()), "cancer": int(labels.sum())}
    held = vendor == "B"
    part = in_units(unit, labels[held], chances[held], patients[held], exams[held], sides[held])
    level = content["subgroups"]["vendor"]["levels"]["B"]
    assert level["roc_auc"].value == pytest.approx(roc_auc_score(part.labels, part.probabilities), abs=1e-12)
    assert level[f"{unit}s"] == len(part.labels)


def test_a_set_without_sides_has_no_headline_per_breast(info: ModelInfo) -> None:
    rules = Rules("half", "none", FEW, "breast")
    with pytest.raises(UserError, match=r"evaluate.unit is breast, but 360 external images have no laterality, and no"):
        validated(women(2), women(1).cases(), info, rules)


def test_where_patients_are_too_few_no_recalibration_is_learned(info: ModelInfo) -> None:
    assert "recalibrated_here" not in of(women(2, 1, 9), women(1), info)


# On images


def draw(folder: Path, clone: Path, patients: int = 24, brighter: float = 0.0, prefix: str = "other") -> Path:
    """Another set of phantoms like those of the clone, with labels.csv; the patients' numbers have a prefix."""
    params = settings.read(clone / "params.yaml").data.phantom
    folder.mkdir(parents=True)
    entries = phantom.generate(params.model_copy(update={"seed": 7, "patients": patients}), folder, 1)
    shutil.rmtree(folder / "masks")
    if brighter:
        for entry in entries:
            image = cv2.imread(str(folder / entry.image), cv2.IMREAD_GRAYSCALE).astype(float)
            cv2.imwrite(str(folder / entry.image), (image * (1 - brighter) + 255 * brighter).astype(np.uint8))
    listed(folder, [(entry.image, entry.label, prefix + entry.patient) for entry in entries])
    return folder


def listed(folder: Path, rows: list[tuple[str, int, str]]) -> None:
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "patient"), *rows])


def rows_of(folder: Path) -> list[tuple[str, int, str]]:
    with (folder / "labels.csv").open() as file:
        return [(row["image"], int(row["label"]), row["patient"]) for row in csv.DictReader(file)]


def validate(clone: Path, *arguments: Any, **how: Any) -> str:
    done = run(clone, "mammo", "validate", *map(str, arguments), "--despite-phantoms", **how)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_set_named_in_params_is_scored_by_dvc_and_diffed_like_the_rest(workspace: Path, tmp_path: Path) -> None:
    place = draw(tmp_path / "another hospital", workspace)
    said = shell(workspace, AS_A_STAGE, {**os.environ, "HOSPITAL": str(place)})
    assert "Running stage 'validate@hospital'" in said and "Running stage 'train'" not in said
    assert "validate: hospital: ROC AUC" in said

    found = read(workspace / "metrics/validate/hospital.json")
    answers = json.loads(run(workspace, "mammo", "predict", str(place), "--json", "--despite-phantoms").stdout)[
        "images"
    ]
    probability = {Path(one["file"]).resolve(): one["probability"] for one in answers}
    rows = rows_of(place)
    labels, values = [label for _, label, _ in rows], [probability[(place / image).resolve()] for image, _, _ in rows]
    assert found["roc_auc"]["value"] == pytest.approx(roc_auc_score(labels, values), abs=1e-12)
    threshold = read(workspace / "metrics/test.json")["threshold"]["value"]
    assert found["threshold"]["value"] == threshold
    hits = np.array(values)[np.array(labels) == 1] >= threshold
    assert found["sensitivity"]["value"] == pytest.approx(hits.mean())
    own = read(workspace / "metrics/test.json")["roc_auc"]
    assert found["change"]["roc_auc"]["internal"] == own
    assert found["change"]["roc_auc"]["change"]["value"] == pytest.approx(found["roc_auc"]["value"] - own["value"])

    changes = asked(workspace, "metrics", "diff")["metrics/validate/hospital.json"]
    assert changes["roc_auc.value"]["new"] == pytest.approx(found["roc_auc"]["value"], abs=1e-5)
    drawn = asked(workspace, "plots", "show")["data"]
    for curve in ("roc", "calibration"):
        assert any(f"plots/validate/hospital/{curve}.csv" in name for name in drawn), sorted(drawn)
    page = (workspace / "report/validate/hospital.html").read_text()
    assert "External validation on hospital" in page and "trained on phantoms" in page
    assert "report/validate" not in git(workspace, "status", "--porcelain", "--untracked-files=all")

    commit(workspace, "validated")
    image = next(place.rglob("*.png"))
    image.write_bytes(cv2.imencode(".png", np.zeros((96, 96), np.uint8))[1].tobytes())
    assert "validate@hospital" in dvc(workspace, "status"), "a changed external image is noticed"


def test_the_command_writes_page_and_tables_beside_the_pipeline(first: Run, tmp_path: Path) -> None:
    place = draw(tmp_path / "set", first.folder)
    said = validate(first.folder, place, "--out", tmp_path / "out")
    assert "ROC AUC" in said and str(tmp_path / "out/validation.html") in said
    content = read(tmp_path / "out/scores.json")
    again = validate(first.folder, tmp_path / "out/predictions.csv", "--out", tmp_path / "table")
    assert "CANNOT BE CHECKED: a table has no image files" in again
    table = read(tmp_path / "table/scores.json")
    assert table == {key: value for key, value in content.items() if key != "novel"}, "the same scores from the table"
    validate(first.folder, place, "--revision", "HEAD", "--out", tmp_path / "revision")
    assert read(tmp_path / "revision/scores.json") == content
    assert git(first.folder, "status", "--porcelain") == ""


def test_the_commands_of_the_page_run_as_they_stand_there(workspace: Path) -> None:
    draw(workspace / "hospital", workspace)
    trained_on_images(workspace)
    said = shell(workspace, VALIDATING[:1])
    shutil.copy(workspace / "validation/predictions.csv", workspace / "hospital.csv")
    again = shell(workspace, VALIDATING[1:])
    line = next(line for line in said.splitlines() if "ROC AUC" in line)
    assert line.removeprefix("hospital") in again


def trained_on_images(clone: Path) -> None:
    """Let the clone's model say that it was trained on mammograms: one of phantoms refuses."""
    path = clone / "data/model/model.json"
    path.chmod(0o644)
    content = read(path)
    content["trained_on"]["source"] = "folder"
    path.unlink()
    path.write_text(json.dumps(content))


@pytest.mark.proof
def test_planted_brightness_and_prevalence_are_named(first: Run, tmp_path: Path) -> None:
    place = draw(tmp_path / "bright", first.folder, brighter=0.5)
    healthy = [row for row in rows_of(place) if not row[1]]
    ill = [row for row in rows_of(place) if row[1]][:8]
    listed(place, [*healthy, *ill])
    said = validate(first.folder, place, "--out", tmp_path / "out")
    count = len(healthy) + len(ill)
    assert f"{count} of {count} images: brighter than every training image" in said
    content = read(tmp_path / "out/scores.json")
    assert content["images"] == {"healthy": len(healthy), "cancer": 8}
    assert content["calibration"]["intercept"]["high"] < 0 or content["novel"]["value"] > 0.5


def test_breasts_found_from_the_picture_and_groups_of_another_set_are_scored(first: Run, tmp_path: Path) -> None:
    place = draw(tmp_path / "set", first.folder)
    rows = rows_of(place)
    sides = {image: Path(image).stem.split("_")[1] for image, _, _ in rows}
    for image, side in sides.items():  # phantoms have their chest wall on the left; here as the detector sees it
        if side == "R":
            cv2.imwrite(str(place / image), cv2.imread(str(place / image), cv2.IMREAD_GRAYSCALE)[:, ::-1])
    vendors = {patient: f"V{number // 2 % 2}" for number, patient in enumerate(sorted({row[2] for row in rows}))}
    with (place / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("image", "label", "patient", "vendor"))
        table.writerows((*row, vendors[row[2]]) for row in rows)
    said = validate(first.folder, place, "--out", tmp_path / "out")
    of_sides = f"laterality of {len(rows)} of {len(rows)} images was found from the picture"
    assert of_sides in said
    content = read(tmp_path / "out/scores.json")
    with (tmp_path / "out/predictions.csv").open() as file:
        written = {row["image"].split("/", 2)[2]: row for row in csv.DictReader(file)}
    assert {image: row["breast"] for image, row in written.items()} == sides
    predicted = {image: float(row["probability"]) for image, row in written.items()}
    probability = [predicted[image] for image, _, _ in rows]
    breasts: dict[tuple[str, str], list[int]] = {}
    for place_of, (image, _, patient) in enumerate(rows):
        breasts.setdefault((patient, sides[image]), []).append(place_of)
    means = [np.mean([probability[each] for each in images]) for images in breasts.values()]
    labels = [max(rows[each][1] for each in images) for images in breasts.values()]
    assert content["units"]["breast"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(labels, means), abs=1e-9)
    levels = content["subgroups"]["vendor"]["levels"]
    assert set(levels) == {"V0", "V1"}
    for level, scored in levels.items():
        inside = [number for number, row in enumerate(rows) if vendors[row[2]] == level]
        auc = roc_auc_score([rows[number][1] for number in inside], [probability[number] for number in inside])
        assert scored["roc_auc"]["value"] == pytest.approx(auc, abs=1e-9)
    page = (tmp_path / "out/validation.html").read_text()
    assert 'id="units"' in page and "Vendor" in page and of_sides[1:] in page, "begins with a capital"


def test_a_level_that_training_never_saw_is_named() -> None:
    def entry(vendor: str) -> Entry:
        return Entry("a", 0, "", "p", "", groups=(("vendor", vendor),) if vendor else ())

    seen = [entry("A"), entry("A")]
    notes = external.unseen_levels(seen, [entry("A"), entry("B"), entry("B"), entry("")])
    assert notes == ["vendor 'B', of 2 images, is in no image of the model's own set"]
    assert external.unseen_levels([entry("")], [entry("B")]) == [], "a group that the own set does not have"


def test_a_set_without_patients_cannot_be_checked(first: Run, tmp_path: Path) -> None:
    place = draw(tmp_path / "set", first.folder)
    count = len(rows_of(place))
    listed(place, [(image, label, "") for image, label, _ in rows_of(place)])
    said = validate(first.folder, place, "--out", tmp_path / "out")
    assert f"CANNOT BE CHECKED: {count} of {count} images (100" in said
    assert "CANNOT BE CHECKED" in (tmp_path / "out/validation.html").read_text()


@pytest.mark.parametrize(
    "what", [pytest.param("image", marks=pytest.mark.proof), "patient", pytest.param("copy", marks=pytest.mark.proof)]
)
def test_a_set_with_images_copies_or_patients_of_training_stops_and_says_which(
    workspace: Path, tmp_path: Path, what: str
) -> None:
    place = draw(tmp_path / "set", workspace)
    rows = rows_of(place)
    if what == "image":
        known = next((workspace / "data/raw/train/1").glob("*.png"))
        shutil.copy(known, place / rows[0][0])
        expected = f"1 image is also in the set that the model was made from (1 train): train/{rows[0][1]}/{rows[0][0]}"
    elif what == "copy":
        for number, (image, _, _) in enumerate(rows[:4]):
            known = sorted((workspace / "data/raw/train/1").glob("*.png"))[number]
            saved_again(known, place / image, quality=75 - 10 * number, brightness=1 - 0.1 * number)
        expected = (
            "4 images are copies, saved again, of some in the set that the model was made from (4 train): "
            f"train/{rows[0][1]}/{rows[0][0]} of train/1/"
        )
    else:
        patient = next((workspace / "data/raw/train/1").glob("*.png")).name.partition("_")[0]
        listed(place, [(*rows[0][:2], patient), *rows[1:]])
        expected = "1 image shows a patient of the set that the model was made from (1 train)"
    said = validate(workspace, place, "--out", tmp_path / "out", fails=True)
    assert expected in said and said.count("\n") == 1 and (what != "copy" or "(near-duplicate, likeness 0.99" in said)
    assert not (tmp_path / "out").exists()
    change(workspace, audit={"on_leak": "warn"})
    said = validate(workspace, place, "--out", tmp_path / "out")
    assert said.startswith("LEAKING: ")
    assert "LEAKING" in (tmp_path / "out/validation.html").read_text()


def saved_again(source: Path, target: Path, quality: int, brightness: float) -> None:
    """Save an image as a darkened JPEG, under the name of the target."""
    image = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE) * brightness
    target.write_bytes(cv2.imencode(".jpg", image.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


def test_git_is_told_how_many_images_are_known_and_not_which() -> None:
    def entry(image: str, patient: str, split: str = "") -> Entry:
        return Entry(image, 0, split, patient, image)

    found = external.shared_with([entry("a", "Anna", "train"), entry("b", "Bea", "test")], [entry("secret", "Anna")])
    predicted = Predicted([], None, [], [], found)
    known = "LEAKING: 1 image shows a patient of the set that the model was made from (1 train)"
    assert predicted.leak(named=False) == f"{known}."
    assert predicted.leak(named=True) == f"{known}: secret."


def test_a_copy_of_a_copy_is_found_and_a_black_image_is_no_copy() -> None:
    random = np.random.default_rng(1)
    own = random.integers(0, 255, (8, 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8).transpose(2, 0, 1)
    own = np.array([cv2.GaussianBlur(image, (0, 0), 3) for image in own])
    black = np.zeros((64, 64), np.uint8)
    darker = (0.8 * own[1]).astype(np.uint8)
    pictures = np.stack([*own, black, darker, darker, own[0], 255 - own[2], black])
    known = [Entry(f"own{place}", 0, "train", "", f"own{place}") for place in range(4)]
    others = [Entry(f"new{place}", 0, "", "", f"new{place}") for place in range(5)]
    (found,) = copies(known, others, pictures)
    assert found.number == "4 images are copies, saved again, of some in the set that the model was made from (4 train)"
    assert found.names.startswith("new0 of own1 (near-duplicate, likeness ")
    assert "new1 of own1 (" in found.names and "new2 of own0 (same pixels)" in found.names
    assert copies(known, others[4:], np.concatenate([pictures[:4], pictures[-1:]])) == []


@pytest.mark.proof
def test_real_images_saved_again_are_found_and_those_of_other_women_are_no_copies(
    mammograms: Path, tmp_path: Path
) -> None:
    """Half of the women are the own set, the others and 60 images of the first half, saved again, the other set."""
    women: dict[str, list[Path]] = {}
    for path in sorted(mammograms.rglob("*.jpg")):
        women.setdefault(path.name.split("_")[0], []).append(path)
    own, others = ([path for each in list(women.values())[half::2] for path in each] for half in (0, 1))
    changed = [
        lambda image: image,
        lambda image: 0.7 * image,
        lambda image: 255 * (image / 255) ** 1.1,
        lambda image: image[:, ::-1],
        lambda image: 255 - image,
        lambda image: image[image.shape[0] // 20 :, : -image.shape[1] // 20],
    ]
    again = []
    for number, place in enumerate(np.random.default_rng(1).choice(len(own), 60, replace=False).tolist()):
        image = changed[number % len(changed)](cv2.imread(str(own[place]), cv2.IMREAD_GRAYSCALE).astype(float))
        again.append(tmp_path / f"{place}.jpg")
        cv2.imwrite(str(again[-1]), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
    paths = [*own, *others, *again]
    entries = [Entry(path.stem, 0, "train", "", path.stem) for path in paths]
    pictures = np.stack([images.read(path, (224, 224)) for path in paths])
    (found,) = copies(entries[: len(own)], entries[len(own) :], pictures)
    print(f"{found.number}; {len(others)} images of other women")
    assert found.number.startswith("60 images are copies")
    assert found.names.startswith(f"{again[0].stem} of {own[int(again[0].stem)].stem} (")


def test_what_is_no_external_set_is_one_line(
    first: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clone, place = first.folder, draw(tmp_path / "set", first.folder)
    monkeypatch.chdir(clone)
    one_class = Path(shutil.copytree(place, tmp_path / "one"))
    listed(one_class, [row for row in rows_of(place) if row[1]])
    broken = Path(shutil.copytree(place, tmp_path / "broken"))
    (broken / rows_of(place)[0][0]).write_text("no image")
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        ((tmp_path / "nowhere",), "is not a folder"),
        ((tmp_path / "empty",), "is not laid out as {0,1}/"),
        ((one_class,), "holds no healthy image"),
        ((broken,), "cannot be read"),
        ((clone / "plots/predictions.csv",), "show a patient of the set that the model was made from (48 test)"),
        ((clone / "metrics/test.json",), "lacks the column"),
        ((place, "--revision", "nonsense"), "nonsense is not a revision"),
        ((place, "--out", "metrics"), "--out metrics: this folder holds something else"),
        ((place, "--out", "plots/audit"), "this is an output of the pipeline"),
    ):
        assert commands.main(["validate", *map(str, arguments), "--despite-phantoms"]) == 1
        said = "".join(capsys.readouterr())
        assert words in said and said.count("\n") == 1, said


def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    from conftest import run_stage, write_params

    write_params(tmp_path, validate={"../x": "y"})
    done = run_stage("validate", "a", "b", "c", "m/x.json", "p", "r.html", folder=tmp_path)
    assert done.returncode == 1 and "names of letters, digits" in done.stderr and done.stderr.count("\n") == 1

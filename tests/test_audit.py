"""The audit: each kind of finding on made images, what stops the pipeline and what does not."""

from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path

from mammo.auditing import leaks, names, pictures, shortcut, split_sizes, summary, thumbnails
from mammo.auditing.duplicates import images_twice, same_images
from mammo.auditing.findings import COLUMNS, SEVERITIES, Finding
from mammo.auditing.shortcut import HISTOGRAM_BINS, brightness_features
from mammo.core import files, model_info, predictions, splits
from mammo.core.dataset import About, Dataset, Delivered, Entry, write_about, write_delivered, write_index
from mammo.core.errors import UserError
from mammo.core.model_info import Verdict
from mammo.core.randomness import generator
from mammo.core.settings import Audit, Canonical
from mammo.imaging.appearance import appearance, is_inverted, marks_and_body
from mammo.scoring import Interval, with_interval

import cv2
import numpy as np
import pytest
from conftest import run_stage, write_params
from sklearn.metrics import roc_auc_score

SIZE = 224
PATHS = ("prepared", "gate.json", "audit.json", "audit.csv", "shortcut.csv", "audit")


@cache
def breast(number: int) -> np.ndarray:
    """A breast with a texture of its own on the left edge of a black field, uint8, (224, 224)."""
    random = generator(3, "breast", number)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    depth, half, middle = random.uniform((0.4, 0.28, 0.42), (0.75, 0.42, 0.58))
    inside = np.clip(12 * (1 - (x / depth) ** 2 - ((y - middle) / half) ** 2), 0, 1)
    texture = sum(
        cv2.GaussianBlur(random.standard_normal((SIZE, SIZE)), (0, 0), scale) * 25 * scale for scale in (1.5, 4, 12)
    )
    return np.clip((95 + texture) * inside, 0, 255).astype(np.uint8)


def labelled(image: np.ndarray) -> np.ndarray:
    """The image with text in its upper right corner."""
    return cv2.putText(image.copy(), "R CC", (165, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1, cv2.LINE_AA)


def clean(patients: int = 30) -> Dataset:
    """Two different images each of patients who stand in one split: 3 : 1 : 1, every third with cancer."""
    entries, images = [], []
    for patient in range(patients):
        split = ("train", "train", "train", "valid", "test")[patient // 3 % 5]
        label = int(patient % 3 == 0)
        for view in (0, 1):
            name = f"{split}/{label}/{patient}_{view}.png"
            entries.append(Entry(name, label, split, str(patient), f"hash of {name}"))
            images.append(breast(2 * patient + view))
    return Dataset(np.array(images), entries)


def with_image(data: Dataset, image: np.ndarray, entry: Entry) -> Dataset:
    """The set with one image more."""
    return Dataset(np.concatenate([data.images, image[None]]), [*data.entries, entry])


def prepared(data: Dataset, folder: Path) -> Path:
    """The set written as preprocess writes it."""
    folder.mkdir()
    without_patient = sum(not entry.patient for entry in data.entries)
    np.save(folder / "images.npy", data.images)
    write_index(folder, data.entries)
    rows = [Delivered(entry.image, SIZE * SIZE, SIZE, SIZE, "PNG L") for entry in data.entries]
    write_delivered(folder, rows)
    write_about(folder, About(source="folder", canonical=Canonical(), images_without_patient=without_patient))
    return folder


def run(data: Dataset, folder: Path, on_leak: str = "warn", on_unknown_patients: str = "stop"):
    """Run the stage on a set in a folder, as DVC does."""
    prepared(data, folder / "prepared")
    write_params(folder, audit={"on_leak": on_leak, "on_unknown_patients": on_unknown_patients})
    return folder, run_stage("audit", *PATHS, folder=folder)


def kinds(found: list[Finding]) -> Counter:
    return Counter(row.kind for row in found)


@pytest.fixture(scope="module")
def leaking() -> Dataset:
    """The clean set, with an image of training patient 1 in test and the file of training image 0_0 in valid."""
    data = with_image(clean(), breast(900), Entry("test/0/1_9.png", 0, "test", "1", "x"))
    copied = replace(data.entries[0], image="valid/1/0_0.png", split="valid", patient="777")
    return with_image(data, data.images[0], copied)


@pytest.fixture(scope="module")
def stopped(leaking: Dataset, tmp_path_factory: pytest.TempPathFactory):
    return run(leaking, tmp_path_factory.mktemp("stop"), "stop")


@pytest.fixture(scope="module")
def warned(leaking: Dataset, tmp_path_factory: pytest.TempPathFactory):
    return run(leaking, tmp_path_factory.mktemp("warn"))


# Patients and splits


def test_a_clean_set_has_no_findings_but_its_small_splits(tmp_path: Path) -> None:
    place, done = run(clean(), tmp_path, "stop")
    assert done.returncode == 0, done.stderr
    rows = files.read_csv(place / "audit.csv", COLUMNS)
    assert {row["kind"] for row in rows} <= {"small_split", "shortcut"}
    assert files.read_json(place / "gate.json") == {"leaking": False}
    assert "no leak" in done.stdout


def test_a_patient_in_two_splits_is_found_with_each_image_that_leaks(leaking: Dataset) -> None:
    found = leaks.patients_across_splits(leaking)
    assert kinds(found) == {"patient_in_several_splits": 1, "test_image_of_training_patient": 1}
    patient, image = found
    assert (patient.patient, patient.detail) == ("1", "2 in train, 1 in test")
    assert (image.image, image.other, image.severity) == ("test/0/1_9.png", "train/0/1_0.png", "leak")


def test_a_patient_in_validation_and_test_alone_is_a_leak_too() -> None:
    data = clean()
    moved = [replace(entry, split="test") if entry.image == "valid/0/10_0.png" else entry for entry in data.entries]
    found = leaks.patients_across_splits(Dataset(data.images, moved))
    assert kinds(found) == {"patient_in_several_splits": 1}
    verdict = leaks.verdict(Dataset(data.images, moved), found)
    assert verdict.sentence == "LEAKING: 1 patient is in both validation and test."


def test_images_without_a_patient_are_no_leak_and_are_counted() -> None:
    data = clean()
    nobody = Dataset(data.images, [replace(entry, patient="") for entry in data.entries])
    assert leaks.patients_across_splits(nobody) == []
    (finding,) = leaks.unknown_patients(nobody)
    assert finding.detail.startswith("60 of 60 images (100\N{NO-BREAK SPACE}%) have no patient: leakage between them")


ALIKE = {
    "Anna": "anna",
    "007": "7",
    "M\u00fcller": "Mu\u0308ller",
    "P 12": "P12",
    "Rosalind Franklin": "rosalind franklin",
}


def test_patients_that_differ_only_in_spelling_are_probably_one() -> None:
    data = clean()
    spelled = [name for pair in ALIKE.items() for name in pair] + ["Anne", "70", "A1", "A01b", "A1b"]
    renamed = [
        replace(entry, patient=dict(enumerate(spelled)).get(i // 2, entry.patient))
        for i, entry in enumerate(data.entries)
    ]
    (finding,) = names.patients_written_in_several_ways(Dataset(data.images, renamed))
    assert (finding.severity, finding.image) == ("warning", "")
    assert finding.detail.startswith(
        "12 patients are probably 6, since their names differ only in Unicode form, case, "
    )
    assert "'Anna' = 'anna', '007' = '7', 'Mu\\u0308ller' = 'Müller' and 3 more" in finding.detail
    assert "Rosalind Franklin" not in finding.detail
    assert finding.detail.endswith("of the 6 would be in more than one split")
    assert names.patients_written_in_several_ways(data) == []


def test_a_patient_with_both_labels_is_named() -> None:
    data = clean()
    flipped = Dataset(data.images, [replace(data.entries[0], label=0), *data.entries[1:]])
    (finding,) = leaks.patients_with_both_labels(flipped)
    assert (finding.patient, finding.detail) == ("0", "1 healthy, 1 cancer")


def test_expected_half_width_follows_hanley_and_mcneil() -> None:
    # AUC 0.75, 50 + 50: Q1 = 0.6, Q2 = 0.642857; variance (0.1875 + 49·0.0375 + 49·0.080357) / 2500 = 0.002385
    assert split_sizes.expected_half_width(50, 50) == pytest.approx(1.959964 * 0.002385**0.5, rel=1e-5)
    assert split_sizes.expected_half_width(0, 50) == 0.5


def test_small_and_unbalanced_splits_are_named() -> None:
    found = split_sizes.small_or_unbalanced(clean(30))
    assert kinds(found) == {"small_split": 2}
    assert found[1].detail.startswith("test: 2 of 6 patients have cancer; a ROC AUC of 0.75 would be known to ±0.")
    data = clean(30)
    nearly_all_healthy = [replace(e, label=int(e.image == "train/1/0_0.png")) for e in data.entries]
    assert kinds(split_sizes.small_or_unbalanced(Dataset(data.images, nearly_all_healthy)))["unbalanced_split"] == 3


# The same image twice


COPIES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, bool, bool]] = {
    "pixels": (lambda image: image, "same pixels", False, False),
    "re-encoded": (lambda image: jpeg(image, 60), "near-duplicate", False, False),
    "darkened": (lambda image: cv2.convertScaleAbs(image, alpha=0.8), "near-duplicate", False, False),
    "mirrored": (lambda image: image[:, ::-1], "near-duplicate", True, False),
    "inverted": (lambda image: 255 - image, "near-duplicate", False, True),
    "both": (lambda image: 255 - image[:, ::-1], "near-duplicate", True, True),
    "cropped": (lambda image: cropped(image, 6), "same exposure", False, False),
    "cropped, mirrored": (lambda image: cropped(image, 6)[:, ::-1], "same exposure", True, False),
    "cropped, inverted": (lambda image: 255 - cropped(image, 6), "same exposure", False, True),
}


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def cropped(image: np.ndarray, pixels: int) -> np.ndarray:
    """Without its outermost pixels on all sides: 6 of 224 is 5 % of the height and of the width."""
    return cv2.resize(image[pixels:-pixels, pixels:-pixels], image.shape[::-1], interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_however_it_was_changed(kind: str) -> None:
    change, how, mirrored, inverted = COPIES[kind]
    images = np.array([*(breast(number) for number in range(12)), change(breast(4))])
    (pair,) = same_images(images, [str(i) for i in range(13)])
    assert (pair.first, pair.second, pair.kind) == (4, 12, how)
    assert (pair.mirrored, pair.inverted) == (mirrored, inverted)


def test_of_two_sets_crops_are_searched_for_between_them_alone() -> None:
    images = [breast(number) for number in range(6)]
    images = np.array([*images, cropped(images[0], 6), cropped(images[1], 6), breast(7), cropped(breast(7), 6)])
    found = {
        own: [(pair.first, pair.second) for pair in same_images(images, [str(i) for i in range(10)], own=own)]
        for own in (None, 7)
    }
    assert found == {None: [(0, 6), (1, 7), (8, 9)], 7: [(1, 7)]}


def test_different_images_are_no_copies() -> None:
    assert same_images(np.array([breast(number) for number in range(40)]), [str(i) for i in range(40)]) == []


def test_of_many_equal_images_each_is_paired_with_the_first_once() -> None:
    images = np.array([breast(1)] * 50 + [breast(2)])
    pairs = same_images(images, ["a"] * 20 + [str(i) for i in range(31)])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, other) for other in range(1, 50)]
    assert Counter(pair.kind for pair in pairs) == {"same file": 19, "same pixels": 30}


def test_blank_images_and_tiny_sets_are_no_trouble() -> None:
    assert same_images(np.zeros((1, 32, 48), np.uint8), ["a"]) == []
    blank = np.stack([np.full((32, 48), level, np.uint8) for level in (0, 128, 255)])
    assert same_images(blank, ["a", "b", "c"]) == []


def test_the_bound_misses_no_pair_of_an_exhaustive_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "QUERIES", 16)  # several blocks, the last one short
    random = generator(4, "bound")
    images = [breast(number % 15) for number in range(45)]
    images = [image[:, ::-1] if random.random() < 0.5 else image for image in images]
    images = [255 - image if random.random() < 0.5 else image for image in images]
    grain = (random.normal(0, strength, (SIZE, SIZE)) for strength in np.linspace(0.5, 30, 45))
    noisy = np.array([np.clip(image + noise, 0, 255) for image, noise in zip(images, grain, strict=True)], np.uint8)
    small = np.array([cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA) for image in noisy]).astype(float)
    expected = set()
    for turned in (small, small[:, :, ::-1]):
        for a in range(45):
            for b in range(a + 1, 45):
                if abs(np.corrcoef(small[a].ravel(), turned[b].ravel())[0, 1]) > 0.995:
                    expected.add((a, b))
    pairs = same_images(noisy, [str(i) for i in range(45)])
    assert {(pair.first, pair.second) for pair in pairs if pair.kind == "near-duplicate"} == expected
    assert 10 < len(expected) < 45


def test_copies_across_splits_leak_and_copies_with_two_labels_contradict() -> None:
    entries = [
        Entry("train/0/1_0.png", 0, "train", "1", "a"),
        Entry("test/0/2_0.png", 0, "test", "2", "a"),
        Entry("train/1/1_0.png", 1, "train", "1", "a"),
    ]
    data = Dataset(np.array([breast(1)] * 3), entries)
    across, both, within = images_twice(data, same_images(data.images, ["a"] * 3))[0:3]
    assert (across.kind, across.severity) == ("same_image_across_splits", "leak")
    assert across.detail == "same file, patients 1 and 2"
    assert {both.kind, within.kind} == {"same_image", "same_image_with_both_labels"}
    assert both.severity == within.severity == "warning"


# Appearance


def test_inversion_is_seen_in_the_background() -> None:
    image = breast(5)
    assert not is_inverted(image)
    assert is_inverted(255 - image)
    assert not is_inverted(np.full((SIZE, SIZE), 128, np.uint8))


def test_a_bright_implant_at_the_edge_is_no_inversion() -> None:
    image = breast(5)
    cv2.circle(image, (0, 112), 80, 255, -1)
    assert not is_inverted(image)


@pytest.mark.parametrize("inverted", [False, True])
def test_text_outside_the_breast_is_found_in_both_polarities(inverted: bool) -> None:
    plain, text = breast(6), labelled(breast(6))
    assert not appearance(255 - plain if inverted else plain).marked
    assert appearance(255 - text if inverted else text).marked


def test_a_line_across_the_image_is_a_mark_and_a_second_body_part_is_none() -> None:
    line = breast(6)
    line[:, 200:202] = 120
    assert appearance(line).marked
    arm = breast(6)
    cv2.ellipse(arm, (223, 0), (30, 40), 0, 0, 360, 150, -1)
    assert not appearance(arm).marked


def test_marks_stand_clear_of_the_body() -> None:
    marks, body = marks_and_body(labelled(breast(7)))
    assert marks[:, :150].sum() == 0 and marks[5:25, 160:215].sum() >= 20
    assert not (marks & body).any()


def test_text_alone_is_no_breast() -> None:
    assert appearance(labelled(np.zeros((SIZE, SIZE), np.uint8))).without_breast
    assert not appearance(breast(8)).without_breast


def test_brightness_features_do_not_depend_on_place() -> None:
    image = breast(9)
    shuffled = generator(1, "shuffle").permutation(image.ravel()).reshape(image.shape)
    assert brightness_features(image).shape == (38,)
    np.testing.assert_allclose(brightness_features(image), brightness_features(shuffled), rtol=1e-6)
    features = brightness_features(np.array([[0, 255], [0, 0]], np.uint8))
    assert features[0] == 0.75 and features[31] == 0.25 and features[:32].sum() == 1
    assert features[34] == 0.75 and features[35] == 0.25  # shares of black and of white


def test_a_label_in_the_brightness_is_a_shortcut_and_a_hidden_one_is_none() -> None:
    data = clean(120)
    random = generator(6, "brightness")
    bright = [
        cv2.convertScaleAbs(image, alpha=(1.4 if entry.label else 1) * random.uniform(0.9, 1.1))
        for image, entry in zip(data.images, data.entries, strict=True)
    ]
    auc = shortcut.brightness_baseline(data, np.array([brightness_features(image) for image in bright]), seed=1)
    assert auc.test.low > 0.6 and auc.cross_validated and auc.cross_validated.low > 0.6
    (finding,) = shortcut.intensity_shortcut(auc, 38, 0)
    assert finding.severity == "warning"
    assert f"a ROC AUC of {with_interval(*astuple(auc.cross_validated))} in 5-fold cross-val" in finding.detail
    assert f"over all patients, {with_interval(*astuple(auc.test))} on the test split" in finding.detail
    even = shortcut.brightness_baseline(data, np.array([brightness_features(image) for image in data.images]), seed=1)
    assert even.cross_validated and even.cross_validated.low < 0.5 < even.cross_validated.high
    assert shortcut.intensity_shortcut(even, 38, 0) == []


def test_the_bar_is_cross_validated_over_all_patients_and_not_one_split(warned) -> None:
    """A forest per fold, fitted by hand without the fold's patients, gives the same pooled ROC AUC."""
    data = clean(60)
    features = np.array([brightness_features(image) for image in data.images])
    fold = splits.folds(data.entries, 5, seed=4)
    for patient in np.unique(data.patients):
        assert len(set(fold[data.patients == patient])) == 1
    sizes = [[np.sum((fold == number) & (data.labels == label)) for number in range(5)] for label in (0, 1)]
    assert sizes == [[16] * 5, [8] * 5]
    chances = np.zeros(len(fold))
    for number in range(5):
        known, tested = fold != number, fold == number
        chances[tested] = shortcut.forest_probabilities(features[known], data.labels[known], features[tested], 4)
    baseline = shortcut.brightness_baseline(data, features, seed=4)
    assert baseline.cross_validated is not None
    assert baseline.cross_validated.value == pytest.approx(roc_auc_score(data.labels, chances))
    assert (splits.folds(list(reversed(data.entries)), 5, 4)[::-1] == fold).all()
    metrics = files.read_json(warned[0] / "audit.json")["shortcut"]
    assert metrics["folds"] == 5 and set(metrics["cross_validated_roc_auc"]) == {"value", "low", "high"}
    assert "The bar, ROC AUC of brightness alone: " in warned[1].stdout
    assert "in 5-fold cross-validation over all patients, " in warned[1].stdout


def test_the_bar_says_what_its_folds_could_not_do(tmp_path: Path) -> None:
    data = clean()
    nobody = Dataset(data.images, [replace(entry, patient="") for entry in data.entries])
    _, done = run(nobody, tmp_path)
    assert "(60 images have no patient, so the folds cannot keep patients together)" in done.stdout
    few = [replace(entry, patient="a" if entry.label else entry.patient) for entry in data.entries]
    baseline = shortcut.brightness_baseline(Dataset(data.images, few), np.zeros((60, 38)), seed=1)
    assert baseline.cross_validated is None
    assert shortcut.in_words(baseline, 0).endswith("on the test split; too few patients for a cross-validation")


def test_the_forests_test_predictions_are_kept(warned, leaking: Dataset) -> None:
    rows = predictions.read(warned[0] / "shortcut.csv")
    test = [entry for entry in leaking.entries if entry.split == "test"]
    assert [(row.image, row.patient, row.label) for row in rows] == [
        (entry.image, entry.patient, entry.label) for entry in test
    ]
    auc = files.read_json(warned[0] / "audit.json")["shortcut"]["roc_auc"]["value"]
    assert roc_auc_score([row.label for row in rows], [row.probability for row in rows]) == pytest.approx(auc)
    assert all(row.predicted == (row.probability >= 0.5) for row in rows)


# What a leak does


def test_a_leak_stops_the_pipeline_with_reason_and_ways_on(stopped) -> None:
    place, done = stopped
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for text in (
        "1 of 13 test images and 0 of 13 validation images show a patient who is also in training",
        "1 image is in two splits at once",
        "1 patient is in more than one split: 1\n",
        "train/1/0_0.png and valid/1/0_0.png (same file, patients 0 and 777)",
        "Why it matters",
        "split.by: patient",
        "audit.on_leak: warn",
        "audit.csv",
    ):
        assert text in done.stderr
    assert files.read_json(place / "audit.json")["leak"] == {
        "patients_in_several_splits": 1,
        "test_images_of_training_patients": 1,
        "valid_images_of_training_patients": 0,
        "same_image_across_splits": 1,
    }
    assert files.read_json(place / "gate.json")["leaking"] is True


def test_a_leak_by_copies_alone_does_not_send_the_user_to_split_by_patient(leaking: Dataset) -> None:
    found = images_twice(leaking, same_images(leaking.images, [entry.sha256 for entry in leaking.entries]))
    verdict = leaks.verdict(leaking, found)
    message = leaks.message(verdict, found, Path("audit.csv"), Path("audit"))
    assert "split.by" not in message
    assert "remove one" in message and "audit.on_leak: warn" in message


def test_on_warn_the_leak_goes_on_in_the_gate(stopped, warned) -> None:
    place, done = warned
    assert done.returncode == 0, done.stderr
    gate = files.read_json(place / "gate.json")
    assert gate["sentence"].startswith("LEAKING: 1 of 13 test images")
    assert gate["sentence"] in done.stdout
    assert gate == files.read_json(stopped[0] / "gate.json")


def without_patients(data: Dataset, number: int) -> Dataset:
    """The set without the patients of its first images."""
    unknown = [replace(entry, patient="") if i < number else entry for i, entry in enumerate(data.entries)]
    return Dataset(data.images, unknown)


def test_unknown_patients_cannot_be_checked_and_stop_the_pipeline_in_one_line(tmp_path: Path) -> None:
    place, done = run(without_patients(clean(), 60), tmp_path, "stop")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    for text in (
        "CANNOT BE CHECKED: 60 of 60 images (100\N{NO-BREAK SPACE}%) have no patient",
        "labels.csv",
        "data.patient",
        "on_unknown_patients: warn",
    ):
        assert text in done.stderr
    gate = model_info.read_verdict(place / "gate.json")
    assert (gate.leaking, gate.unchecked, gate.images_without_patient, gate.rank) == (False, True, 60, 1)
    assert "no leak" not in done.stdout + done.stderr
    unknown = {"leaking", "sentence", "unchecked", "images_in_all_splits", "images_without_patient"}
    assert set(files.read_json(place / "gate.json")) == unknown, "a count of 0 would be a claim"


@pytest.mark.parametrize("allowed", [{"on_unknown_patients": "warn", "on_leak": "stop"}, {"on_leak": "warn"}])
def test_one_image_without_a_patient_is_enough_and_goes_on_only_with_its_verdict(
    allowed: dict[str, str], tmp_path: Path
) -> None:
    place, done = run(without_patients(clean(), 1), tmp_path, **allowed)
    assert done.returncode == 0, done.stderr
    sentence = files.read_json(place / "gate.json")["sentence"]
    assert sentence.startswith("CANNOT BE CHECKED: 1 of 60 images (1.7\N{NO-BREAK SPACE}%) have no patient")
    assert sentence in done.stdout and "no leak" not in done.stdout


def test_a_leak_beside_unknown_patients_names_both_and_obeys_on_leak(leaking: Dataset) -> None:
    both = leaks.verdict(without_patients(leaking, 1), leaks.patients_across_splits(leaking))
    assert (both.rank, both.heading) == (2, "LEAKING")
    assert both.sentence.startswith("LEAKING: 1 of 13 test images") and "CANNOT BE CHECKED: 1 of 62" in both.sentence
    for on_leak, on_unknown, stops in (("stop", "warn", True), ("warn", "stop", False)):
        assert leaks.stops(both, Audit(on_leak=on_leak, on_unknown_patients=on_unknown, seed=1)) is stops


def test_the_terminal_names_each_finding_in_words_the_pictures_and_the_setting_that_helps(warned) -> None:
    _, done = warned
    lines = done.stdout.splitlines()
    assert lines[0].endswith("Pictures are in audit, details in audit.csv. Found:")
    assert "  1 test image of a training patient (set split.by: patient)" in lines
    assert "  1 image that is in two splits (list one of them in data.exclude, or give both the same patient)" in lines
    assert any(line.startswith("  validation: ") and "raise split.valid and split.test" in line for line in lines)
    assert "_" not in "".join(lines[1:])


def test_each_kind_of_finding_has_a_noun_with_its_plural() -> None:
    rows = [Finding("inverted", "note", "a"), Finding("marked", "note", "a"), Finding("marked", "note", "b")]
    baseline = shortcut.Baseline(None, Interval(0.5, 0.4, 0.6), [])

    def told(findings: list[Finding]) -> list[str]:
        said = summary.for_terminal(Verdict(leaking=False), findings, baseline, 0, Path("audit.csv"), Path("audit"))
        return said.splitlines()

    bar = f"The bar, ROC AUC of brightness alone: {shortcut.in_words(baseline, 0)}."
    assert told(rows)[1:] == [
        "  1 inverted image (set preprocess.canonical.right_inverted: true)",
        "  2 images with marks outside the breast (set preprocess.canonical.blacken_outside: true)",
        bar,
    ]
    assert told([]) == ["audit: no leak. Nothing else was found.", bar]


def test_the_gate_is_read_back_as_it_was_written(warned, tmp_path: Path) -> None:
    gate = warned[0] / "gate.json"
    verdict = model_info.read_verdict(gate)
    assert (verdict.leaking, verdict.test_images, verdict.same_image_across_splits) == (True, 13, 1)
    files.write_json(tmp_path / "gate.json", verdict.model_dump())
    assert (tmp_path / "gate.json").read_bytes() == gate.read_bytes()
    assert list(verdict.model_dump()) == list(Verdict.model_fields)[:8]
    assert Verdict(leaking=False).model_dump() == {"leaking": False}


def test_a_malformed_gate_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text('{"leaking": "no"}')
    with pytest.raises(UserError, match=r"gate\.json: leaking is 'no'; allowed is a valid boolean"):
        model_info.read_verdict(tmp_path / "gate.json")


def test_findings_are_sorted_by_severity_and_the_files_name_each(warned) -> None:
    rows = files.read_csv(warned[0] / "audit.csv", COLUMNS)
    severities = [SEVERITIES.index(row["severity"]) for row in rows]
    assert severities == sorted(severities)
    assert Counter(row["kind"] for row in rows if row["severity"] == "leak") == {
        "patient_in_several_splits": 1,
        "test_image_of_training_patient": 1,
        "same_image_across_splits": 1,
    }
    drawn = {path.stem for path in (warned[0] / "audit").iterdir()}
    assert drawn == {row["kind"] for row in rows if row["kind"] not in ("small_split", "metadata")} | {"splits"}


def test_metrics_are_nested_scalars(warned) -> None:
    def leaves(value):
        return [leaf for each in value.values() for leaf in leaves(each)] if isinstance(value, dict) else [value]

    metrics = files.read_json(warned[0] / "audit.json")
    assert all(isinstance(leaf, int | float) for leaf in leaves(metrics))
    assert metrics["splits"]["test"]["patients"] == 7
    assert set(metrics["shortcut"]["roc_auc"]) == {"value", "low", "high"}


def test_a_second_run_gives_the_same_bytes(leaking: Dataset, warned, tmp_path: Path) -> None:
    again, _ = run(leaking, tmp_path)
    paths = sorted(path.relative_to(again) for path in again.rglob("*.*") if "prepared" not in path.parts)
    assert len(paths) > 6
    for path in paths:
        assert (again / path).read_bytes() == (warned[0] / path).read_bytes(), path


def test_the_gate_does_not_move_with_findings_that_are_no_leak(leaking: Dataset, warned, tmp_path: Path) -> None:
    images = leaking.images.copy()
    images[7], images[9] = 255 - images[7], labelled(images[9])
    run(Dataset(images, leaking.entries), tmp_path)
    metrics = files.read_json(tmp_path / "audit.json")
    assert sum(metrics["appearance"]["inverted"].values()) == 1
    assert sum(metrics["appearance"]["marked"].values()) == 1
    assert (tmp_path / "gate.json").read_bytes() == (warned[0] / "gate.json").read_bytes()


# Bad input


def test_a_split_without_a_class_is_refused_by_name() -> None:
    data = clean()
    healthy = Dataset(data.images, [replace(e, label=0) if e.split == "test" else e for e in data.entries])
    with pytest.raises(UserError, match=r"test split has no image with label 1 \(cancer\)"):
        split_sizes.refuse_missing_class(healthy)


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    _, done = run(clean(), tmp_path, "ignore")
    assert done.returncode == 1
    assert "audit.on_leak is 'ignore'" in done.stderr


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    write_params(tmp_path)
    done = run_stage("audit", *PATHS, folder=tmp_path)
    assert done.returncode == 1
    assert "prepared/images.npy does not exist" in done.stderr


# Labels by eye


def test_the_labels_by_eye_are_whole(mammograms: Path) -> None:
    rows = files.read_csv(Path(__file__).parent / "labels" / "appearance.csv", ("image", "inverted", "text"))
    assert len({row["image"] for row in rows}) == 200
    names = {path.name for path in mammograms.glob("*/*/*.jpg")}
    assert all(row["image"] in names for row in rows)


@pytest.mark.parametrize("sentences", [1, 4])
def test_the_caption_of_the_histograms_stands_clear_of_their_axis(tmp_path: Path, monkeypatch, sentences: int) -> None:
    drawn = []
    monkeypatch.setattr("matplotlib.pyplot.close", drawn.append)
    data = clean()
    features = np.full((len(data.entries), HISTOGRAM_BINS), 0.1)
    caption = (
        "A random forest without any anatomy reaches a ROC AUC of 0.562 (0.518–0.604) on the test split. " * sentences
    )
    pictures.histograms(tmp_path / "a.png", data, features, caption)
    (figure,) = drawn
    (text,) = figure.texts
    assert text.get_window_extent().y1 < figure.axes[0].xaxis.label.get_window_extent().y0

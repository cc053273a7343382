"""The phantoms: same bytes always, published physics, equal brightness of the classes, defects as asked."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from mammo.core.dataset import SPLITS, Entry
from mammo.core.errors import UserError
from mammo.core.randomness import generator
from mammo.core.settings import Phantoms, Plant
from mammo.reporting import contact_sheets
from mammo.sources.phantom import anatomy, lesions
from mammo.sources.phantom.anatomy import Patient, patient_of
from mammo.sources.phantom.defects import planned
from mammo.sources.phantom.generation import draw, generate

import cv2
import numpy as np
import pytest
import yaml
from conftest import ROOT
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

SMALL = Phantoms(patients=24, seed=5, size=64, cancer_share=0.5, lesions=True, spread=6.0, occult=0.15)
LARGE = SMALL.model_copy(update={"size": 320})


def planting(**defects: float) -> Phantoms:
    return SMALL.model_copy(update={"plant": Plant(**defects)})


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images_of(folder: Path, entries: list[Entry]) -> np.ndarray:
    return np.stack([cv2.imread(str(folder / entry.image), cv2.IMREAD_UNCHANGED) for entry in entries])


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Entry]]:
    """The small set without defects: its folder and entries."""
    folder = tmp_path_factory.mktemp("clean")
    return folder, generate(SMALL, folder, workers=1)


# -- bytes and layout


def test_the_number_of_workers_changes_no_byte(clean, tmp_path):
    folder, entries = clean
    assert generate(SMALL, tmp_path, workers=2) == entries
    assert files_below(tmp_path) == files_below(folder)


def test_the_index_tells_side_and_view_of_every_phantom(clean):
    for entry in clean[1]:
        assert entry.image.endswith(f"_{entry.laterality}_{entry.view}.png")
        assert (entry.laterality in "LR", entry.view in ("CC", "MLO"), entry.laterality_from) == (True, True, "table")


@pytest.fixture
def one_thread():
    """OpenCV as the workers use it."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


@pytest.mark.usefixtures("one_thread")
def test_an_image_is_the_same_wherever_its_arrays_lie_in_memory():
    """OpenCV's distance transform, with which this image was once drawn, differs with its arrays' places."""
    settings = Phantoms.model_validate(yaml.safe_load((ROOT / "params.yaml").read_text())["data"]["phantom"])
    patient = next(one.patient for one in planned(settings) if one.path.endswith("1220_L_MLO.png"))
    random = np.random.default_rng(1)
    seen = set()
    for _ in range(60):
        elsewhere = [np.empty(random.integers(10, 400_000), np.uint8) for _ in range(random.integers(0, 20))]
        image, _ = draw(settings, patient, "L", "MLO")
        seen.add(image.tobytes())
        del elsewhere
    assert len(seen) == 1


def test_more_patients_change_no_image_of_the_others(clean, tmp_path):
    _, entries = clean
    fewer = generate(SMALL.model_copy(update={"patients": 10}), tmp_path, workers=1)
    assert len({entry.patient for entry in fewer}) == 10
    assert set(fewer) < set(entries)


def test_another_seed_gives_other_images(clean, tmp_path):
    _, entries = clean
    others = generate(SMALL.model_copy(update={"seed": 6, "patients": 10}), tmp_path, workers=1)
    assert not {entry.sha256 for entry in others} & {entry.sha256 for entry in entries}


def test_layout_and_entries(clean):
    folder, entries = clean
    assert [entry.image for entry in entries] == sorted(entry.image for entry in entries)
    written = set(files_below(folder))
    assert written == {entry.image for entry in entries} | {f"masks/{entry.image}" for entry in entries}
    for entry in entries:
        split, label, name = entry.image.split("/")
        assert (split, label) == (entry.split, str(entry.label))
        assert name.split("_")[0] == entry.patient
        assert entry.patient.isdigit()
    images = images_of(folder, entries)
    assert images.dtype == np.uint8
    assert images.shape == (len(entries), 64, 64)


def test_a_healthy_patient_gives_four_images_and_one_with_cancer_two(clean):
    _, entries = clean
    images = Counter((entry.patient, entry.label) for entry in entries)
    assert sorted((label, count) for (_, label), count in images.items()) == [(0, 4)] * 12 + [(1, 2)] * 12


def test_both_breasts_add_the_healthy_one_of_patients_with_cancer_and_change_no_other_file(clean, tmp_path):
    """Off unless it is named, as in cross-validation's pretraining, whose bytes stay."""
    folder, entries = clean
    both = generate(SMALL.model_copy(update={"both_breasts": True}), tmp_path, workers=1)
    assert set(entries) < set(both) and files_below(folder).items() < files_below(tmp_path).items()
    ill = {entry.patient for entry in entries if entry.label}
    added = [entry for entry in both if entry not in set(entries)]
    assert Counter(entry.patient for entry in both) == dict.fromkeys({entry.patient for entry in both}, 4)
    assert {entry.patient for entry in added} == ill and {entry.label for entry in added} == {0}
    masks = [cv2.imread(str(tmp_path / "masks" / entry.image), cv2.IMREAD_GRAYSCALE) for entry in added]
    assert not np.any(masks)
    assert not SMALL.both_breasts


def test_another_source_has_another_format_size_and_look_and_its_masks_fit(tmp_path):
    entries = generate(planting(metadata=0.5).model_copy(update={"size": 96}), tmp_path, workers=1)
    moved = [entry for entry in entries if entry.image.endswith(".jpg")]
    assert len({entry.patient for entry in moved}) == 6 and {entry.label for entry in moved} == {1}
    assert min(int(entry.patient) for entry in moved) > 1000 + 24
    for entry in moved:
        image = cv2.imread(str(tmp_path / entry.image), cv2.IMREAD_GRAYSCALE)
        mask = cv2.imread(str((tmp_path / "masks" / entry.image).with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
        assert image.shape == mask.shape == (120, 120) and image[-1, -1] > 200


def test_delivered_splits_share_no_patient_and_hold_both_classes(clean):
    _, entries = clean
    assert set(Counter(patient for patient, _ in {(e.patient, e.split) for e in entries}).values()) == {1}
    assert {(e.split, e.label) for e in entries} == {(split, label) for split in SPLITS for label in (0, 1)}


@pytest.mark.parametrize("share", [0.1, 0.33, 0.5, 0.9])
def test_cancer_share_is_kept(share):
    settings = SMALL.model_copy(update={"cancer_share": share, "patients": 200})
    assert sum(patient_of(settings, index).label for index in range(200)) == pytest.approx(200 * share, abs=0.51)


def test_files_hold_no_time(clean):
    folder, _ = clean
    assert not any(b"tIME" in content or b"tEXt" in content for content in files_below(folder).values())


# -- physics


def beta_of(region: np.ndarray) -> float:
    """Exponent of K / f^beta of a square region, from 0.08 to 0.5 cycles/mm.

    Mean removed, Hann window, radial mean of the power spectrum, straight line through its logarithms. Below that band
    the envelope of the glandular disc adds power; above lies little of the signal.
    """
    size, pitch = len(region), anatomy.FIELD / LARGE.size
    window = np.outer(np.hanning(size), np.hanning(size))
    power = np.abs(np.fft.fft2((region - np.average(region, weights=window)) * window)) ** 2
    ring = np.rint(np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) * size).astype(int).ravel()
    radial = np.bincount(ring, power.ravel()) / np.bincount(ring)
    frequency = np.arange(len(radial)) / (size * pitch)
    band = (frequency >= 0.08) & (frequency <= 0.5)
    return -np.polyfit(np.log(frequency[band]), np.log(radial[band]), 1)[0]


PUBLISHED = [("a", 2.68), ("b", 2.8), ("c", 3.08), ("d", 3.17)]


def twelve_women(density: str) -> list[Patient]:
    return [woman for woman in (patient_of(LARGE, index) for index in range(250)) if woman.density == density][:12]


@pytest.mark.parametrize(("density", "published"), PUBLISHED)
def test_tissue_has_the_published_power_law(density, published):
    """Measured inside craniocaudal breasts (64 mm square behind the nipple) before a mass is added to them."""
    regions = [
        anatomy.breast(generator(9, "test", woman.number), woman, "CC", 320)[0][96:224, 32:160]
        for woman in twelve_women(density)
    ]
    assert np.mean([beta_of(region) for region in regions]) == pytest.approx(published, abs=0.3)


@pytest.mark.parametrize(("density", "published"), PUBLISHED)
def test_finished_images_keep_the_power_law(density, published):
    """The same square of the 8-bit images, with mass, thickness, display curve and noise."""
    regions = [draw(LARGE, woman, woman.side, "CC")[0][96:224, 32:160] for woman in twelve_women(density)]
    assert np.mean([beta_of(region.astype(np.float64)) for region in regions]) == pytest.approx(published, abs=0.3)


def test_densities_come_in_their_shares_in_both_classes():
    women = [patient_of(LARGE, index) for index in range(200)]
    for label in (0, 1):
        found = Counter(woman.density for woman in women if woman.label == label)
        assert found == {"a": 10, "b": 40, "c": 40, "d": 10}


@pytest.mark.parametrize("view", anatomy.VIEWS)
def test_a_breast_hangs_from_the_left_edge_before_a_black_background(view):
    image, _ = draw(LARGE, patient_of(LARGE, 3), "L", view)
    assert image[:, -10:].max() == 0
    assert image[120:200, :60].min() > 20
    assert (image == 0).mean() > 0.2


def test_only_the_oblique_view_shows_the_pectoral_muscle():
    corner = {view: draw(LARGE, patient_of(LARGE, 3), "L", view)[0][:25, :25].mean() for view in anatomy.VIEWS}
    assert corner["CC"] == 0
    assert corner["MLO"] > 80


# -- masses


def test_a_benign_mass_has_profile_and_brightness_of_the_spiculated_one():
    mass = lesions.spiculated_mass(generator(1, "test"), 60.0, 80.0)
    benign = lesions.benign_mass(mass)
    assert lesions.rendered(benign, 320).sum() == pytest.approx(lesions.rendered(mass, 320).sum(), rel=0.01)
    np.testing.assert_allclose(benign.polar.mean(0), mass.polar.mean(0), rtol=1e-5)
    assert np.ptp(benign.polar, axis=0).max() == 0
    assert np.ptp(mass.polar, axis=0).max() > 0.5


def test_masks_lie_on_the_cancers():
    for woman in (patient_of(LARGE, index) for index in range(24)):
        for view in anatomy.VIEWS:
            image, mask = draw(LARGE, woman, woman.side, view)
            assert set(np.unique(mask)) == ({0, 255} if woman.label else {0})
            if woman.label:
                pixels = np.argwhere(mask)
                away = np.median(pixels, axis=0) * anatomy.FIELD / 320 - lesions.PLACE[::-1]
                assert np.abs(away).max() < LARGE.spread + 5
                around = cv2.dilate(mask, np.ones((25, 25), np.uint8)) - mask
                assert image[mask > 0].mean() > image[around > 0].mean() + 10


def test_spread_zero_puts_every_mass_in_one_place():
    settings = LARGE.model_copy(update={"spread": 0.0})
    women = [woman for woman in (patient_of(settings, index) for index in range(12)) if woman.label]
    masks = [draw(settings, woman, woman.side, "CC")[1] for woman in women]
    assert all(mask[round(lesions.PLACE[1] * 2), round(lesions.PLACE[0] * 2)] for mask in masks)


def test_occult_cancers_look_benign_and_keep_their_mask():
    everyone = LARGE.model_copy(update={"occult": 1.0})
    woman = next(woman for woman in (patient_of(LARGE, index) for index in range(9)) if woman.label)
    image, mask = draw(everyone, woman, woman.side, "CC")
    np.testing.assert_array_equal(image, draw(everyone, replace(woman, label=0), woman.side, "CC")[0])
    assert mask.any()


def test_without_lesions_class_1_is_drawn_as_class_0():
    settings = LARGE.model_copy(update={"lesions": False})
    woman = next(woman for woman in (patient_of(settings, index) for index in range(9)) if woman.label)
    image, mask = draw(settings, woman, woman.side, "CC")
    assert not mask.any()
    np.testing.assert_array_equal(image, draw(LARGE, replace(woman, label=0), woman.side, "CC")[0])
    assert (image != draw(LARGE, woman, woman.side, "CC")[0]).any()


# -- what brightness gives away


def intensity_features(images: np.ndarray) -> np.ndarray:
    """Histogram, mean, spread, shares of black and white and percentiles of each image: no anatomy. (n, 46)"""
    rows = []
    for image in images:
        breast = image[image > 10]
        rows.append(
            [
                *np.bincount(image.ravel() >> 3, minlength=32) / image.size,
                *(image.mean(), image.std(), (image == 0).mean(), (image > 200).mean(), image.max()),
                *(breast.mean(), breast.std()),
                *np.percentile(breast, [1, 5, 25, 50, 75, 95, 99]),
            ]
        )
    return np.array(rows)


def forest_auc(images: np.ndarray, entries: list[Entry]) -> float:
    """ROC AUC of a random forest on intensity figures, in five folds that share no patient."""
    labels = np.array([entry.label for entry in entries])
    patients = np.array([entry.patient for entry in entries])
    forest = RandomForestClassifier(200, min_samples_leaf=3, class_weight="balanced", random_state=0)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    figures = intensity_features(images)
    scores = cross_val_predict(forest, figures, labels, groups=patients, cv=folds, method="predict_proba")[:, 1]
    return roc_auc_score(labels, scores)


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, list[Entry]]:
    """Images (n, 128, 128) and entries of 100 patients."""
    folder = tmp_path_factory.mktemp("hundred")
    entries = generate(SMALL.model_copy(update={"patients": 100, "size": 128}), folder, workers=1)
    return images_of(folder, entries), entries


def test_intensity_does_not_tell_the_classes_apart(hundred):
    images, entries = hundred
    assert forest_auc(images, entries) < 0.65


def test_the_forest_would_notice_an_exposure_that_tells_them_apart(hundred):
    images, entries = hundred
    bright = np.array([entry.label for entry in entries])[:, None, None] == 1
    assert forest_auc(np.where(bright, cv2.convertScaleAbs(images, alpha=1.4), images), entries) > 0.8


@pytest.mark.proof
def test_intensity_does_not_tell_the_classes_of_the_committed_set_apart(tmp_path):
    params = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
    entries = generate(Phantoms.model_validate(params["data"]["phantom"]), tmp_path, workers=2)
    assert forest_auc(images_of(tmp_path, entries), entries) < 0.65


def test_both_classes_are_equally_bright(hundred):
    images, entries = hundred
    brightness = {}
    for image, entry in zip(images, entries, strict=True):
        brightness.setdefault((entry.label, entry.patient), []).append(image.mean())
    classes = [np.array([np.mean(b) for (label, _), b in brightness.items() if label == wanted]) for wanted in (0, 1)]
    error = np.sqrt(sum(of_class.var(ddof=1) / len(of_class) for of_class in classes))
    assert abs(classes[0].mean() - classes[1].mean()) < 2 * error


# -- planted defects


def thumbnails(images: np.ndarray) -> np.ndarray:
    """64×64 thumbnails of mean 0 and length 1, (n, 4096)."""
    small = np.stack([cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).ravel() for image in images])
    small = small.astype(np.float64) - small.mean(1, keepdims=True)
    return small / np.linalg.norm(small, axis=1, keepdims=True)


def changed(clean_entries: list[Entry], entries: list[Entry]) -> list[Entry]:
    """Entries whose path or bytes the clean set does not have."""
    return sorted(set(entries) - set(clean_entries), key=lambda entry: entry.image)


def several_splits(entries: list[Entry]) -> list[str]:
    counts = Counter(patient for patient, _ in {(entry.patient, entry.split) for entry in entries})
    return [patient for patient, count in counts.items() if count > 1]


def test_nothing_planted_means_no_defect(clean):
    folder, entries = clean
    assert several_splits(entries) == []
    assert max(Counter(entry.sha256 for entry in entries).values()) == 1
    images = images_of(folder, entries)
    assert (images[:, :, -3:] == 0).all()
    correlation = np.triu(thumbnails(images) @ thumbnails(images).T, 1)
    assert correlation.max() < 0.995


def test_leaked_patients(clean, tmp_path):
    entries = generate(planting(leaked_patients=3), tmp_path, workers=1)
    assert len(several_splits(entries)) == 3
    assert {entry.split for entry in entries if entry.patient in several_splits(entries)} == {"train", "test"}
    assert sorted(entry.sha256 for entry in entries) == sorted(entry.sha256 for entry in clean[1])


def test_duplicates(clean, tmp_path):
    entries = generate(planting(duplicates=3), tmp_path, workers=1)
    added = changed(clean[1], entries)
    assert len(entries) == len(clean[1]) + 3 == len(set(clean[1]) & set(entries)) + 3
    for entry in added:
        (original,) = [other for other in clean[1] if other.sha256 == entry.sha256]
        assert (original.split, entry.split, original.label) == ("train", "test", entry.label)
        assert original.patient != entry.patient


def test_near_duplicates(clean, tmp_path):
    entries = generate(planting(near_duplicates=3), tmp_path, workers=1)
    added = changed(clean[1], entries)
    assert len(entries) == len(clean[1]) + 3 == len(set(clean[1]) & set(entries)) + 3
    correlation = thumbnails(images_of(tmp_path, added)) @ thumbnails(images_of(clean[0], clean[1])).T
    assert (correlation > 0.995).sum(1).tolist() == [1, 1, 1]
    originals = [clean[1][place] for place in correlation.argmax(1)]
    assert [entry.label for entry in originals] == [entry.label for entry in added]
    assert {(entry.split) for entry in originals} == {"train"}
    assert {(entry.split) for entry in added} == {"test"}


def test_contradictions(clean, tmp_path):
    entries = generate(planting(contradictions=3), tmp_path, workers=1)
    labels = {entry.sha256: set() for entry in entries}
    for entry in entries:
        labels[entry.sha256].add(entry.label)
    assert sum(found == {0, 1} for found in labels.values()) == 3
    assert len(entries) == len(clean[1]) + 3
    assert several_splits(entries) == []


def test_inverted(clean, tmp_path):
    entries = generate(planting(inverted=3), tmp_path, workers=1)
    hit = changed(clean[1], entries)
    assert len(hit) == 3 == len({entry.patient for entry in hit})
    np.testing.assert_array_equal(images_of(tmp_path, hit), 255 - images_of(clean[0], hit))


def test_burned_in_text(clean, tmp_path):
    entries = generate(planting(burned_in_text=3), tmp_path, workers=1)
    hit = changed(clean[1], entries)
    assert len(hit) == 3 == len({entry.patient for entry in hit})
    with_text, without = images_of(tmp_path, hit), images_of(clean[0], hit)
    assert (with_text[:, :12, 32:].max((1, 2)) > 100).all()
    np.testing.assert_array_equal(with_text[:, 12:], without[:, 12:])


def test_shortcut_changes_class_1_alone(clean, tmp_path):
    entries = generate(planting(shortcut=0.5), tmp_path, workers=1)
    hit = changed(clean[1], entries)
    assert {entry.label for entry in hit} == {1}
    assert len(hit) == sum(entry.label for entry in clean[1])
    assert images_of(tmp_path, hit).mean() == pytest.approx(1.2 * images_of(clean[0], hit).mean(), rel=0.03)


def test_no_patient_carries_two_defects():
    defects = {"leaked_patients": 2, "duplicates": 2, "near_duplicates": 2, "contradictions": 2}
    settings = planting(**defects, inverted=4, burned_in_text=4)
    before = {(picture.path, picture.defect) for picture in planned(SMALL)}
    now = [picture for picture in planned(settings) if (picture.path, picture.defect) not in before]
    assert len(now) == 16 == len({picture.patient.number for picture in now})
    kinds = Counter(picture.defect for picture in now)
    assert (kinds["inverted"], kinds["burned_in_text"], kinds["near_duplicate"]) == (4, 4, 2)


def test_more_defects_than_patients_are_refused():
    with pytest.raises(UserError, match=r"data\.phantom\.plant\.inverted is 25, but only 24 patients"):
        planned(planting(inverted=25))


# -- the picture for readers


def test_the_contact_sheet_repeats_to_the_byte(tmp_path):
    for name in ("one.png", "two.png"):
        contact_sheets.draw_phantoms(SMALL, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert cv2.imread(str(tmp_path / "one.png")).shape[0] > 600

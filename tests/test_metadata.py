"""Metadata that give the label away: planted and found, and nothing found where nothing is."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from mammo.auditing import metadata, odd_scans
from mammo.core import dataset, files, parallel, splits
from mammo.core.dataset import Dataset, Delivered, Entry
from mammo.core.randomness import generator
from mammo.core.settings import Canonical, Phantoms, Plant, Preprocess, Split
from mammo.imaging import prepare
from mammo.imaging.appearance import Appearance
from mammo.imaging.delivered import of_image
from mammo.imaging.scanned import Properties
from mammo.scoring import Bootstrap, Cases, against_chance
from mammo.sources.phantom import generate

import cv2
import numpy as np
import pytest
from conftest import run_stage, write_params
from sklearn.metrics import roc_auc_score

NAMES = [
    "patient_number",
    "images_of_patient",
    "file_order",
    "file_size",
    "pixel_size",
    "encoding",
    "marked",
    "inverted",
    "sharpness",
]
SPLIT = Split(by="patient", seed=1, valid=0.2, test=0.2)
PREPROCESS = Preprocess(size=[224, 224], on_unreadable="stop", canonical=Canonical())


def phantoms(folder: Path, patients: int = 30, seed: int = 1, both: bool = True, planted: float = 0.0) -> Path:
    """The folder of a prepared set of phantoms."""
    plant = Plant(metadata=planted)
    settings = Phantoms(
        patients=patients,
        seed=seed,
        size=96,
        cancer_share=0.5,
        lesions=True,
        spread=4.0,
        both_breasts=both,
        plant=plant,
    )
    raw, prepared = folder / "raw", folder / "prepared"
    raw.mkdir(parents=True)
    prepared.mkdir()
    entries = generate(settings, raw, 1 if patients < 100 else parallel.cores())
    dataset.write_index(prepared, splits.assign(prepare.decode_all(raw, entries, PREPROCESS, prepared), SPLIT))
    dataset.write_about(prepared, dataset.About(source="phantom", canonical=Canonical(), images_without_patient=0))
    return prepared


def told(prepared: Path) -> dict[str, metadata.Separation | None]:
    """What each property tells of the set in a folder."""
    data = dataset.load(prepared)
    appearances, _ = odd_scans.examine(data.images)
    return metadata.separations(data, dataset.read_delivered(prepared), appearances, seed=1)


def warned(found: dict[str, metadata.Separation | None]) -> set[str]:
    return {name for name, p in metadata.corrected(found).items() if p < metadata.SIGNIFICANT}


# Found


@pytest.mark.proof
def test_another_source_of_the_cancers_is_found_in_every_property(tmp_path: Path) -> None:
    prepared = phantoms(tmp_path, planted=1.0)
    write_params(tmp_path, audit={"on_leak": "warn"})
    outputs = ("gate.json", "audit.json", "audit.csv", "shortcut.csv", "pictures")
    done = run_stage("audit", "prepared", *outputs, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    content = files.read_json(tmp_path / "audit.json")["metadata"]
    assert list(content) == NAMES
    assert all(entry["value"] == 1 and entry["p_holm"] < 0.05 for entry in content.values())
    higher = {name for name, entry in content.items() if entry["higher_with_cancer"]}
    assert higher == set(NAMES) - {"images_of_patient", "file_size", "sharpness"}
    in_pixels = {name for name, entry in content.items() if entry["pixels_can_carry_it"]}
    assert set(NAMES) - in_pixels == {"patient_number", "images_of_patient", "file_order"}
    assert {name: entry["cases"] for name, entry in content.items()} == {
        name: 30 if name in ("patient_number", "images_of_patient") else 90 for name in NAMES
    }
    rows = [
        row
        for row in files.read_csv(tmp_path / "audit.csv", ("kind", "severity", "detail"))
        if row["kind"] == "metadata"
    ]
    assert len(rows) == 9 and {row["severity"] for row in rows} == {"warning"}
    said = done.stdout
    for name in ("patient number", "number of images of the patient"):
        assert f"  the label can be told by {name} alone: ROC AUC 1.000" in said
    assert len(list(prepared.glob("*.csv"))) == 2


def test_one_breast_of_each_patient_with_cancer_is_found_as_the_number_of_her_images(tmp_path: Path) -> None:
    found = told(phantoms(tmp_path, both=False))
    assert warned(found) == {"images_of_patient"}
    (finding,) = metadata.findings(found)
    assert finding.detail.startswith("the label can be told by number of images of the patient alone: ROC AUC 1.000 (")
    assert "lower with cancer; the pixels cannot carry it, but a score per patient" in finding.detail


@pytest.mark.parametrize(
    "name", ["file_size", "pixel_size", "encoding", "marked", "inverted", "sharpness", "file_order"]
)
def test_a_single_planted_property_is_found_alone(name: str) -> None:
    found = separated(7, name)
    assert warned(found) == {name}
    assert found[name].higher_with_cancer


@cache
def without_images(patients: int, seed: int) -> tuple[Dataset, np.ndarray]:
    """Entries of patients with two or three images each, every second patient with cancer; and random numbers."""
    random = generator(seed, "metadata")
    entries = [
        Entry(f"train/{patient % 2}/{view}{int(random.integers(10**8))}.png", patient % 2, "train", f"{patient}", "")
        for patient in random.permutation(patients).tolist()
        for view in range(int(random.integers(2, 4)))
    ]
    return Dataset(np.empty((len(entries), 0, 0), np.uint8), entries), random.random((6, len(entries)))


def separated(seed: int, planted: str = "", patients: int = 80) -> dict[str, metadata.Separation | None]:
    """What chance properties tell of chance labels, but for the `planted` one, which is another in half of class 1."""
    data, chance = without_images(patients, seed)
    told = (data.labels == 1) & (chance[5] < 0.5)
    shift = dict.fromkeys(NAMES, np.zeros(len(told), int)) | {planted: told.astype(int)}
    if planted == "file_order":
        entries = [
            replace(entry, image=f"{entry.image[:8]}{9 * one}{entry.image[8:]}")
            for entry, one in zip(data.entries, told, strict=True)
        ]
        data = Dataset(data.images, entries)
    rows = [
        Delivered(
            entry.image,
            5000 + int(900 * one[0]) + 900 * size,
            64,
            64 + int(9 * one[1]) + 9 * side,
            f"JPEG L {int(4 * one[2]) + 4 * kind}",
        )
        for entry, one, size, side, kind in zip(
            data.entries, chance.T, shift["file_size"], shift["pixel_size"], shift["encoding"], strict=True
        )
    ]
    traits = [
        Appearance(bool(inverted or one[3] < 0.1), bool(marked or one[4] < 0.1), 0.5, one[3] + sharp)
        for one, inverted, marked, sharp in zip(
            chance.T, shift["inverted"], shift["marked"], shift["sharpness"], strict=True
        )
    ]
    return metadata.separations(data, rows, traits, seed)


# Not found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_found_in_clean_phantoms(seed: int, tmp_path: Path) -> None:
    found = told(phantoms(tmp_path, patients=24, seed=seed))
    assert warned(found) == set() and metadata.findings(found) == []
    assert found["file_size"].roc_auc.value == 0.5  # uncompressed: the spicules of a cancer do not show


def test_a_warning_by_chance_is_rare_whatever_the_number_of_properties() -> None:
    sets = [separated(seed) for seed in range(100, 140)]
    assert sum(bool(warned(found)) for found in sets) <= 5  # 2 expected; more than 5 has a probability below 2 %
    assert sum(any(one.p < 0.05 for one in found.values()) for found in sets) > 5  # without the correction


def test_a_property_that_is_fitted_is_not_fitted_to_itself() -> None:
    """One encoding per image would tell every label; fitted on the other folds, it tells none."""
    data, _ = without_images(80, 3)
    rows = [Delivered(entry.image, 1, 1, 1, entry.image) for entry in data.entries]
    found = metadata.separations(data, rows, [Appearance(False, False, 0.5, 1.0)] * len(rows), 1)
    assert found["encoding"].roc_auc == found["sharpness"].roc_auc
    assert found["encoding"].roc_auc.value == 0.5 and found["encoding"].p == 1


# What a score is


def test_the_direction_is_told_and_costs_nothing() -> None:
    """The interval is two-sided: reflecting the values reflects the interval, and p stays."""
    data, chance = without_images(80, 5)
    values = chance[0] - 0.4 * data.labels
    down = metadata._separation(values, data.labels, data.patients, 1)
    up = metadata._separation(-values, data.labels, data.patients, 1)
    assert (down.higher_with_cancer, up.higher_with_cancer) == (False, True)
    assert (down.roc_auc.value, down.p) == pytest.approx((up.roc_auc.value, up.p))
    assert up.roc_auc.value == pytest.approx(roc_auc_score(data.labels, -values))
    assert (down.roc_auc.low, down.roc_auc.high) == pytest.approx((up.roc_auc.low, up.roc_auc.high), abs=0.01)
    even = metadata._separation(chance[1], data.labels, data.patients, 1)
    assert even.roc_auc.low < 0.5 <= even.roc_auc.value


def test_intervals_are_over_patients() -> None:
    """Each image ten times tells no more than once."""
    data, chance = without_images(60, 9)
    values, tenfold = chance[0], np.arange(len(data.labels)).repeat(10)
    once, p = against_chance(Cases(data.labels, values, data.patients), Bootstrap(1))
    many, p_many = against_chance(Cases(data.labels[tenfold], values[tenfold], data.patients[tenfold]), Bootstrap(1))
    assert (many.low, many.high, p_many) == pytest.approx((once.low, once.high, p))


def test_patient_numbers_are_in_natural_order_and_folders_do_not_count() -> None:
    assert metadata._ranked(["P_10", "P_9", "p_9", "P_100", "P_10"]).tolist() == [2, 0, 1, 3, 2]
    data, _ = without_images(40, 1)
    named = [replace(entry, image=f"train/{entry.label}/same.png") for entry in data.entries]
    rows = [Delivered(entry.image, 1, 1, 1, "PNG L") for entry in named]
    found = metadata.separations(Dataset(data.images, named), rows, [Appearance(False, False, 0.5, 1.0)] * len(rows), 1)
    assert found["file_order"].p == 1  # the folder of the class is not part of the name


def test_what_is_not_known_is_left_out_and_counted_or_cannot_be_checked() -> None:
    data, _ = without_images(40, 1)
    rows = [Delivered(entry.image, 1, 1, 1, "PNG L") for entry in data.entries]
    traits = [Appearance(False, False, 0.5, 1.0)] * len(rows)
    half = Dataset(data.images, [replace(one, patient=one.patient * (int(one.patient) < 20)) for one in data.entries])
    assert metadata.separations(half, rows, traits, 1)["patient_number"].cases == 20
    nobody = Dataset(data.images, [replace(one, patient="") for one in data.entries])
    content = metadata.as_metrics(metadata.separations(nobody, rows, traits, 1))
    assert content["patient_number"] == content["images_of_patient"] == {"pixels_can_carry_it": False, "cases": 0}


# The file as delivered


def test_format_size_and_tables_are_those_of_the_file(tmp_path: Path) -> None:
    image = generator(1, "image").integers(0, 255, (50, 70), np.uint8)
    for name, how in {
        "a.png": (),
        "b.jpg": (cv2.IMWRITE_JPEG_QUALITY, 90),
        "c.jpg": (cv2.IMWRITE_JPEG_QUALITY, 80),
    }.items():
        cv2.imwrite(str(tmp_path / name), image, how)
    a, b, c = (of_image((tmp_path / name).read_bytes()) for name in ("a.png", "b.jpg", "c.jpg"))
    assert a == Properties((tmp_path / "a.png").stat().st_size, 50, 70, "PNG L")
    assert b.encoding.startswith("JPEG L ") and c.encoding.startswith("JPEG L ") and b.encoding != c.encoding
    cv2.imwrite(str(tmp_path / "d.jpg"), 255 - image, (cv2.IMWRITE_JPEG_QUALITY, 90))
    assert of_image((tmp_path / "d.jpg").read_bytes()).encoding == b.encoding


@pytest.mark.proof
def test_nothing_is_found_in_forty_clean_sets_of_phantoms(tmp_path: Path) -> None:
    found = [told(phantoms(tmp_path / str(seed), patients=60, seed=seed)) for seed in range(1, 41)]
    alarms = [sorted(warned(one)) for one in found if warned(one)]
    print(f"\n{len(alarms)} of 40 clean sets with a warning: {alarms}")
    assert len(alarms) <= 5

"""Every image decoded into one array; patients assigned to splits; nothing unreadable passed over in silence."""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from mammo.core import dataset
from mammo.core.dataset import About, Entry
from mammo.core.errors import UserError
from mammo.core.settings import Canonical, Split
from mammo.core.splits import assign
from mammo.imaging import images

import cv2
import numpy as np
import pytest
from conftest import run_stage, write_params

PATHS = ("data/raw", "data/prepared", "metrics/preprocess.json")
BY_PATIENT = Split(by="patient", seed=1, valid=0.2, test=0.2)


def write_raw(folder: Path, patients: int = 30, split: str | None = None) -> list[Entry]:
    random = np.random.default_rng(3)
    entries = []
    for patient in range(patients):
        name = split if split is not None else ("train", "valid", "test")[patient // 2 % 3]
        for view in ("CC", "MLO"):
            path = f"{name or 'train'}/{patient % 2}/{patient:03d}_{view}.png"
            target = folder / "data/raw" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), random.integers(0, 256, (80, 70), dtype=np.uint8))
            told = Entry(path, patient % 2, name, f"{patient:03d}", "0" * 64)
            entries.append(replace(told, laterality="L", laterality_from="table"))
    dataset.write_index(folder / "data/raw", entries)
    return entries


def write_settings(folder: Path, by: str = "patient", on_unreadable: str = "stop") -> None:
    write_params(
        folder,
        split={"by": by, "seed": 1, "valid": 0.2, "test": 0.2},
        preprocess={"size": [48, 40], "on_unreadable": on_unreadable},
    )


def synthetic_entries(patients: int, start: int = 0) -> list[Entry]:
    """Patients with one to five images, a third of them with cancer."""
    return [
        Entry(f"train/{int(patient % 3 == 0)}/{patient}_{image}.png", int(patient % 3 == 0), "train", str(patient), "")
        for patient in range(start, start + patients)
        for image in range(1 + patient % 5)
    ]


def test_images_and_index_stand_in_the_same_order(tmp_path: Path) -> None:
    entries = write_raw(tmp_path)
    write_settings(tmp_path, by="folder")
    done = run_stage("preprocess", *PATHS, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    data = dataset.load(tmp_path / "data/prepared")
    assert data.entries == entries
    assert data.images.shape == (60, 48, 40)
    assert data.images.dtype == np.uint8
    for position, entry in enumerate(entries):
        assert (data.images[position] == images.read(tmp_path / "data/raw" / entry.image, (48, 40))).all()
    counts = json.loads((tmp_path / "metrics/preprocess.json").read_text())
    assert counts["train"] == {"healthy": 10, "cancer": 10, "patients": 10}
    assert counts["unreadable"] == {"skipped": 0}


def test_masks_follow_their_images(tmp_path: Path) -> None:
    entries = write_raw(tmp_path)
    write_settings(tmp_path, by="folder")
    mask = np.zeros((80, 70), np.uint8)
    mask[20:40, 35:70] = 255
    path = tmp_path / "data/raw/masks" / entries[3].image
    path.parent.mkdir(parents=True)
    cv2.imwrite(str(path), mask)
    assert run_stage("preprocess", *PATHS, folder=tmp_path).returncode == 0
    masks = np.load(tmp_path / "data/prepared/masks.npy")
    assert masks.shape == (60, 48, 40)
    assert np.flatnonzero(masks.any(axis=(1, 2))).tolist() == [3]
    rows, columns = np.nonzero(masks[3])
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (12, 24, 20, 40)
    assert set(np.unique(masks)) == {0, 255}


def test_later_stages_are_told_of_the_source_the_canonical_steps_and_unknown_patients(tmp_path: Path) -> None:
    entries = write_raw(tmp_path)
    dataset.write_index(tmp_path / "data/raw", [*entries[:-1], replace(entries[-1], patient="")])
    write_params(tmp_path, split={"by": "folder"}, preprocess={"canonical": {"crop": True}})
    assert run_stage("preprocess", *PATHS, folder=tmp_path).returncode == 0
    expected = About(source="folder", canonical=Canonical(crop=True), images_without_patient=1)
    assert dataset.read_about(tmp_path / "data/prepared") == expected


def test_excluded_images_are_left_out_counted_and_named(tmp_path: Path) -> None:
    entries = write_raw(tmp_path)
    out = [entries[5].image, entries[2].image]
    spoilt = tmp_path / "data/raw" / entries[5].image
    spoilt.write_bytes(b"")  # an image that cannot be read may be the reason
    write_params(tmp_path, data={"exclude": out}, split={"by": "folder"}, preprocess={"size": [48, 40]})
    done = run_stage("preprocess", *PATHS, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    data = dataset.load(tmp_path / "data/prepared")
    assert data.entries == [entry for entry in entries if entry.image not in out] and len(data.images) == 58
    assert dataset.read_about(tmp_path / "data/prepared").excluded == sorted(out)
    assert json.loads((tmp_path / "metrics/preprocess.json").read_text())["excluded"] == {"images": 2}
    assert f"preprocess: 2 left out by data.exclude: {', '.join(sorted(out))}\n" in done.stdout


def test_an_excluded_name_that_matches_nothing_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    entries = write_raw(tmp_path)
    write_params(tmp_path, data={"exclude": [entries[0].image, "train/0/000_MOL.png"]})
    done = run_stage("preprocess", *PATHS, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "preprocess: data.exclude: there is no image 'train/0/000_MOL.png' in data/raw/index.csv; "
        "the nearest is 'train/0/000_MLO.png'\n"
    )
    assert not (tmp_path / "data/prepared").exists()


def test_a_delivered_split_that_is_replaced_is_said_with_both_sizes(tmp_path: Path) -> None:
    write_raw(tmp_path)
    write_settings(tmp_path)
    done = run_stage("preprocess", *PATHS, folder=tmp_path)
    assert "the split as delivered (20 training, 20 validation, 20 test) was replaced" in done.stdout
    assert "split.by: folder keeps it" in done.stdout
    counts = json.loads((tmp_path / "metrics/preprocess.json").read_text())
    assert counts["delivered_split"]["valid"] == {"healthy": 10, "cancer": 10, "patients": 10}
    assert counts["valid"] == {"healthy": 6, "cancer": 6, "patients": 6}
    for settings in ({"by": "folder"}, None):
        write_params(tmp_path, **({"split": settings} if settings else {"data": {"source": "phantom"}}))
        done = run_stage("preprocess", *PATHS, folder=tmp_path)
        assert "replaced" not in done.stdout
        assert "delivered_split" not in json.loads((tmp_path / "metrics/preprocess.json").read_text())


def spoil(folder: Path, entries: list[Entry]) -> dict[str, str]:
    """Damage four files; the reason expected for each."""
    raw = folder / "data/raw"
    (raw / entries[0].image).write_bytes(b"")
    (raw / entries[7].image).write_bytes((raw / entries[7].image).read_bytes()[:300])
    (raw / entries[9].image).write_text("not an image")
    (raw / entries[11].image).unlink()
    reasons = ("is empty", "is damaged", "is not a JPEG", "cannot be opened")
    return {entries[position].image: reason for position, reason in zip((0, 7, 9, 11), reasons, strict=True)}


def test_unreadable_files_stop_the_stage_and_are_all_named(tmp_path: Path) -> None:
    expected = spoil(tmp_path, write_raw(tmp_path))
    write_settings(tmp_path)
    done = run_stage("preprocess", *PATHS, folder=tmp_path)
    assert done.returncode == 1
    assert "4 images cannot be read" in done.stderr
    assert "preprocess.on_unreadable: skip" in done.stderr
    for image, reason in expected.items():
        assert f"{image} {reason}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data/prepared").exists()


def test_skipping_goes_on_without_them_and_counts_them(tmp_path: Path) -> None:
    entries = write_raw(tmp_path)
    expected = spoil(tmp_path, entries)
    write_settings(tmp_path, by="folder", on_unreadable="skip")
    done = run_stage("preprocess", *PATHS, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    data = dataset.load(tmp_path / "data/prepared")
    assert data.entries == [entry for entry in entries if entry.image not in expected]
    for position, entry in enumerate(data.entries):
        assert (data.images[position] == images.read(tmp_path / "data/raw" / entry.image, (48, 40))).all()
    assert json.loads((tmp_path / "metrics/preprocess.json").read_text())["unreadable"] == {"skipped": 4}
    for image in expected:
        assert image in done.stdout
    assert sorted(path.name for path in (tmp_path / "data/prepared").iterdir()) == [
        "about.json",
        "files.csv",
        "images.npy",
        "index.csv",
    ]


def test_the_same_bytes_on_one_core_and_two(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    from conftest import ROOT

    write_raw(tmp_path)
    write_settings(tmp_path)
    results = []
    for cores in ({min(os.sched_getaffinity(0))}, os.sched_getaffinity(0)):
        subprocess.run(
            [sys.executable, ROOT / "stages/preprocess.py", *PATHS],
            cwd=tmp_path,
            preexec_fn=lambda cores=cores: os.sched_setaffinity(0, cores),
            check=True,
        )
        results.append({path.name: path.read_bytes() for path in (tmp_path / "data/prepared").iterdir()})
    assert results[0] == results[1]


def test_no_patient_is_in_two_splits_and_both_classes_are_shared_out() -> None:
    assigned = assign(synthetic_entries(300), BY_PATIENT)
    splits = defaultdict(set)
    for entry in assigned:
        splits[entry.patient].add(entry.split)
    assert all(len(found) == 1 for found in splits.values())
    patients = Counter((next(iter(found)), int(patient) % 3 == 0) for patient, found in splits.items())
    assert patients == {
        ("train", True): 60,
        ("train", False): 120,
        ("valid", True): 20,
        ("valid", False): 40,
        ("test", True): 20,
        ("test", False): 40,
    }


def test_the_split_depends_on_neither_order_nor_other_files_but_on_the_seed() -> None:
    entries = synthetic_entries(200)
    forward = {entry.image: entry.split for entry in assign(entries, BY_PATIENT)}
    backward = {entry.image: entry.split for entry in assign(entries[::-1], BY_PATIENT)}
    other = {entry.image: entry.split for entry in assign(entries, BY_PATIENT.model_copy(update={"seed": 2}))}
    assert forward == backward
    assert forward != other


def test_added_patients_move_few_of_the_others() -> None:
    before = {entry.patient: entry.split for entry in assign(synthetic_entries(600), BY_PATIENT)}
    after = {entry.patient: entry.split for entry in assign(synthetic_entries(660), BY_PATIENT)}
    moved = [patient for patient in before if after[patient] != before[patient]]
    assert len(moved) <= 0.03 * len(before)


def test_an_image_without_a_patient_is_its_own() -> None:
    entries = [Entry(f"train/{n % 2}/scan{n}.png", n % 2, "train", "", "") for n in range(40)]
    assert Counter(entry.split for entry in assign(entries, BY_PATIENT)) == {
        "train": 24,
        "valid": 8,
        "test": 8,
    }


def test_a_delivered_split_is_kept_or_asked_for(tmp_path: Path) -> None:
    by_folder = BY_PATIENT.model_copy(update={"by": "folder"})
    entries = write_raw(tmp_path)
    assert assign(entries, by_folder) == entries
    with pytest.raises(UserError, match=r"delivered without a split: set split\.by: patient"):
        assign([Entry("train/0/a.png", 0, "", "", "")], by_folder)


def test_a_split_that_would_lack_a_class_is_refused_by_name() -> None:
    healthy = [entry for entry in synthetic_entries(60) if entry.label == 0]
    with pytest.raises(UserError, match="the training split has no cancerous image"):
        assign(healthy, BY_PATIENT)

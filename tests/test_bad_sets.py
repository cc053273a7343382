"""Bad input of described sets: each case is a line that names file, column, row and number, and what to do."""

import contextlib
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mammo.core import set_description, stage
from mammo.sources.described.understanding import Understood, understand

import described
import download as download_stage
import openpyxl
import pytest
import yaml
from miniature import ROOT, change

SETS = ROOT / "data/sets"
HEADER = ["patient_id", "image_id", "laterality", "view", "cancer", "age", "split"]
DESCRIPTION: dict[str, Any] = {
    "title": "A set of a test",
    "address": "https://example.org",
    "licence": "CC0",
    "citation": "Nobody",
    "rows": [{"file": "list.csv"}],
    "images": {"path": "scans/{patient_id}/{image_id}.dcm"},
    "patient": {"column": "patient_id"},
    "laterality": {"column": "laterality", "values": {"L": ["L"], "R": ["R"]}},
    "view": {"column": "view"},
    "label": {"column": "cancer", "cancer": [1], "healthy": [0]},
    "split": {"column": "split", "values": {"train": ["training"], "test": ["test"]}},
    "groups": {"age": {"column": "age", "bands": [50, 60]}},
}
Rows = list[list[Any]]


def rows_of(patients: int = 6) -> Rows:
    """Rows of a set without faults: patients with odd numbers have cancer on the left."""
    split = ["training", "training", "test"]
    return [
        [f"p{number}", f"{number}{side}", side, "CC", int(cancer), 40 + number, split[number % 3]]
        for number, side, view, cancer in described.views(patients)
        if view == "CC"
    ]


def write(folder: Path, rows: Rows, images: bool = True) -> None:
    """Write the table and its images."""
    described.write_table(folder / "list.csv", HEADER, rows)
    for row in rows if images else []:
        path = f"scans/{row[0]}/{row[1]}.dcm"
        described.write_dicom(folder / path, described.pixels(path, bool(row[4])), PatientID=row[0])


def read(folder: Path, leave_out: bool = False, **instead: Any) -> Understood:
    """Read the set in `folder` by the description, with other values in place."""
    description = set_description.SetDescription.model_validate(DESCRIPTION | instead)
    return understand(folder, description, "", leave_out)


def fault(understood: Understood, *words: str) -> str:
    """The only fault, which must have all the words."""
    (line,) = understood.findings.faults
    assert all(word in line for word in words), line
    assert "\n" not in line
    return line


def note(understood: Understood, *words: str) -> str:
    """The note that has all the words; there is no fault."""
    assert understood.findings.faults == []
    found = [line for line in understood.findings.notes if all(word in line for word in words)]
    assert len(found) == 1, understood.findings.notes
    assert "\n" not in found[0]
    return found[0]


def test_a_set_without_faults_has_neither_faults_nor_notes(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    understood = read(tmp_path)
    assert (understood.findings.faults, understood.findings.notes) == ([], [])
    assert len(understood.entries) == 12


# Tables


def test_a_table_that_is_missing_is_named_with_what_the_folder_holds(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    (tmp_path / "list.csv").rename(tmp_path / "lists.csv")
    fault(read(tmp_path), "list.csv is not in", "the nearest is 'lists.csv'")
    (tmp_path / "set").mkdir()
    (tmp_path / "lists.csv").rename(tmp_path / "set/list.csv")
    fault(read(tmp_path), "list.csv is not in", "it is in set/; pass that folder")


def test_a_column_that_is_missing_is_named_with_the_nearest_and_the_key(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    table = tmp_path / "list.csv"
    table.write_text(table.read_text().replace("cancer", "cancers"))
    fault(read(tmp_path), "list.csv lacks the column 'cancer' (label.column)", "the nearest is 'cancers'", "`rename`")


def test_columns_differ_in_case_and_blanks_and_are_one(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    table = tmp_path / "list.csv"
    table.write_text(table.read_text().replace("patient_id,", " Patient_ID ,", 1))
    assert read(tmp_path).findings.faults == []


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    table = tmp_path / "list.csv"
    table.write_text(table.read_text().replace(",age,", ",cancer,", 1))
    faults = read(tmp_path).findings.faults
    assert "list.csv has the column 'cancer' twice, as columns 5 and 6: remove one" in faults


def test_newlines_and_blanks_in_cells_are_stripped_and_counted(tmp_path: Path) -> None:
    rows = rows_of()
    write(tmp_path, rows)
    padded = [[f" {row[0]}\n", row[1], f"{row[2]} ", *row[3:]] for row in rows[:3]] + rows[3:]
    described.write_table(tmp_path / "list.csv", HEADER, padded)
    understood = read(tmp_path)
    note(understood, "list.csv column 'patient_id': 3 cells with blanks or newlines around the value, row 2 first")
    note(understood, "list.csv column 'laterality': 3 cells with blanks")
    assert {entry.patient for entry in understood.entries} == {f"p{number}" for number in range(1, 7)}


def test_rows_are_counted_as_a_spreadsheet_does_whatever_newlines_are_in_cells(tmp_path: Path) -> None:
    rows = rows_of()
    rows[0][5] = "41\n\n"
    rows[4][2] = "B"
    write(tmp_path, rows)
    note(read(tmp_path), "column 'laterality': 'B' is no value of laterality in 1 row, list.csv row 6 first")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'patient_id,image_id\n"p1,1L\n', ["list.csv is not a table with the separator ',': unexpected end of data"]),
        (b"patient_id\n\xff\xfe\n", ["list.csv is not text in UTF-8 (line 2): save it as CSV in UTF-8"]),
        (b"", ["list.csv lacks the column 'patient_id'", "it has: none"]),
        (b"PK\x03\x04" + bytes(50), ["list.csv lacks the column"]),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, content: bytes, words: list[str]) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    faults = read(tmp_path).findings.faults
    assert faults and all(any(word in line for line in faults) for word in words), faults


def test_a_row_with_a_cell_too_many_is_refused_with_its_number(tmp_path: Path) -> None:
    rows = rows_of()
    write(tmp_path, rows)
    described.write_table(tmp_path / "list.csv", HEADER, [*rows[:3], [*rows[3], "more"], *rows[4:]])
    fault(read(tmp_path), "list.csv row 5 has 8 fields, the header 7: a separator inside a cell needs quotes")


def test_an_xlsx_that_is_none_or_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.xlsx").write_bytes(b"no zip")
    fault(read(tmp_path, rows=[{"file": "list.xlsx"}]), "list.xlsx is not an xlsx file: File is not a zip file")
    book = openpyxl.Workbook()
    book.active.append(["patient_id"])
    book.save(tmp_path / "list.xlsx")
    fault(read(tmp_path, rows=[{"file": "list.xlsx", "sheet": "Sheet9"}]), "no sheet 'Sheet9'; it has: Sheet")
    monkeypatch.setattr("mammo.sources.described.tables.LARGEST_SHEET", 1000)
    fault(
        read(tmp_path, rows=[{"file": "list.xlsx"}]), "list.xlsx holds more than 1,000 bytes unpacked: save it as CSV"
    )


def test_a_sheet_that_declares_every_row_and_column_is_read_in_seconds(tmp_path: Path) -> None:
    rows = rows_of()
    write(tmp_path, rows)
    book = openpyxl.Workbook()
    book.active.append(HEADER)
    for row in rows:
        book.active.append(row)
    book.active.cell(row=300_000, column=16_384, value=" ")
    book.save(tmp_path / "list.xlsx")
    began = time.process_time()
    understood = read(tmp_path, rows=[{"file": "list.xlsx"}])
    assert time.process_time() - began < 10
    assert len(understood.entries) == 12 and understood.findings.faults == []


def test_dates_whole_numbers_and_empty_cells_of_a_sheet_are_text(tmp_path: Path) -> None:
    rows = rows_of()
    write(tmp_path, rows)
    book = openpyxl.Workbook()
    book.active.append(HEADER)
    for row in rows:
        book.active.append([*row[:4], float(row[4]), None, row[6]])
    book.save(tmp_path / "list.xlsx")
    understood = read(tmp_path, rows=[{"file": "list.xlsx"}])
    note(understood, "column 'age': groups.age is unknown for 12 images")
    assert sum(entry.label for entry in understood.entries) == 3


# Joins


def joined(tmp_path: Path, labels: Rows, **join: Any) -> Understood:
    rows = rows_of()
    described.write_table(tmp_path / "labels.csv", ["who", "cancer"], labels)
    write(tmp_path, rows)
    described.write_table(tmp_path / "list.csv", [*HEADER[:4], *HEADER[5:]], [[*row[:4], *row[5:]] for row in rows])
    return read(tmp_path, joins=[{"file": "labels.csv", "by": {"patient_id": "who"}, **join}])


def test_a_join_that_multiplies_rows_is_refused_unless_the_description_wants_it(tmp_path: Path) -> None:
    labels = [[f"p{number}", number % 2] for number in range(1, 7)] + [["p2", 1]]
    line = "labels.csv joined by who multiplies 2 rows, list.csv row 4 first: 2 rows more"
    understood = joined(tmp_path, labels)
    assert any(line in text and "`several: keep`" in text for text in understood.findings.faults)
    kept = joined(tmp_path, labels, several="keep").findings
    assert any(line in text for text in kept.notes)
    assert any("column 'cancer': 2 images of mixed labels" in text for text in kept.faults)  # label.several: refuse


def test_a_row_without_a_partner_is_counted_and_refused_where_the_description_says_so(tmp_path: Path) -> None:
    labels = [[f"p{number}", number % 2] for number in range(1, 6)]
    line = "labels.csv has no row of the same who for 2 rows, list.csv row 12 first: its columns are empty there"
    understood = joined(tmp_path, labels)
    note(understood, line)
    note(understood, "column 'cancer' is empty in 2 rows (list.csv row 12 first), left out")
    fault(joined(tmp_path, labels, unmatched="refuse"), line, "check the columns of `by`")


def test_numbers_with_and_without_a_decimal_point_join_but_007_and_7_do_not(tmp_path: Path) -> None:
    assert joined(tmp_path, [[f"p{number}", f"{number % 2}.0"] for number in range(1, 7)]).findings.faults == []
    rows = [[f"{number}.0", *row[1:]] for number, row in enumerate(rows_of(), 1)]
    write(tmp_path, rows)
    described.write_table(tmp_path / "more.csv", ["who", "site"], [["1", "a"], ["02", "b"]])
    join = {"file": "more.csv", "by": {"patient_id": "who"}}
    line = note(read(tmp_path, joins=[join], view={"column": "site"}), "more.csv has no row of the same who")
    assert "for 11 rows" in line


# Images


def test_a_template_that_finds_no_file_says_where_one_of_this_name_is(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    (tmp_path / "download").mkdir()
    shutil.move(tmp_path / "scans", tmp_path / "download/scans")
    fault(
        read(tmp_path),
        "the images are missing: none of 12 rows has one (scans/p1/1L.dcm, list.csv row 2, is the first)",
        "1L.dcm is at download/scans/p1/1L.dcm: pass the folder above, or correct images.path",
    )


def test_a_set_half_downloaded_stops_or_is_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    for path in sorted(tmp_path.glob("scans/*/*.dcm"))[:5]:
        path.unlink()
    line = "5 of 12 rows name a file that is not there (scans/p1/1L.dcm, list.csv row 2, is the first)"
    fault(read(tmp_path), line, "finish the download, or set data.on_missing: leave_out")
    understood = read(tmp_path, leave_out=True)
    note(understood, line, "left out")
    assert len(understood.entries) == 7


def test_an_empty_or_damaged_file_is_named_and_left_out_only_on_request(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    (tmp_path / "scans/p1/1L.dcm").write_bytes(b"")
    (tmp_path / "scans/p2/2R.dcm").write_bytes(b"<html>please log in</html>" * 9)
    lines = read(tmp_path).findings.faults
    assert [line.split(":")[0] for line in lines] == [
        "scans/p1/1L.dcm is empty (0 bytes)",
        "scans/p2/2R.dcm is not a DICOM file",
    ]
    assert all("set data.on_missing: leave_out" in line for line in lines)
    assert len(read(tmp_path, leave_out=True).entries) == 10


def test_crops_and_masks_named_by_a_table_are_refused_and_others_left_out(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    described.write_dicom(tmp_path / "scans/p1/crop_1.dcm", described.pixels("x", True))
    note(read(tmp_path), "1 crop or mask left out: scans/p1/crop_1.dcm")
    mask = described.pixels("mask", True)
    described.write_dicom(tmp_path / "scans/p1/1L.dcm", mask, SeriesDescription="ROI mask images", PatientID="p1")
    fault(read(tmp_path), "scans/p1/1L.dcm is no whole mammogram by its header: 'ROI mask images'", "images.path")


def test_files_that_no_row_names_are_counted(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    described.write_table(tmp_path / "list.csv", HEADER, rows_of()[:8])
    note(
        read(tmp_path),
        "4 image files that no row names, left out: scans/p5/5L.dcm, scans/p5/5R.dcm, scans/p6/6L.dcm, …",
    )


@pytest.mark.parametrize(
    ("path", "cell"),
    [
        ("scans/{image_id}.dcm", "../../etc/passwd"),
        ("scans/{image_id}.dcm", "..\\..\\etc\\passwd"),
        ("{image_id}.dcm", "/etc/passwd"),
    ],
)
def test_a_cell_that_leads_out_of_the_folder_is_refused(tmp_path: Path, path: str, cell: str) -> None:
    rows = rows_of()
    rows[3][1] = cell
    write(tmp_path, rows, images=False)
    faults = read(tmp_path, images={"path": path}).findings.faults
    assert "column 'image_id' leads out of the folder in list.csv row 5: correct the cells" in faults


def test_a_template_with_a_star_that_fits_several_files_is_refused_and_cells_are_literal(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    described.write_dicom(tmp_path / "scans/p1/1L.copy.dcm", described.pixels("x", True))
    star = {"path": "scans/{patient_id}/{image_id}*.dcm"}
    fault(read(tmp_path, images=star), "list.csv row 2: 2 files fit 'scans/p1/1L*.dcm'", "more exact")
    (tmp_path / "scans/p1/1L.copy.dcm").unlink()
    rows = rows_of()
    rows[0][1] = "*"
    described.write_table(tmp_path / "list.csv", HEADER, rows)
    line = "1 of 12 rows name a file that is not there (scans/p1/**.dcm"
    faults = read(tmp_path, images=star).findings.faults
    assert any(line in text for text in faults), faults


def test_a_filter_by_header_leaves_out_and_counts_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    raw = described.pixels("raw", True)
    described.write_dicom(tmp_path / "scans/p1/1L.dcm", raw, PresentationIntentType="FOR PROCESSING", PatientID="p1")
    keep = [{"header": "intent", "keep": ["FOR PRESENTATION"]}]
    understood = read(tmp_path, filters=keep)
    note(
        understood, "header intent: the filter (keep FOR PRESENTATION) left out list.csv row 2; values 'FOR PROCESSING'"
    )
    assert len(understood.entries) == 11
    shutil.rmtree(tmp_path / "scans")
    understood = read(tmp_path, filters=keep)
    assert len(understood.absent) == 12 and understood.findings.notes == []


# Values


def test_a_label_in_no_list_is_left_out_counted_and_named_with_the_lists(tmp_path: Path) -> None:
    rows = rows_of()
    write(tmp_path, rows)
    rows[2][4], rows[5][4], rows[7][4] = "maybe", "maybe", ""
    described.write_table(tmp_path / "list.csv", HEADER, rows)
    understood = read(tmp_path)
    note(
        understood,
        "column 'cancer' is 'maybe' in 2 rows (list.csv row 4 first), left out",
        "no list of the label (1, 0)",
    )
    note(understood, "column 'cancer' is empty in 1 row (list.csv row 9 first), left out")
    assert len(understood.entries) == 9


def test_a_split_in_no_list_is_refused(tmp_path: Path) -> None:
    rows = rows_of()
    rows[1][6] = "validation"
    write(tmp_path, rows)
    fault(read(tmp_path), "column 'split': 'validation' is no value of split in 1 row, list.csv row 3", "split.values")


def test_an_age_that_is_no_number_has_no_band(tmp_path: Path) -> None:
    rows = rows_of()
    rows[1][5] = "n/a"
    write(tmp_path, rows)
    note(
        read(tmp_path), "column 'age': 'n/a' is no value of groups.age in 1 row, list.csv row 3", "add it to `missing`"
    )
    understood = read(tmp_path, missing=["n/a"])
    note(understood, "column 'age': groups.age is unknown for 1 image")


def test_two_labels_for_one_breast_are_named(tmp_path: Path) -> None:
    rows = [*rows_of(), ["p1", "9L", "L", "MLO", 0, 41, "training"]]
    write(tmp_path, rows)
    note(read(tmp_path), "1 breast with two labels, cancer on one image and healthy on another (p1 L)", "data.exclude")


def test_two_labels_for_one_image_are_refused_unless_one_counts(tmp_path: Path) -> None:
    rows = rows_of()
    write(tmp_path, rows)
    described.write_table(tmp_path / "list.csv", HEADER, [*rows, [*rows[0][:4], 0, *rows[0][5:]]])
    line = "column 'cancer': 1 image of mixed labels (1 image in list.csv; list.csv row 2)"
    fault(read(tmp_path), line, "set label.several to any or first")
    for several, label in (("any", 1), ("first", 1)):
        understood = read(tmp_path, label={**DESCRIPTION["label"], "several": several})
        note(understood, line)
        assert understood.entries[0].label == label
    swapped = {"column": "cancer", "cancer": [0], "healthy": [1]}
    assert read(tmp_path, label={**swapped, "several": "first"}).entries[0].label == 0
    assert read(tmp_path, label={**swapped, "several": "any"}).entries[0].label == 1


def test_a_patient_in_two_delivered_splits_is_named(tmp_path: Path) -> None:
    rows = rows_of()
    rows[0][6] = "test"
    write(tmp_path, rows)
    note(read(tmp_path), "1 patient is in several delivered splits (training, test; p1): keep split.by: patient")


def test_one_patient_for_all_images_and_one_for_each_are_no_patients(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    fault(read(tmp_path, patient={"column": "view"}), "column 'view' is 'CC' for all 12 images: it is no patient")
    for path in sorted(tmp_path.glob("scans/*/*.dcm")):
        described.write_dicom(path, described.pixels(path.name, False), PatientID=f"Test_{path.stem}")
    fault(
        read(tmp_path, patient={"header": "patient_id"}),
        "header patient_id is another one for each of the 12 images",
        "hardly the patient; name another source",
    )
    note(read(tmp_path), "PatientID in the headers is not the patient: 12 values for 6 patients")


def test_a_set_without_one_class_is_refused_with_the_key(tmp_path: Path) -> None:
    write(tmp_path, rows_of())
    label = {"column": "cancer", "cancer": ["yes"], "healthy": [0]}
    assert (
        "no image is cancerous: check label.cancer in the description against the table"
        in read(tmp_path, label=label).findings.faults
    )


# The stage and the command


def test_the_stage_lists_all_faults_and_writes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    rows = rows_of()
    rows[1][6] = "validation"
    write(folder, rows)
    (folder / "scans/p1/1L.dcm").write_bytes(b"")
    run = stage_in(tmp_path, capfd)
    code, text = run()
    assert code == 1 and not (tmp_path / "data/raw").exists()
    lines = text.splitlines()
    assert lines[0] == "download: the set mine has 2 faults:"
    assert lines[-1] == "`mammo set check mine FOLDER` shows all of them."
    assert len(lines) == 4
    rows[1][6] = "training"
    write(folder, rows)
    code, text = run()
    assert code == 0, text
    assert "download: 12 images of 6 known patients in data/raw" in text
    assert "download: licence of A set of a test: CC0; weights public" in text


def stage_in(place: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[], tuple[int, str]]:
    """Run download in `place` on the set in `place/set`."""
    shutil.copy(ROOT / "params.yaml", place)
    change(place, data={"source": "set", "set": "mine", "folder": "set"})
    (place / "data/sets").mkdir(parents=True)
    (place / "data/sets/mine.yaml").write_text(yaml.safe_dump(DESCRIPTION))

    def run() -> tuple[int, str]:
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(place):
            patch.setattr("sys.argv", ["download.py", "data/raw"])
            try:
                stage.run(download_stage.main)
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return code, err + out

    return run


def test_nothing_of_a_cell_reaches_the_terminal_as_it_is(tmp_path: Path) -> None:
    rows = rows_of()
    rows[0][2] = "\x1b]0;owned\x07"
    write(tmp_path, rows)
    line = note(read(tmp_path), "is no value of laterality")
    assert not re.search(r"[\x00-\x1f]", line)

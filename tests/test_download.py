"""The stage `download`, run as a process: own images in both forms, and Kaggle's through the real kagglehub client."""

import contextlib
import errno
import hashlib
import io
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

from mammo.core import dataset, files, stage
from mammo.core.dataset import read_index
from mammo.sources import kaggle
from mammo.sources import own as own_images

import download as download_stage
import miniature
import psutil
import pytest
import yaml
from kaggle_server import HANDLE, STORAGE, TOKEN, Answer, Behaviour, environment, serve

PROJECT = Path(__file__).parents[1]
COMMAND = [sys.executable, str(PROJECT / "stages" / "download.py"), "data/raw"]
CLASSES = [f"{split}/{label}" for split in ("train", "valid", "test") for label in "01"]

HOSTILE = [
    "my scans",
    "$(touch run)",
    "a'b\"c",
    "`touch run`; touch run",
    "${data.source}",
    "-rf",
    "a*?[b]",
    " a ",
    "a\\b",
]

Run = subprocess.CompletedProcess


def configure(place: Path, **data: object) -> None:
    """Write the project's params.yaml into `place` with other values in its section `data`."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["data"] |= data
    (place / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def as_process(place: Path, **options: Any) -> Run:
    """Run the stage in `place` as DVC does."""
    return subprocess.run(COMMAND, cwd=place, capture_output=True, text=True, timeout=60, **options)


Download = Callable[..., Run]


@pytest.fixture
def download(place: Path, capfd: pytest.CaptureFixture[str]) -> Download:
    """Run the stage in `place` as `as_process` does, but without the second that a new Python takes."""

    def run(variables: Mapping[str, str] | None = None) -> Run:
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(place):
            patch.setattr(sys, "argv", ["download.py", "data/raw"])
            for name in set(os.environ) - set(variables or os.environ):
                patch.delenv(name)
            for name, value in (variables or {}).items():
                patch.setenv(name, value)
            try:
                stage.run(download_stage.main)
                code = 0
            except SystemExit as end:
                code = end.code
        out, err = capfd.readouterr()
        return Run(["download.py", "data/raw"], code, out, err)

    return run


def refused(run: Run, place: Path) -> str:
    """The one line a failed run has for the user; nothing else may be left of it."""
    assert run.returncode == 1, run
    assert "Traceback" not in run.stderr
    lines = run.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("download: "), run.stderr
    assert not (place / "data" / "raw").exists()
    assert not list((place / "data").glob(".*"))
    return lines[0]


def content_of(name: str) -> bytes:
    """Content of a file that no other file has; the stage passes bytes on and does not look into them."""
    return hashlib.shake_256(name.encode()).digest(2000)


def make(folder: Path, *names: str) -> None:
    """Write files of those names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content_of(name))


def make_tree(folder: Path) -> None:
    """Write one image into each class folder."""
    make(folder, *(f"{place}/{number}_a.jpg" for number, place in enumerate(CLASSES)))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to run the stage in, with the user's empty folder, set to read from there."""
    (tmp_path / "data" / "own").mkdir(parents=True)
    configure(tmp_path, source="folder")
    return tmp_path


@pytest.fixture
def own(place: Path) -> Path:
    """The user's folder."""
    return place / "data" / "own"


def index(place: Path) -> list[tuple[str, int, str, str]]:
    """Rows of the index as (image, label, split, patient), after a check of order, files and hashes."""
    raw = place / "data" / "raw"
    entries = read_index(raw)
    images = [entry.image for entry in entries]
    assert images == sorted(images)
    found = {str(path.relative_to(raw)) for path in raw.rglob("*") if path.is_file()}
    assert found - {"remarks.json", "set.json", "pseudonyms.csv"} == {"index.csv", *images}
    for entry in entries:
        assert entry.sha256 == hashlib.sha256((raw / entry.image).read_bytes()).hexdigest()
    return [(entry.image, entry.label, entry.split, entry.patient) for entry in entries]


# The user's own folder as a tree.


def test_a_tree_is_taken_over_as_delivered(download: Download, place: Path, own: Path) -> None:
    make_tree(own)
    make(
        own,
        "train/0/7_b.JPEG",
        "train/1/site/8_c.pgm",
        "valid/0/Ünïcødé ☃.Tiff",
        "test/1/9_16bit.tif",
        "test/0/10_d.PNG",
    )
    make(own, "README.md", ".gitignore", "notes.txt", "train/.DS_Store", "test/0/Thumbs.db")
    assert download().returncode == 0
    assert index(place) == [
        ("test/0/10_d.PNG", 0, "test", "10"),
        ("test/0/4_a.jpg", 0, "test", "4"),
        ("test/1/5_a.jpg", 1, "test", "5"),
        ("test/1/9_16bit.tif", 1, "test", "9"),
        ("train/0/0_a.jpg", 0, "train", "0"),
        ("train/0/7_b.JPEG", 0, "train", "7"),
        ("train/1/1_a.jpg", 1, "train", "1"),
        ("train/1/site/8_c.pgm", 1, "train", "8"),
        ("valid/0/2_a.jpg", 0, "valid", "2"),
        ("valid/0/Ünïcødé ☃.Tiff", 0, "valid", ""),
        ("valid/1/3_a.jpg", 1, "valid", "3"),
    ]
    for name in ("test/1/9_16bit.tif", "valid/0/Ünïcødé ☃.Tiff"):
        assert (place / "data" / "raw" / name).read_bytes() == content_of(name)


def test_the_index_is_the_same_whatever_the_cores_and_the_order_of_the_files(
    download: Download, place: Path, own: Path
) -> None:
    names = [f"{where}/{number}_{letter}.png" for where in CLASSES for number in (3, 20, 100) for letter in "abc"]
    make(own, *names)
    assert download().returncode == 0
    first = (place / "data" / "raw" / "index.csv").read_bytes()
    shutil.rmtree(own)
    make(own, *reversed(names))
    core = min(os.sched_getaffinity(0))
    assert as_process(place, preexec_fn=lambda: os.sched_setaffinity(0, {core})).returncode == 0
    assert (place / "data" / "raw" / "index.csv").read_bytes() == first


def test_the_users_files_are_copied_so_that_dvc_can_lock_its_own(download: Download, place: Path, own: Path) -> None:
    make_tree(own)
    (own / "train/0/0_a.jpg").chmod(0o440)
    assert download().returncode == 0
    source, copy = (own / "train/0/0_a.jpg").stat(), (place / "data/raw/train/0/0_a.jpg").stat()
    assert stat.S_IMODE(source.st_mode) == 0o440
    assert source.st_ino != copy.st_ino and source.st_nlink == 1


def test_links_to_files_and_folders_are_followed(download: Download, place: Path, own: Path, tmp_path: Path) -> None:
    make_tree(own)
    make(tmp_path / "elsewhere", "scans/11_x.png", "12_y.png")
    (own / "train/1/linked").symlink_to(tmp_path / "elsewhere" / "scans")
    (own / "train/1/13_z.png").symlink_to(tmp_path / "elsewhere" / "12_y.png")
    assert download().returncode == 0
    rows = index(place)
    assert ("train/1/linked/11_x.png", 1, "train", "11") in rows
    assert ("train/1/13_z.png", 1, "train", "13") in rows
    assert not (place / "data/raw/train/1/13_z.png").is_symlink()


def test_a_tree_in_one_folder_is_found(download: Download, place: Path, own: Path) -> None:
    make_tree(own / "unpacked")
    assert download().returncode == 0
    assert len(index(place)) == 6


def spoil_nothing_there(own: Path) -> None:
    own.rmdir()


def spoil_neither_form(own: Path) -> None:
    make(own, "a.png")


def spoil_missing_class(own: Path) -> None:
    make_tree(own)
    shutil.rmtree(own / "valid" / "1")


def spoil_empty_class(own: Path) -> None:
    make_tree(own)
    (own / "test/0/4_a.jpg").rename(own / "test/0/.hidden.jpg")


def spoil_unknown_folder(own: Path) -> None:
    make_tree(own)
    make(own, "train/2/14_benign.png")


def spoil_no_image(own: Path) -> None:
    make_tree(own)
    make(own, "train/0/15.txt")


def spoil_broken_link(own: Path) -> None:
    make_tree(own)
    (own / "train/0/16.png").symlink_to("nowhere.png")


def spoil_circle(own: Path) -> None:
    make_tree(own)
    (own / "train/0/again").symlink_to(own / "train")


def spoil_twice(own: Path) -> None:
    make_tree(own)
    shutil.rmtree(own / "train/1")
    (own / "train/1").symlink_to(own / "train/0")


def spoil_lost_folder(own: Path) -> None:
    make_tree(own)
    (own / "train/0/archive").symlink_to("/mnt/unmounted/archive")


def spoil_pipe(own: Path) -> None:
    make_tree(own)
    os.mkfifo(own / "train/0/16.png")


def spoil_name(own: Path) -> None:
    make_tree(own)
    Path(os.fsdecode(os.fsencode(own) + b"/train/0/caf\xe9.png")).write_bytes(b"x")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_nothing_there, "data/own is not a folder: set data.folder in params.yaml"),
        (spoil_neither_form, "holds neither labels.csv (image,label[,patient][,split]) nor the folders"),
        (spoil_missing_class, "valid/1 is missing or holds no image"),
        (spoil_empty_class, "test/0 is missing or holds no image"),
        (spoil_unknown_folder, "train/2/14_benign.png is not in one of {train,valid,test}/{0,1}/"),
        (spoil_no_image, "train/0/15.txt is none of .jpg .jpeg .png .pgm .tif .tiff .dcm .dicom, nor a DICOM file"),
        (spoil_broken_link, "train/0/16.png leads nowhere (a broken link)"),
        (spoil_circle, "data/own/train/0/again is a link to a folder around it"),
        (spoil_twice, "data/own/train/1 is the same folder as data/own/train/0"),
        (spoil_lost_folder, "data/own/train/0/archive leads nowhere (a broken link)"),
        (spoil_pipe, "train/0/16.png is not a regular file"),
        (spoil_name, "has a name that is not UTF-8"),
    ],
)
def test_a_faulty_tree_is_refused_by_name(
    download: Download, place: Path, own: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(own)
    assert words in refused(download(), place)


def test_many_faults_are_counted_after_the_first_twenty(download: Download, place: Path, own: Path) -> None:
    make_tree(own)
    make(own, *(f"train/0/{number:02}.txt" for number in range(25)))
    line = refused(download(), place)
    assert "train/0/19.txt" in line and "train/0/20.txt" not in line and line.endswith("and 5 more")


@pytest.mark.parametrize("folder", ["data/raw", "data", "data/raw/mine"])
def test_own_images_must_not_lie_where_the_stage_writes(download: Download, place: Path, folder: str) -> None:
    make_tree(place / folder)
    (place / "data/state").mkdir(parents=True, exist_ok=True)
    (place / "data/state/lock").touch()  # every stage holds it while it runs
    configure(place, source="folder", folder=folder)
    before = sorted(place.rglob("*"))
    run = download()
    assert run.returncode == 1 and "must not contain each other" in run.stderr
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_may_have_any_name(download: Download, place: Path, name: str) -> None:
    make_tree(place / name)
    configure(place, source="folder", folder=name)
    run = download()
    assert run.returncode == 0, run.stderr
    assert len(index(place)) == len(CLASSES)


def test_dvc_runs_no_word_of_a_folders_name_and_notices_its_changes(place: Path) -> None:
    """With the project's own stage: its command, its dependency on the folder, and its parameters."""
    pipeline = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))
    (place / "stages").symlink_to(PROJECT / "stages")
    stage = pipeline["stages"]["download"] | {"deps": ["${data.folder}"]}
    (place / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"download": stage}}))
    miniature.run(place, "git", "init", "--quiet")
    miniature.run(place, "dvc", "init", "--quiet")
    name = """$(touch run) ~ my scans' "best"; touch run"""
    make_tree(place / name)
    configure(place, source="folder", folder=name)
    assert miniature.ran(miniature.dvc(place, "repro")) == ["download"]
    make(place / name, "train/0/99_new.png")
    assert miniature.ran(miniature.dvc(place, "repro")) == ["download"]
    assert len(index(place)) == len(CLASSES) + 1
    assert not (place / "run").exists()


@pytest.mark.parametrize(
    ("folder", "is_named"),
    [("{home}/scans", True), ("../anna/scans", True), ("data/own", False), ("{out}", False)],
)
def test_a_home_directory_in_the_settings_is_said_with_what_to_do(
    download: Download, place: Path, monkeypatch: pytest.MonkeyPatch, folder: str, is_named: bool
) -> None:
    home = place.parent / f"{place.name}-homes" / "anna"
    make_tree(home / "scans")
    make_tree(place / "data/own")
    make_tree(place / "data/other")
    (place.parent / "anna").symlink_to(home) if folder.startswith("..") else None
    monkeypatch.setenv("HOME", str(home))
    folder = folder.format(home=home, out=place / "data/other")
    configure(place, source="folder", folder=folder)
    run = download()
    said = "data.folder names a home directory, and git would publish it in params.yaml and dvc.lock"
    assert (said in run.stdout + run.stderr) is is_named
    if is_named:
        assert f"ln -s {(place / folder).resolve()} data/own/linked, and set" in run.stdout
        assert own_images.names_home("/home/bea/scans") and own_images.names_home("C:\\Users\\bea\\scans")
        assert not own_images.names_home("/data/scans")


def test_a_link_in_the_projects_folder_hides_where_the_images_are(place: Path) -> None:
    home = place.parent / f"{place.name}-home"
    make_tree(home / "scans")
    (place / "data/own/linked").symlink_to(home / "scans")
    pipeline = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))
    (place / "stages").symlink_to(PROJECT / "stages")
    stage = pipeline["stages"]["download"] | {"deps": ["${data.folder}"]}
    (place / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"download": stage}}))
    miniature.run(place, "git", "init", "--quiet")
    miniature.run(place, "dvc", "init", "--quiet")
    configure(place, source="folder", folder="data/own/linked")
    assert miniature.ran(miniature.dvc(place, "repro")) == ["download"]
    assert "data/own/linked" in (place / "dvc.lock").read_text() and home.name not in (place / "dvc.lock").read_text()
    make(home / "scans", "train/0/99_new.png")
    assert miniature.ran(miniature.dvc(place, "repro")) == ["download"]


# The user's own folder as a list.


def list_images(own: Path, text: str) -> None:
    """Write labels.csv."""
    (own / "labels.csv").write_text(text, encoding="utf-8")


def test_a_list_with_all_columns(download: Download, place: Path, own: Path) -> None:
    make(own, "left/1.png", "right/1.png", "deep/er/2.tif")
    list_images(
        own,
        "note,image,label,patient,split\n"
        ",left/1.png,0,anna,train\n"
        '"two, words",right/1.png,1,anna,test\n'
        "\n"
        ",deep/er/2.tif, 1 ,,valid\n",
    )
    assert download().returncode == 0
    assert index(place) == [
        ("test/1/right/1.png", 1, "test", "anna"),
        ("train/0/left/1.png", 0, "train", "anna"),
        ("valid/1/deep/er/2.tif", 1, "valid", ""),
    ]


def test_a_list_without_a_split_leaves_it_open_and_reads_patients_from_names(
    download: Download, place: Path, own: Path
) -> None:
    make(own, "31_a.png", "32_b.png", "c.png")
    list_images(own, "\ufeffimage,label\r\n31_a.png,0\r\n32_b.png,1\r\nc.png,1\r\n")
    assert download().returncode == 0
    assert index(place) == [
        ("train/0/31_a.png", 0, "", "31"),
        ("train/1/32_b.png", 1, "", "32"),
        ("train/1/c.png", 1, "", ""),
    ]


def test_a_list_may_name_absolute_paths_links_and_paths_out_of_the_folder(
    download: Download, place: Path, own: Path, tmp_path: Path
) -> None:
    make(tmp_path, "data/beside/41_a.png", "archive/42_b.png", "archive/43_c.png")
    make(own, "44_d.png")
    (own / "link.png").symlink_to(tmp_path / "archive" / "43_c.png")
    list_images(
        own,
        f"image,label\n../beside/41_a.png,0\n{tmp_path}/archive/42_b.png,1\nlink.png,1\n{own}/44_d.png,0\n",
    )
    assert download().returncode == 0
    assert index(place) == sorted(
        [
            ("train/0/_/beside/41_a.png", 0, "", "41"),
            ("train/0/44_d.png", 0, "", "44"),
            (f"train/1{tmp_path}/archive/42_b.png", 1, "", "42"),
            ("train/1/link.png", 1, "", ""),
        ]
    )


def test_a_name_in_decomposed_unicode_stays_as_it_is(download: Download, place: Path, own: Path) -> None:
    name = unicodedata.normalize("NFD", "51_é.png")
    make(own, name, "52_x.png")
    list_images(own, f"image,label\n{name},0\n52_x.png,1\n")
    assert download().returncode == 0
    assert index(place)[0] == (f"train/0/{name}", 0, "", "51")


def test_every_wrong_row_is_reported_with_its_line(download: Download, place: Path, own: Path) -> None:
    make(own, "a.png", "b.png", "c.png", "d.png", "e.txt", "f.png")
    (own / "twin.png").symlink_to("c.png")
    list_images(
        own,
        "image,label,split\n"
        "a.png,0,train\n"  # right
        "missing.png,0,train\n"
        "b.png,2,train\n"
        "\n"
        "b.png,cancer,valid\n"
        "c.png,1,training\n"
        "c.png,1,train\n"  # right
        "./a.png,1,test\n"
        "twin.png,1,test\n"
        "d.png,1\n"
        "e.txt,1,test\n"
        ",1,test\n"
        "f.png,1,test,surplus\n",
    )
    run = download()
    assert run.returncode == 1
    assert run.stderr.splitlines() == [
        "download: data/own/labels.csv has 10 wrong rows:",
        "  line 3: missing.png does not exist",
        "  line 4: label is '2'; allowed are 0 (healthy) and 1 (cancer)",
        "  line 6: label is 'cancer'; allowed are 0 (healthy) and 1 (cancer)",
        "  line 7: split is 'training'; allowed are train, valid, test",
        "  line 9: image './a.png' is already on line 2",
        "  line 10: image 'twin.png' is already on line 8",
        "  line 11: has more or fewer fields than the header",
        "  line 12: e.txt is none of .jpg .jpeg .png .pgm .tif .tiff .dcm .dicom, nor a DICOM file without a suffix",
        "  line 13: image is empty",
        "  line 14: has more or fewer fields than the header",
        "Fix or remove them.",
    ]
    assert not (place / "data" / "raw").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\na.png,0\n", "data/own/labels.csv lacks the column image; it has: file, label"),
        ("image;label\na.png;0\n", "lacks the column image, label; it has: image;label"),
        ("", "lacks the column image, label; it has: none"),
        ("image,label\n", "data/own/labels.csv lists no image"),
    ],
)
def test_a_list_that_is_none_is_refused(download: Download, place: Path, own: Path, text: str, words: str) -> None:
    list_images(own, text)
    assert words in refused(download(), place)


def test_columns_may_be_spaced_and_capitalised(download: Download, place: Path, own: Path) -> None:
    make(own, "0_x.png", "1_x.png")
    list_images(own, "Image, LABEL , patient,Laterality\n0_x.png,0, anna,left\n1_x.png,1,bea, R\n")
    run = download()
    assert run.returncode == 0, run.stderr
    assert index(place) == [("train/0/0_x.png", 0, "", "anna"), ("train/1/1_x.png", 1, "", "bea")]
    entries = dataset.read_index(place / "data/raw")
    assert [(entry.laterality, entry.laterality_from) for entry in entries] == [("L", "table"), ("R", "table")]
    assert not (place / "data/raw/remarks.json").exists()


def test_exam_laterality_and_view_are_taken_in_and_other_columns_become_groups(
    download: Download, place: Path, own: Path
) -> None:
    names = [f"{number}_x.png" for number in range(4)]
    make(own, *names)
    rows = [
        ("0", "anna", "2019", "Left", "cc", "A", "GE"),
        ("0", "anna", "2019", "RIGHT", "mlo", "A", ""),
        ("1", "bea", "", "both", "", "b ", "Siemens"),
        ("0", "cleo", "", "", "MLO", "A", "GE"),
    ]
    lines = "".join(f"{name},{','.join(row)}\n" for name, row in zip(names, rows, strict=True))
    list_images(own, f"image,label,patient,exam,laterality,view,Density,vendor\n{lines}")
    run = download()
    assert run.returncode == 0, run.stderr
    header = (place / "data/raw/index.csv").read_text().splitlines()[0]
    assert header == "image,label,split,patient,sha256,exam,laterality,view,laterality_from,group_density,group_vendor"
    entries = sorted(dataset.read_index(place / "data/raw"), key=lambda entry: PurePath(entry.image).name)
    assert [(entry.exam, entry.laterality, entry.view, entry.laterality_from, entry.groups) for entry in entries] == [
        ("2019", "L", "CC", "table", (("density", "A"), ("vendor", "GE"))),
        ("2019", "R", "MLO", "table", (("density", "A"), ("vendor", ""))),
        ("", "B", "", "table", (("density", "b"), ("vendor", "Siemens"))),
        ("", "", "MLO", "", (("density", "A"), ("vendor", "GE"))),
    ]
    assert "not used" not in run.stdout


def test_columns_that_are_no_groups_are_named_with_the_reason(download: Download, place: Path, own: Path) -> None:
    names = [f"{number}_x.png" for number in range(42)]
    make(own, *names)
    header = "image,label,Note,age,comment,site,site,,vendor"
    lines = "".join(f"{name},{n % 2},{n},{n // 2},,a,a,,v{n % 2}\n" for n, name in enumerate(names))
    list_images(own, f"{header}\n{lines}")
    run = download()
    said = (
        "columns of labels.csv that are not used: 'Note' (it has 42 values; at most 20 make a group), "
        "'age' (it has 21 values; at most 20 make a group), 'comment' (it is empty), "
        "'site' (there is another of this name), 'site' (there is another of this name), '' (it has no name)"
    )
    assert run.returncode == 0, run.stderr
    assert f"download: {said}\n" in run.stdout
    assert files.read_json(place / "data/raw/remarks.json") == {"remarks": [said]}
    assert {entry.groups for entry in dataset.read_index(place / "data/raw")} == {
        (("vendor", "v0"),),
        (("vendor", "v1"),),
    }


def test_a_column_that_tells_each_image_apart_is_no_group(download: Download, place: Path, own: Path) -> None:
    make(own, "0_x.png", "1_x.png")
    list_images(own, "image,label,accession\n0_x.png,0,a\n1_x.png,1,b\n")
    assert "that are not used: 'accession' (each row has another value)\n" in download().stdout


def test_a_laterality_that_is_none_is_refused_with_its_line(download: Download, place: Path, own: Path) -> None:
    make(own, "0_x.png", "1_x.png")
    list_images(own, "image,label,laterality\n0_x.png,0,L\n1_x.png,1,links\n")
    download_run = download()
    assert download_run.returncode == 1
    assert (
        "  line 3: laterality is 'links'; allowed are L or left, R or right, B or both, and nothing if it is unknown"
        in download_run.stderr
    )


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("image,label,pateint", "has a column 'pateint', which resembles patient: rename it or remove it"),
        ("image,label,Patient ID", "has a column 'Patient ID', which resembles patient"),
        ("imge,label,patient", "has a column 'imge', which resembles image"),
        ("image,label,patient, Patient", "has the column patient more than once ('patient', ' Patient')"),
    ],
)
def test_a_column_nearly_right_or_doubled_is_refused(
    download: Download, place: Path, own: Path, header: str, words: str
) -> None:
    make(own, "a.png")
    list_images(own, f"{header}\na.png,0{',x' * (header.count(',') - 1)}\n")
    assert words in refused(download(), place)


def test_images_without_a_patient_are_said_with_what_to_do_in_one_line(
    download: Download, place: Path, own: Path
) -> None:
    make(own, "mdb007.png", "mdb008.png", "12_a.png")
    list_images(own, "image,label\nmdb007.png,0\nmdb008.png,1\n12_a.png,1\n")
    lines = download().stdout.splitlines()
    (line,) = [line for line in lines if "have no patient" in line]
    assert line.startswith("download: 2 of 3 images have no patient, so leakage cannot be checked.")
    for text in ("labels.csv", "data.patient", "audit.on_unknown_patients: warn"):
        assert text in line


def test_a_list_that_is_not_utf8_is_refused(download: Download, place: Path, own: Path) -> None:
    (own / "labels.csv").write_bytes("image,label\ncafé.png,0\n".encode("latin-1"))
    assert "labels.csv is not a CSV file in UTF-8" in refused(download(), place)


# Settings, and what every source has in common.


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"source": "web"}, "data.source is 'web'; allowed is 'phantom', 'kaggle', 'folder' or 'set'"),
        ({"kaggle": "hayder17/breast-cancer-detection"}, "without a version the same handle would be other images"),
        ({"kaggle": "hayder17/breast-cancer-detection/versions/0"}, "allowed is owner/name/versions/N with N from 1"),
        ({"kaggle": "../../x/versions/1"}, "allowed is owner/name/versions/N"),
        ({"patient": "(\\d+"}, "allowed is a regular expression (missing ), unterminated subpattern"),
        ({"patient": "\\d+"}, "a regular expression with one group, the patient (it has 0)"),
        ({"folder": ""}, "data.folder is ''"),
        ({"folder": "~/scans"}, "data.folder is '~/scans'; allowed is a path without ~, which nothing here expands"),
        ({"folder": "s3://bucket/scans"}, "allowed is a folder of this machine, no address"),
        ({"folder": "data/own\nrm"}, "allowed is a path without control characters and line breaks"),
        ({"source": "set"}, "data: allowed is data.set with the name of a data set (`mammo set list` shows them)"),
        ({"source": "set", "set": "rnsa"}, "there is no data set 'rnsa' in data/sets"),
        ({"in_place": True}, "data.in_place: false with data.source: phantom; only described sets stay in place"),
    ],
)
def test_wrong_settings_are_refused(download: Download, place: Path, data: dict, words: str) -> None:
    configure(place, **data)
    assert words in refused(download(), place)


def test_a_failed_run_leaves_the_last_good_one(download: Download, place: Path, own: Path) -> None:
    make_tree(own)
    assert download().returncode == 0
    before = index(place)
    make(own, "train/0/new.txt")
    assert download().returncode == 1
    assert index(place) == before


def test_phantoms_are_indexed_like_any_other_set(download: Download, place: Path) -> None:
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    configure(place, source="phantom", phantom=params["data"]["phantom"] | {"patients": 8, "size": 64})
    assert download().returncode == 0
    entries = read_index(place / "data" / "raw")
    assert [entry.image for entry in entries] == sorted(entry.image for entry in entries)
    assert {entry.label for entry in entries} == {0, 1}
    for entry in entries:
        assert entry.image.startswith(f"{entry.split}/{entry.label}/") and entry.patient
        assert entry.sha256 == files.sha256(place / "data" / "raw" / entry.image)


# Kaggle: the real client against a server on this machine.


@pytest.fixture
def from_kaggle(place: Path) -> Path:
    """A folder to run the stage in, set to fetch from Kaggle."""
    configure(place, source="kaggle", kaggle=HANDLE)
    shutil.copytree(PROJECT / "data/sets", place / "data/sets")
    return place


def zipped(path: Path, *names: str) -> Path:
    """A ZIP archive of files of those names, which need not be proper ones."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content_of(name))
    return path


NAMES = [f"{place}/{number}_1160585918_png.rf.0a.jpg" for number, place in enumerate(CLASSES)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The set as Kaggle packs it."""
    return zipped(tmp_path / "archive.zip", *NAMES)


def patience(**seconds: str) -> dict[str, str]:
    """Settings of mammo.sources.kaggle that are no part of the server's environment."""
    return {f"MAMMO_KAGGLE_{name.upper()}": value for name, value in seconds.items()}


def test_a_set_is_fetched_through_a_redirect_and_then_never_again(
    download: Download, from_kaggle: Path, archive: Path
) -> None:
    with serve(archive) as server:
        assert download(variables=server.environment).returncode == 0
        call, transfer = server.requests
        assert (call.method, call.headers["Authorization"]) == ("POST", f"Bearer {TOKEN}")
        assert (transfer.method, transfer.url) == ("GET", STORAGE)
        assert "Authorization" not in transfer.headers
        assert [row[0] for row in index(from_kaggle)] == sorted(NAMES)
        assert {row[3] for row in index(from_kaggle)} == set("012345")
        shutil.rmtree(from_kaggle / "data" / "raw")
        assert download(variables=server.environment).returncode == 0
        assert len(server.requests) == 2
        assert [row[0] for row in index(from_kaggle)] == sorted(NAMES)
        cached = server.cache.joinpath("datasets", *HANDLE.split("/"), NAMES[0]).stat()
        assert cached.st_nlink == 1 and cached.st_size == 2000


def test_a_public_set_needs_no_credential(download: Download, from_kaggle: Path, archive: Path) -> None:
    with serve(archive) as server:
        del server.environment["KAGGLE_API_TOKEN"]
        nobody = {"HOME": str(from_kaggle), "KAGGLE_CONFIG_DIR": str(from_kaggle)}
        assert download(variables=server.environment | nobody).returncode == 0
        assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (
            Behaviour(token="another"),
            "Kaggle did not accept the credential (401); put a token from https://www.kaggle.com",
        ),
        (
            Behaviour(always=Answer(403)),
            "access was denied (403): it is private, does not exist, or has terms to accept",
        ),
        (Behaviour(always=Answer(429, {"Retry-After": "3600"})), "too many requests (429); run again after 3600 s"),
    ],
)
def test_a_refusal_is_explained_and_not_repeated(
    download: Download, from_kaggle: Path, archive: Path, behaviour: Behaviour, words: str
) -> None:
    with serve(archive, behaviour) as server:
        line = refused(download(variables=server.environment), from_kaggle)
        assert HANDLE in line and words in line
        assert len(server.requests) == 1


def test_another_version_is_unknown(download: Download, from_kaggle: Path, archive: Path) -> None:
    configure(from_kaggle, source="kaggle", kaggle=HANDLE[:-1] + "2")
    with serve(archive) as server:
        assert "versions/2 cannot be fetched: Kaggle does not have it (404)" in refused(
            download(variables=server.environment), from_kaggle
        )


def test_a_fault_of_the_server_is_waited_out(download: Download, from_kaggle: Path, archive: Path) -> None:
    with serve(archive, Behaviour(first=[Answer(500)])) as server:
        run = download(variables=server.environment)
        assert run.returncode == 0 and "Kaggle reports a server error (500); trying again in 0.01 s" in run.stdout
        assert [request.method for request in server.requests] == ["POST", "POST", "GET"]
        assert len(index(from_kaggle)) == 6


def test_a_server_that_asks_for_patience_gets_it(download: Download, from_kaggle: Path, archive: Path) -> None:
    with serve(archive, Behaviour(first=[Answer(429, {"Retry-After": "3"})])) as server:
        run = download(variables=server.environment)
        assert run.returncode == 0 and "too many requests (429); trying again in 3 s" in run.stdout
        assert server.requests[1].time - server.requests[0].time >= 3


@pytest.mark.parametrize(
    ("hangs", "words"), [(False, "the connection to Kaggle was cut"), (True, "Kaggle sent nothing for 1 s")]
)
def test_a_cut_or_silent_transfer_is_resumed_where_it_ended(
    download: Download, from_kaggle: Path, tmp_path: Path, hangs: bool, words: str
) -> None:
    archive = zipped(tmp_path / "archive.zip", *NAMES)
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("train/0/9_large.jpg", hashlib.shake_256(b"noise").digest(3 << 20))
    with serve(archive, Behaviour(cut_after=(1 << 20) + 5000, hangs=hangs)) as server:
        run = download(variables=server.environment | patience(deadline="1"))
        assert run.returncode == 0 and run.stdout.startswith(f"download: {words}; trying again in 0.01 s\ndownload: ")
        # kagglehub writes whole MiB
        assert [request.headers["Range"] for request in server.requests if "Range" in request.headers] == [
            "bytes=1048576-"
        ]
        assert (from_kaggle / "data/raw/train/0/9_large.jpg").read_bytes() == hashlib.shake_256(b"noise").digest(
            3 << 20
        )
        assert len(index(from_kaggle)) == 7


def test_a_server_that_cannot_resume_is_asked_for_everything_again(
    download: Download, from_kaggle: Path, tmp_path: Path
) -> None:
    archive = zipped(tmp_path / "archive.zip", *NAMES)
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("train/0/9_large.jpg", hashlib.shake_256(b"noise").digest(3 << 20))
    with serve(archive, Behaviour(cut_after=(1 << 20) + 5000, ranges=False)) as server:
        run = download(variables=server.environment)
        assert run.returncode == 0 and "the downloaded archive is damaged" in run.stdout
        assert (from_kaggle / "data/raw/train/0/9_large.jpg").read_bytes() == hashlib.shake_256(b"noise").digest(
            3 << 20
        )


def test_a_wrong_checksum_is_named(download: Download, from_kaggle: Path, archive: Path) -> None:
    with serve(archive, Behaviour(md5="AAAAAAAAAAAAAAAAAAAAAA==")) as server:
        line = refused(download(variables=server.environment | patience(attempts="2")), from_kaggle)
        assert "(tried 2 times): the downloaded archive is damaged (wrong MD5)" in line


def test_a_silent_server_is_given_up_with_all_processes(from_kaggle: Path, archive: Path) -> None:
    with serve(archive, Behaviour(silences=9)) as server:
        variables = server.environment | patience(deadline="1", attempts="1") | {"MARK": str(from_kaggle)}
        line = refused(as_process(from_kaggle, env=variables), from_kaggle)
        assert "Kaggle sent nothing for 1 s" in line
        assert not marked(str(from_kaggle))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_a_run_that_is_ended_from_outside_leaves_no_process(from_kaggle: Path, archive: Path, number: int) -> None:
    with serve(archive, Behaviour(silences=9)) as server:
        variables = server.environment | {"MARK": str(from_kaggle)}
        run = subprocess.Popen(
            COMMAND,
            cwd=from_kaggle,
            env=variables,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a run in the background ignores it
        )
        assert wait_for(lambda: server.requests)
        if number == signal.SIGINT:
            os.killpg(run.pid, number)  # a terminal sends it to the whole group
        else:
            run.send_signal(number)
        _, error = run.communicate(timeout=120)
        assert error == ("download: interrupted\n" if number == signal.SIGINT else "")
        assert wait_for(lambda: not marked(str(from_kaggle)))


def wait_for(condition: Callable[[], object], seconds: float = 120) -> bool:
    """Whether a condition holds within some seconds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(condition())


def marked(mark: str) -> list[int]:
    """Processes that a test started, and those that they started, by a variable of their environment."""
    return [one.pid for one in psutil.process_iter() if mark_of(one) == mark]


def mark_of(process: psutil.Process) -> str | None:
    """The variable MARK of a process."""
    try:
        return process.environ().get("MARK")
    except (psutil.Error, OSError):
        return None


def test_a_server_that_was_silent_once_is_asked_again(download: Download, from_kaggle: Path, archive: Path) -> None:
    with serve(archive, Behaviour(silences=1)) as server:
        run = download(variables=server.environment | patience(deadline="1"))
        assert run.returncode == 0 and "Kaggle sent nothing for 1 s; trying again" in run.stdout


def test_a_slow_transfer_may_take_longer_than_the_deadline(
    download: Download, from_kaggle: Path, archive: Path
) -> None:
    with serve(archive, Behaviour(pause=0.4)) as server:
        run = download(variables=server.environment | patience(deadline="1"))
        assert (run.returncode, run.stderr) == (0, "") and "trying again" not in run.stdout


def test_a_machine_without_internet_is_told_so(download: Download, from_kaggle: Path, tmp_path: Path) -> None:
    closed = environment("http://127.0.0.1:9", tmp_path / "cache") | patience(attempts="2")
    line = refused(download(variables=closed), from_kaggle)
    assert "(tried 2 times): Kaggle cannot be reached; check this machine's internet connection" in line


def test_what_is_no_archive_is_refused_and_fetched_anew_the_next_time(
    download: Download, from_kaggle: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html>Please log in to this network</html>")
    with serve(page) as server:
        assert "the downloaded file is not an archive" in refused(download(variables=server.environment), from_kaggle)
        assert not list(server.cache.rglob("*.archive"))


def test_a_damaged_archive_is_refused_and_fetched_anew_the_next_time(
    download: Download, from_kaggle: Path, archive: Path
) -> None:
    content = bytearray(archive.read_bytes())
    content[500] ^= 1  # within the first image: its checksum in the ZIP no longer holds
    archive.write_bytes(content)
    with serve(archive) as server:
        assert "its archive is damaged (Bad CRC-32" in refused(download(variables=server.environment), from_kaggle)
        assert not list(server.cache.rglob("*.archive"))


@pytest.mark.parametrize("name", ["../../../../../../../outside_1.jpg", "{absolute}/outside_1.jpg"])
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_nothing_in_an_archive_gets_out_of_its_folder(
    download: Download, from_kaggle: Path, tmp_path: Path, name: str, form: str
) -> None:
    name = name.format(absolute=tmp_path)
    path = tmp_path / "archive"
    if form == "zip":
        zipped(path, *NAMES, name)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for member in [*NAMES, name]:
                information = tarfile.TarInfo(member)
                information.size = 2000
                archive.addfile(information, io.BytesIO(content_of(member)))
    known = form == "zip" or hasattr(tarfile, "FilterError")
    with serve(path) as server:
        reason = "outside_1.jpg" if known else "cannot unpack safely; use Python 3.11.4 or later"
        assert reason in refused(download(variables=server.environment), from_kaggle)
        inside = server.cache / "datasets"
        found = [found for top in (tmp_path, server.cache) for found in top.rglob("outside_1.jpg")]
        assert all(found.is_relative_to(inside) for found in found)
        assert not any((above / "outside_1.jpg").exists() for above in server.cache.parents)


def test_a_set_within_one_folder_of_the_archive_is_found(download: Download, from_kaggle: Path, tmp_path: Path) -> None:
    path = zipped(tmp_path / "archive.zip", *(f"breast/{name}" for name in NAMES), "breast/README.roboflow.txt")
    with serve(path) as server:
        assert download(variables=server.environment).returncode == 0
        assert [row[0] for row in index(from_kaggle)] == sorted(NAMES)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (NAMES[:-1], "test/1 is missing or holds no image"),
        (["a.csv"], "train/0 is missing or holds no image; train/1 is missing"),
    ],
)
def test_a_set_that_is_laid_out_otherwise_is_refused(
    download: Download, from_kaggle: Path, tmp_path: Path, names: list[str], words: str
) -> None:
    with serve(zipped(tmp_path / "archive.zip", *names)) as server:
        line = refused(download(variables=server.environment), from_kaggle)
        assert HANDLE in line and words in line


def test_a_full_disk_is_told(from_kaggle: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive.zip", *NAMES)
    with zipfile.ZipFile(archive, "a") as more:
        more.writestr("train/0/9_large.jpg", bytes(3 << 20))
    small = tmp_path / "small"
    small.mkdir()
    disk = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=2m tmpfs "{small}" && exec "$@"',
        "-",
    ]
    if shutil.which("unshare") is None or subprocess.run([*disk, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets no user mount a small disk")
    with serve(archive) as server:
        run = subprocess.run(
            [*disk, *COMMAND],
            cwd=from_kaggle,
            env=server.environment | {"KAGGLEHUB_CACHE": str(small)},
            capture_output=True,
            text=True,
        )
        line = refused(run, from_kaggle)
        assert f"the disk is full ({os.strerror(errno.ENOSPC)}) at {small}" in line and "make room" in line


def test_a_limit_on_the_size_of_files_is_told(from_kaggle: Path, archive: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    with serve(archive) as server:
        run = as_process(from_kaggle, env=server.environment, preexec_fn=limit)
        assert f"the disk is full ({os.strerror(errno.EFBIG)})" in refused(run, from_kaggle)
        assert run.stdout == "", "nothing of kagglehub's notices"


def test_two_runs_at_once_fetch_a_set_once(
    from_kaggle: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copy(from_kaggle / "params.yaml", other)
    shutil.copytree(from_kaggle / "data/sets", other / "data/sets")
    with serve(archive) as server:
        server.open.clear()
        first = subprocess.Popen(COMMAND, cwd=from_kaggle, env=server.environment)
        assert wait_for(lambda: len(server.requests) == 2)
        second = subprocess.Popen(COMMAND, cwd=other, env=server.environment | {"MARK": str(other)})
        assert wait_for(
            lambda: any(opened.path.endswith("1.lock") for pid in marked(str(other)) for opened in files_of(pid))
        )
        time.sleep(0.3)  # a second client that did not wait would call the server now
        server.open.set()
        assert [run.wait(timeout=60) for run in (first, second)] == [0, 0]
        assert [request.method for request in server.requests] == ["POST", "GET"]
    assert index(from_kaggle) == index(other)


def files_of(pid: int) -> list[Any]:
    """The files that a process has open."""
    try:
        return psutil.Process(pid).open_files()
    except psutil.Error:
        return []


def test_a_retry_after_may_be_a_date() -> None:
    """RFC 9110, 10.2.3: seconds or a date."""
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    assert 95 < kaggle._seconds_to_wait(soon) <= 100
    assert kaggle._seconds_to_wait("Sun, 06 Nov 1994 08:49:37 GMT") == 0
    assert kaggle._seconds_to_wait("17") == 17
    assert kaggle._seconds_to_wait("soon") == 0

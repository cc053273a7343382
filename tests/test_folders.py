"""The walk through folders: links, loops, what cannot be entered, and patterns."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mammo.core import folders
from mammo.core.errors import UserError
from mammo.predicting import scans
from mammo.sources import own

import pytest

NOBODY = 65534
DEEP = 2100  # folders inside each other: more than Python calls, and a path longer than the system takes


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """As a user whom permissions stop; root may read everything."""
    if os.geteuid():
        yield
        return
    Path().resolve().chmod(0o755)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def names(paths: list[Path]) -> list[str]:
    return [path.as_posix() for path in paths]


def test_files_come_in_a_fixed_order_and_hidden_ones_not_at_all() -> None:
    make("s/b/2", "s/b/10", "s/a", "s/.git/x", "s/.hidden", "s/B/1")
    found = folders.walk(Path("s"))
    assert names(found.files) == ["s/a", "s/B/1", "s/b/10", "s/b/2"]
    assert names(found.folders) == ["s", "s/B", "s/b"]
    assert found.missed == found.repeated == []


def test_links_are_followed_and_a_folder_is_entered_once() -> None:
    make("elsewhere/deep/1.png", "s/z/2.png")
    Path("s/linked").symlink_to(Path("elsewhere").resolve())
    Path("s/latest").symlink_to("z")
    found = folders.walk(Path("s"))
    assert names(found.files) == ["s/latest/2.png", "s/linked/deep/1.png"]
    assert found.repeated == [(Path("s/z"), Path("s/latest"))]
    assert found.missed == []


def test_what_cannot_be_entered_is_named_with_its_reason() -> None:
    make("s/1.png", "s/locked/2.png", "s/closed/3.png")
    Path("s/around").symlink_to(".")
    Path("s/itself").symlink_to("itself")
    Path("s/unmounted").symlink_to("/mnt/unmounted/scans")
    Path("s/locked").chmod(0)
    Path("s/closed").chmod(0o444)  # its names can be listed and nothing else
    try:
        with without_rights():
            found = folders.walk(Path("s"))
    finally:
        for name in ("s/locked", "s/closed"):
            Path(name).chmod(0o755)
    assert dict(found.missed) == {
        Path("s/around"): "is a link to a folder around it",
        Path("s/itself"): "is a link that leads back to itself",
        Path("s/unmounted"): "leads nowhere (a broken link)",
        Path("s/locked"): "cannot be read: Permission denied",
    }
    assert names(found.files) == ["s/1.png", "s/closed/3.png"]  # whoever reads the last names it


def test_links_to_links_do_not_multiply_the_work() -> None:
    for level in range(40):  # each with two links to the next: 2 to the power of 40 ways
        Path(f"s/{level}").mkdir(parents=True)
        for link in "ab":
            Path(f"s/{level}/{link}").symlink_to(f"../{level + 1}")
    make("s/40/1.png")
    begun = time.monotonic()
    found = folders.walk(Path("s/0"))
    assert len(found.files) == 1 and len(found.folders) == 41 and len(found.repeated) == 40
    assert names(folders.matching("s/0/**/*.png")[0]) == names(found.files)
    assert time.monotonic() - begun < 5


def test_folders_may_be_deeper_than_a_path_is_long() -> None:
    top = Path.cwd()
    try:
        for _ in range(DEEP):
            Path("d").mkdir()
            os.chdir("d")
    finally:
        os.chdir(top)
    found = folders.walk(Path())
    ((path, reason),) = found.missed
    assert reason == "cannot be read: File name too long"
    assert len(found.folders) == len(path.parts)
    assert scans.find(["."]).missed == found.missed
    while Path("d").exists():  # too deep for pytest to remove
        Path("d/d").rename("next") if Path("d/d").exists() else None
        Path("d").rmdir()
        Path("next").rename("d") if Path("next").exists() else None


def test_patterns_match_as_in_a_shell() -> None:
    make("s/a/1.png", "s/a/2.dcm", "s/b/c/3.png", "s/.h/4.png", "s/5.png")
    for pattern, expected in {
        "s/*/*.png": ["s/a/1.png"],
        "s/**/*.png": ["s/5.png", "s/a/1.png", "s/b/c/3.png"],
        "s/[ab]/?.dcm": ["s/a/2.dcm"],
        "s/.*/*.png": ["s/.h/4.png"],
        "./s/*.png": ["s/5.png"],
        "s/**": ["s/5.png", "s/a/1.png", "s/a/2.dcm", "s/b/c/3.png"],
        "s/*/": ["s/a", "s/b"],
        "s/x*": [],
        "gone/*": [],
    }.items():
        found, missed = folders.matching(pattern)
        assert (names(found), missed) == (expected, []), pattern
    absolute = f"{Path.cwd()}/s/*/1.png"
    assert folders.matching(absolute) == ([Path.cwd() / "s/a/1.png"], [])


def test_a_pattern_names_what_it_could_not_enter() -> None:
    make("s/1/a.png", "s/2/b.png")
    Path("s/3").symlink_to("3")
    Path("s/2").chmod(0)
    try:
        with without_rights():
            found = [folders.matching(pattern) for pattern in ("s/*/*.png", "s/**/*.png", "s/*/b.png")]
    finally:
        Path("s/2").chmod(0o755)
    for paths, missed in found[:2]:
        assert names(paths) == ["s/1/a.png"]
        assert sorted(names([path for path, _ in missed])) == ["s/2", "s/3"]
    assert names([path for path, _ in found[2][1]]) == ["s/2/b.png", "s/3/b.png"]


def test_own_images_behind_a_folder_without_rights_are_refused_in_one_line() -> None:
    for split in ("train", "valid", "test"):
        make(f"own/{split}/0/{split}_a.png", f"own/{split}/1/{split}_b.png")
    Path("own/test/1").chmod(0)
    try:
        with without_rights(), pytest.raises(UserError, match=r"own/test/1 cannot be read: Permission denied") as one:
            own.own(Path("own"), "(.)")
        Path("own").chmod(0)
        with without_rights(), pytest.raises(UserError, match=r"cannot be read: Permission denied") as two:
            own.own(Path("own"), "(.)")
        with without_rights(), pytest.raises(UserError, match=r"cannot be read: Permission denied") as three:
            own.own(Path("own/test"), "(.)")
    finally:
        Path("own").chmod(0o755)
        Path("own/test/1").chmod(0o755)
    assert not any("\n" in str(each.value) for each in (one, two, three))

"""The page of an external validation, opened in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from mammo.core.model_info import ModelInfo
from mammo.reporting import validation_page
from mammo.scoring import Bootstrap, Cases
from mammo.scoring.validation import External, Rules

import numpy as np
import pytest
from test_page import LAPTOP, PHONE, assert_readable
from test_report import MODEL, Reader

NAME = "a-hospital-with-a-long-name_2026"
FILE = "train/1/" + "a_very_long_name_of_a_file_without_a_space" * 3 + ".dcm"
WARNINGS = [
    f"LEAKING: 1 image is also in the set that the model was made from (1 train): {FILE}.",
    "CANNOT BE CHECKED: 12 of 480 images (2.5 %) have no patient: whether they are of women of the model's own set is "
    "unknown.",
    "vendor 'A vendor of whom nobody has heard', of 160 images, is in no image of the model's own set",
    "31 of 480 images: brighter than every training image",
]
SECTIONS = ["changes", "scores", "points", "calibration", "units", "subgroups", "unlike"]
EVIL = "<img src=x onerror=\"document.title = 'run'\">"


def women(seed: int, name: str = "A vendor of whom nobody has heard") -> External:
    """Four images of each of 120 women, a third of them ill in one breast, seen by three vendors."""
    random = np.random.default_rng(seed)
    woman = np.repeat(np.arange(120), 4)
    sides, views = np.tile(["L", "L", "R", "R"], 120), np.tile(["CC", "MLO"], 240)
    labels = ((woman % 3 == 0) & (sides == "L")).astype(int)
    logits = random.normal(0, 0.7, 120)[woman] + random.normal(0, 0.7, len(woman)) + 1.5 * labels - 0.5
    groups = {"view": views, "laterality": sides, "vendor": np.array([name, "B", "C"])[woman // 2 % 3]}
    patients = np.char.add(f"{seed}-", woman.astype(str))
    exams = np.full(len(woman), "")
    return External(labels, 1 / (1 + np.exp(-logits)), patients, random.random(480) < 0.1, exams, sides, groups)


def write_page(path: Path, external: External, name: str = NAME, warnings: list[str] = WARNINGS) -> Path:
    internal = women(1)
    info = ModelInfo.model_validate({**MODEL, "recalibration": {"intercept": -0.5, "slope": 1.2}})
    cases = Cases(internal.labels, internal.probabilities, internal.patients)
    rules = Rules("balanced_accuracy", 0.006, Bootstrap(1, 200))
    path.write_text(validation_page.page(validation_page.results(name, external, cases, info, rules, warnings)))
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("page") / "validation.html", women(2))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not program:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    browser = Reader(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, LAPTOP])
def test_the_page_fits_loads_nothing_and_complains_of_nothing(
    browser: Reader, page: Path, width: int, scheme: str
) -> None:
    browser.open(page, width, scheme)
    assert {url for url in browser.requests() if not url.startswith("data:")} == {page.as_uri()}
    assert browser.complaints() == []
    assert browser.run("document.scripts.length") == 0
    assert browser.run("document.title").startswith("LEAKING · External validation on ")
    assert browser.run("[...document.querySelectorAll('main h2')].map((each) => each.id)") == SECTIONS
    links = browser.run("[...document.querySelectorAll('nav a')].map((each) => each.getAttribute('href'))")
    assert links == [f"#{name}" for name in SECTIONS]
    beyond = """[...document.querySelectorAll('body *')].filter((each) => {
      const box = each.getBoundingClientRect();
      if (each.closest(".scroll") || !box.width) return false;
      return box.left < -1 || box.right > document.documentElement.clientWidth + 1;
    }).map((each) => each.outerHTML.slice(0, 80))"""
    assert browser.run(beyond) == []
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run("innerWidth") == width


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
def test_pictures_are_drawn_and_every_one_has_its_caption(browser: Reader, page: Path, width: int) -> None:
    browser.open(page, width)
    drawn = browser.run(
        """[...document.images].map((each) => [each.complete, each.naturalWidth, each.clientWidth, each.clientHeight,
             each.alt, each.closest('figure').querySelector('figcaption').textContent])"""
    )
    assert len(drawn) == 2
    for complete, natural, wide, high, alternative, caption in drawn:
        assert complete and natural >= 600 and wide >= 280 and high >= 280
        assert alternative == caption and len(caption) > 20


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
def test_tables_are_readable_and_every_number_says_what_it_is(browser: Reader, page: Path, width: int) -> None:
    """On a telephone a row is a block whose cells carry their column's name; no number is cut or covers another."""
    browser.open(page, width)
    tables = browser.run(
        """[...document.querySelectorAll('table.wide')].map((table) =>
             [...table.querySelectorAll('tbody tr')].map((row) =>
               [...row.querySelectorAll('td')].map((cell) => [cell.dataset.column, cell.textContent.trim(),
               getComputedStyle(cell, '::before').content])))"""
    )
    assert len(tables) == 5, "changes, operating points, at a prevalence, calibration, calibration here"
    heads = browser.run(
        "[...document.querySelectorAll('table.wide thead')].map((each) => getComputedStyle(each).display)"
    )
    for head, rows in zip(heads, tables, strict=True):
        assert len(rows) >= 2
        for cells in rows:
            assert all(text and column for column, text, _ in cells)
            if width == PHONE:
                assert head == "none"
                assert all(label == f'"{column}"' or "attr(" in label for column, _, label in cells), cells
            else:
                assert head != "none"
    overlapping = browser.run(
        """[...document.querySelectorAll('main tr')].flatMap((row) => {
             const cells = [...row.querySelectorAll('th, .score, .value, .number')].map((each) => {
               const range = document.createRange();
               range.selectNodeContents(each);
               return [each.textContent.trim(), range.getBoundingClientRect()];
             }).filter(([text, box]) => text && box.width);
             return cells.flatMap(([name, a], index) => cells.slice(index + 1).filter(([other, b]) =>
               Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
                 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3 && name !== other
             ).map(([other]) => name + ' on ' + other));
           })"""
    )
    assert overlapping == []
    small = "[...document.querySelectorAll('main td, main th, main p')].filter((each) => each.textContent.trim() && "
    assert browser.run(f"{small}parseFloat(getComputedStyle(each).fontSize) < 12).length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(browser: Reader, page: Path, scheme: str) -> None:
    browser.open(page, scheme=scheme)
    assert_readable(browser, scheme)


def test_names_of_the_set_and_its_levels_are_shown_and_never_run(browser: Reader, tmp_path: Path) -> None:
    path = write_page(tmp_path / "evil.html", women(2, EVIL), EVIL, [f"LEAKING: {EVIL}", f"vendor {EVIL!r}"])
    browser.open(path)
    assert browser.run("document.title").startswith("LEAKING · External validation on <img")
    assert browser.run("document.querySelectorAll('img:not([src^=\"data:image/png;base64,\"])').length") == 0
    assert browser.complaints() == []
    assert browser.run("document.body.textContent").count("<img src=x onerror=") >= 4

"""The report's explorer in a real browser: its figures against scikit-learn, its list, its keyboard, hostile names."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mammo.core import dataset, files, predictions
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.core.predictions import PredictedSplit, Prediction
from mammo.reporting import case_pictures, explorer, pages
from mammo.scoring import Bootstrap, Cases, at_thresholds, operating_points, rounded, with_interval

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from sklearn import metrics
from test_page import ATTACK, Reader, opened
from test_report import MODEL, change, write_run, written

ROWS = predictions.read(ROOT / "plots/predictions.csv")
LABELS = np.array([row.label for row in ROWS])
PROBABILITIES = np.array([row.probability for row in ROWS])
RULES: dict[str, Any] = files.read_json(ROOT / "metrics/operating_points.json")
SPOKEN = 400  # ms after which the figures are said


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    yield from opened(Reader, tmp_path_factory.mktemp("profile"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The committed run in a folder to change, the working directory."""
    monkeypatch.chdir(tmp_path)
    return write_run(tmp_path)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the committed run."""
    folder = write_run(tmp_path_factory.mktemp("explored"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        written(folder)
    return folder / "report/report.html"


def thresholds(page: Path) -> list[float]:
    """The thresholds of the slider."""
    locked = [point["threshold"] for point in RULES.values()]
    return explorer.stops_of(PROBABILITIES, locked)


def move(browser: Reader, stop: int, prevalence: str = "") -> None:
    """Set the slider, and the prevalence by the text of its option, as a reader does."""
    browser.run(
        f"""(() => {{
          const slider = document.getElementById('explorer-threshold');
          slider.value = {stop};
          slider.dispatchEvent(new Event('input'));
          const prevalence = document.getElementById('explorer-prevalence');
          const plain = (option) => option.textContent.replace(/\\s/g, ' ');
          const wanted = [...prevalence.options].find((each) => plain(each) === {prevalence!r});
          if (wanted) prevalence.value = wanted.value;
          prevalence.dispatchEvent(new Event('change'));
          return new Promise((done) => setTimeout(done, {SPOKEN}));
        }})()"""
    )


def figures(browser: Reader) -> dict[str, str]:
    return browser.run(
        """Object.fromEntries([...document.querySelectorAll('#explorer-scores [data-score]')].map((row) =>
             [row.dataset.score, row.querySelector('.value').textContent]))"""
    )


def choose(browser: Reader, control: str, option: str) -> None:
    """Choose an option by its text."""
    browser.run(
        f"""(() => {{
          const control = document.getElementById({control!r});
          control.selectedIndex = [...control.options].findIndex((each) => each.textContent === {option!r});
          control.dispatchEvent(new Event('change'));
        }})()"""
    )


def listed(browser: Reader) -> list[str]:
    """The names of all cases that pass the filters, in their order."""
    browser.run("while (!document.getElementById('cases-more').hidden) document.getElementById('cases-more').click()")
    return browser.run("[...document.querySelectorAll('#cases-list .name')].map((each) => each.textContent)")


# Figures


def test_every_threshold_has_the_scores_of_the_operating_points_and_the_counts_of_scikit_learn() -> None:
    cases = Cases(LABELS, PROBABILITIES, [row.patient for row in ROWS])
    levels = {f"{level}": level for level in (0.0, 0.2, 0.5, 0.95, 1.1, *PROBABILITIES[:3].tolist())}
    found = at_thresholds(cases, list(levels.values()), Bootstrap(1, 300))
    for one, point in zip(found, operating_points(cases, levels, Bootstrap(1, 300)).values(), strict=True):
        assert {name: one.scores[name] for name in ("sensitivity", "specificity")} | {
            "threshold": one.threshold
        } == point
        spared, recalled, missed, hit = metrics.confusion_matrix(LABELS, one.threshold <= PROBABILITIES).ravel()
        assert one.counts == (hit, recalled, missed, spared)


@pytest.mark.parametrize("share", [0.1, 0.45, 0.9])
def test_the_figures_at_a_threshold_are_those_of_scikit_learn(browser: Reader, page: Path, share: float) -> None:
    browser.open(page)
    levels = thresholds(page)
    stop = round(share * (len(levels) - 1))
    move(browser, stop, "5 %")
    called = levels[stop] <= PROBABILITIES
    sensitivity = metrics.recall_score(LABELS, called)
    specificity = metrics.recall_score(LABELS, called, pos_label=0)
    recalled = 0.05 * sensitivity + 0.95 * (1 - specificity)
    expected = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": metrics.precision_score(LABELS, called),
        "ppv": 0.05 * sensitivity / recalled,
        "recall_rate": recalled,
    }
    shown = figures(browser)
    assert {key: text.split(" ")[0] for key, text in shown.items()} == {
        key: rounded(value) for key, value in expected.items()
    }
    for text in shown.values():
        value, low, high = map(float, re.fullmatch(r"([\d.]+) \(([\d.]+)–([\d.]+)\)", text).groups())
        assert 0 <= low <= value <= high <= 1 and low < high
    cells = browser.run("[...document.querySelectorAll('.matrix td[data-cell]')].map((each) => +each.textContent)")
    assert cells == metrics.confusion_matrix(LABELS, called).ravel().tolist()
    spared, false, missed, hit = cells
    said = f"At {rounded(levels[stop], 4)}: {hit} of {hit + missed} images with cancer found, {false} of "
    assert browser.run("document.getElementById('explorer-said').textContent") == (
        f"{said}{false + spared} healthy images recalled."
    )
    fpr, tpr, _ = metrics.roc_curve(LABELS, PROBABILITIES, drop_intermediate=False)
    precision, recall, _ = metrics.precision_recall_curve(LABELS, PROBABILITIES)
    for curve, x, y in (("roc", fpr, tpr), ("pr", recall, precision)):
        across, up = place(browser, curve)
        assert min(np.hypot(x - across, y - up)) < 1e-3, "on the curve"
    assert place(browser, "roc") == pytest.approx((1 - specificity, sensitivity), abs=6e-4)
    assert place(browser, "pr") == pytest.approx((sensitivity, expected["precision"]), abs=6e-4)


def place(browser: Reader, curve: str) -> tuple[float, float]:
    """Where the point of a curve is drawn, from 0 to 1 on both axes."""
    read = f"(() => {{ const dot = document.querySelector('#explorer-{curve} circle'); return [dot.cx, dot.cy]"
    x, y = browser.run(f"{read}.map((each) => each.baseVal.value); }})()")
    return x / 100, 1 - y / 100


@pytest.mark.parametrize("rule", RULES)
def test_at_a_locked_threshold_the_intervals_are_those_of_the_run(browser: Reader, page: Path, rule: str) -> None:
    browser.open(page)
    stop = thresholds(page).index(RULES[rule]["threshold"])
    browser.run(
        f"""(() => {{ const rule = document.getElementById('explorer-rule'); rule.value = {stop};
              rule.dispatchEvent(new Event('change')); }})()"""
    )
    shown = figures(browser)
    for score in ("sensitivity", "specificity"):
        assert shown[score] == with_interval(**RULES[rule][score])
    assert browser.run("document.getElementById('explorer-value').textContent") == rounded(RULES[rule]["threshold"], 4)


def test_a_large_set_has_a_bounded_number_of_thresholds_with_the_lowest_the_highest_and_the_locked_ones() -> None:
    probabilities = np.random.default_rng(1).random(5000)
    stops = explorer.stops_of(probabilities, [0.5, 0.25])
    assert len(stops) <= explorer.STOPS + 3 and stops == sorted(set(stops))
    assert stops[0] == probabilities.min() and stops[-1] > probabilities.max() >= stops[-2]
    assert {0.5, 0.25} <= set(stops)
    assert explorer.stops_of(np.array([0.5, 0.5]), [0.5]) == [0.5, np.nextafter(0.5, 1)]


def test_another_unit_has_its_own_figures_and_says_so(run: Path) -> None:
    change(run / "metrics/test.json", unit="breast")
    (run / "metrics/subgroups.json").write_text("{}")  # they would be of breasts
    page, _ = written(run)
    data = json.loads(page.split('id="explorer-data">')[1].split("</script>")[0])
    assert data["unit"] == "breasts" and sum(data["counts"][0]) == 120 and len(data["cases"]) == 240
    assert "the figures above are per breast" in page


# The list


@pytest.mark.parametrize(
    ("option", "label", "called"),
    [("missed cancers", 1, False), ("false positives", 0, True), ("found cancers", 1, True)],
)
def test_cases_are_filtered_by_their_outcome_at_the_threshold(
    browser: Reader,
    page: Path,
    option: str,
    label: int,
    called: bool,
) -> None:
    browser.open(page)
    levels = thresholds(page)
    for stop in (60, 215):
        move(browser, stop)
        choose(browser, "cases-outcome", option)
        wanted = [row for row in ROWS if row.label == label and (row.probability >= levels[stop]) is called]
        assert listed(browser) == [row.image for row in sorted(wanted, key=lambda row: -row.probability)]
        assert browser.run("document.getElementById('cases-said').textContent") == f"{len(wanted)} of 240 images"


def test_cases_are_filtered_by_subgroup_and_finding_and_sorted(browser: Reader, run: Path) -> None:
    odd = {ROWS[3].image, ROWS[8].image}
    header = "kind,severity,image,other,patient,detail\n"
    (run / "plots/audit.csv").write_text(header + "".join(f"no_breast,warning,{image},,,\n" for image in sorted(odd)))
    written(run)
    browser.open(run / "report/report.html")
    choose(browser, "cases-group", "view MLO")
    choose(browser, "cases-order", "by name")
    assert listed(browser) == sorted(row.image for row in ROWS if "_MLO" in row.image)
    choose(browser, "cases-group", "all")
    choose(browser, "cases-finding", "no breast")
    assert set(listed(browser)) == odd
    choose(browser, "cases-finding", "without one")
    choose(browser, "cases-order", "lowest probability first")
    names = listed(browser)
    assert len(names) == 238 and names[0] == min(ROWS, key=lambda row: row.probability).image
    assert browser.run("document.querySelector('#cases-list').textContent.includes('no breast')") is False
    choose(browser, "cases-finding", "all images")
    choose(browser, "cases-order", "nearest to the threshold first")
    active = RULES["balanced_accuracy"]["threshold"]
    near = sorted(ROWS, key=lambda row: abs(row.probability - active))[:40]
    assert len({*listed(browser)[:4]} & {row.image for row in near}) == 4


def test_a_case_is_shown_with_its_picture_and_its_heat_map_over_it(browser: Reader, page: Path) -> None:
    browser.open(page)
    choose(browser, "cases-order", "by name")
    names = listed(browser)
    first = names.index(ROWS[0].image)
    seen = browser.run(
        f"""[...document.querySelectorAll('#cases-list li')[{first}].querySelectorAll('img')].map((each) => {{
             const box = each.getBoundingClientRect();
             return [each.src.slice(0, 16), each.alt, box.left, box.top, box.width, each.naturalWidth];
           }})"""
    )
    assert [source for source, *_ in seen] == ["data:image/jpeg;", "data:image/jpeg;", "data:image/png;b"]
    assert [alt for _, alt, *_ in seen] == [
        f"Test image {ROWS[0].image}",
        "The same image under",
        "its heat map",
    ]
    plain, below, above = (box for _, _, *box in seen)
    assert below[:3] == pytest.approx(above[:3], abs=1) and plain[0] < below[0] and plain[2] > 60
    text = browser.run(f"document.querySelectorAll('#cases-list li')[{first}].textContent")
    assert not ROWS[0].label and not ROWS[0].predicted
    assert f"Healthy, {rounded(ROWS[0].probability, 4)}: not recalled" in text and "view CC" in text


# Keyboard, screen reader, no script


def test_the_slider_is_moved_by_keys_and_what_changed_is_said(browser: Reader, page: Path) -> None:
    browser.open(page)
    browser.run("document.getElementById('explorer-threshold').focus()")
    before = int(browser.run("document.getElementById('explorer-threshold').value"))
    for key, code in (("ArrowLeft", 37), ("ArrowLeft", 37), ("End", 35), ("Home", 36), ("ArrowRight", 39)):
        for kind in ("keyDown", "keyUp"):
            browser.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        value = int(browser.run("document.getElementById('explorer-threshold').value"))
        expected = {"ArrowLeft": before - 1, "End": len(thresholds(page)) - 1, "Home": 0, "ArrowRight": before + 1}[key]
        assert value == expected
        before = value
    browser.run(f"new Promise((done) => setTimeout(done, {SPOKEN}))")
    said = browser.run("document.getElementById('explorer-said').textContent")
    assert said.startswith(f"At {rounded(thresholds(page)[1], 4)}: 60 of 60 images with cancer found")


def test_every_control_has_a_name_and_the_slider_says_its_threshold(browser: Reader, page: Path) -> None:
    browser.open(page)
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    named: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert [name.split(" ")[0] for name in named["slider"]] == ["Threshold"]
    assert named["combobox"] == [
        "Locked on validation",
        "Prevalence for the predictive value",
        *("Outcome", "Subgroup", "Finding of the audit", "Order"),
    ]
    assert all(named["button"]) and len(named["status"]) == 3, "two sentences, and the threshold's own"
    assert browser.run("document.getElementById('explorer-threshold').ariaValueText") == rounded(
        RULES["balanced_accuracy"]["threshold"], 4
    )
    drawn = [name.split(" with its")[0] for name in named["image"] if "with its 95" in name and "cross" in name]
    assert drawn == ["ROC curve of the test images", "Precision and recall of the test images"]


def test_more_cases_are_shown_on_request_and_reading_goes_on_there(browser: Reader, page: Path) -> None:
    browser.open(page)
    count = "document.querySelectorAll('#cases-list li').length"
    assert browser.run(count) == 24
    browser.run("document.getElementById('cases-more').click()")
    assert browser.run(count) == 48
    assert browser.run("[...document.querySelectorAll('#cases-list li')].indexOf(document.activeElement)") == 24


def test_without_a_script_the_page_has_the_figures_of_the_threshold_in_force(browser: Reader, page: Path) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert figures(browser)["sensitivity"] == with_interval(**RULES["balanced_accuracy"]["sensitivity"])
        seen = browser.run("document.querySelector('.explorer').innerText")
        found = sum(row.label and row.predicted for row in ROWS)
        assert "allow this page its own script" in seen and f"{found} of 60 images with cancer found" in seen
        assert "Outcome" not in seen and "Locked on validation" not in seen
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


# Strangers


EVIL = f"</script><script>pwned=1</script>{ATTACK}"


def test_no_name_of_an_image_a_group_or_a_finding_becomes_markup_or_script(browser: Reader, run: Path) -> None:
    rows = [Prediction(f"{EVIL}{place}", *row[1:]) for place, row in enumerate(ROWS)]
    predictions.write(run / "plots/predictions.csv", rows)
    files.write_csv(run / "plots/cases/cases.csv", ("image", EVIL), [(row.image, EVIL) for row in rows])
    finding = [(EVIL, "warning", rows[0].image, "", "", EVIL)]
    files.write_csv(run / "plots/audit.csv", ("kind", "severity", "image", "other", "patient", "detail"), finding)
    written(run)
    browser.open(run / "report/report.html")
    for stop in (0, 100):
        move(browser, stop)
    assert browser.run("[typeof pwned, document.scripts.length, document.querySelectorAll('img[src=x]').length]") == [
        *("undefined", 2, 0)
    ]
    assert browser.complaints() == [], "nothing was even tried: the policy would have said so"
    assert browser.run("document.querySelector('#cases-list .name').textContent").startswith(EVIL)
    assert browser.run("document.querySelector('#cases-group optgroup').label").lower() == EVIL.lower()
    choose(browser, "cases-finding", EVIL.replace("_", " "))
    assert listed(browser) == [rows[0].image]


def test_the_pages_policy_allows_its_own_script_and_style_alone(browser: Reader, page: Path) -> None:
    text = page.read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "unsafe" not in policy and "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[^ ']+'; style-src 'sha256-[^ ']+';", policy)
    assert not re.search(r'\sstyle="| on\w+="|javascript:', text.split("<script")[0])
    bad = page.with_name("added.html")
    bad.write_text(
        text.replace("<main>", f"<main><script>pwned = 1</script>{ATTACK}<style>main{{color:red}}</style>", 1)
    )
    browser.open(bad)
    assert browser.run("typeof pwned") == "undefined" and len(browser.complaints()) >= 3


def test_the_page_of_a_revision_has_its_explorer_only_if_its_script_is_this_versions(
    browser: Reader,
    page: Path,
) -> None:
    text = page.read_text()
    shown = page.with_name("revision.html")
    for changed, works in ((text, True), (text.replace('"use strict";', '"use strict"; pwned = 1;'), False)):
        shown.write_text(pages.of_revision(changed, "v1", "abc", "now", ""))
        browser.open(shown)
        assert browser.run("document.querySelectorAll('#cases-list li').length > 0") is works
        assert browser.run("typeof pwned") == "undefined"


# What evaluate writes for it


def split(source: str, number: int = 12) -> PredictedSplit:
    """A predicted test set of noise, whose classes alternate."""
    random = np.random.default_rng(2)
    images = cv2.GaussianBlur(random.integers(0, 256, (300, 400, number), np.uint8), (0, 0), 3).transpose(2, 0, 1)
    entries = [
        dataset.Entry(f"{place}.png", place % 2, "test", f"{place}", "", view="CC", groups=(("image maker", "A"),))
        for place in range(number)
    ]
    info = ModelInfo.model_validate(MODEL | {"trained_on": MODEL["trained_on"] | {"source": source}})
    test = dataset.Dataset(np.ascontiguousarray(images), entries)
    return PredictedSplit(test, np.arange(number), random.random(number), info, 0.5)


def bright(positions: np.ndarray) -> Iterator[np.ndarray]:
    """Heat maps with one peak."""
    for _ in positions:
        heat = np.zeros((300, 400), np.float32)
        heat[100:140, 200:240] = 1
        yield heat


@pytest.mark.parametrize(
    ("source", "setting", "pictured"),
    [
        ("phantom", "phantoms", True),
        ("folder", "phantoms", False),
        ("kaggle", "phantoms", False),
        ("folder", "all", True),
        ("phantom", "none", False),
    ],
)
def test_scans_are_pictured_only_when_asked_and_phantoms_unless_told(
    tmp_path: Path, source: str, setting: str, pictured: bool
) -> None:
    case_pictures.write(tmp_path / "cases", split(source), bright, setting)
    rows = files.read_csv(tmp_path / "cases/cases.csv", ("image", "view", "image maker"))
    assert [row["image"] for row in rows] == [f"{place}.png" for place in range(12)]
    names = sorted(path.name for path in (tmp_path / "cases").iterdir() if path.name != "cases.csv")
    assert names == [f"{n:04d}.{suffix}" for n in range(1, 13) for suffix in ("jpg", "png")] * pictured


def test_pictures_are_small_and_a_heat_map_hides_nothing_where_there_is_no_evidence(tmp_path: Path) -> None:
    for folder in ("cases", "again"):
        case_pictures.write(tmp_path / folder, split("phantom"), bright, "phantoms")
    picture = cv2.imread(str(tmp_path / "cases/0001.jpg"), cv2.IMREAD_UNCHANGED)
    with Image.open(tmp_path / "cases/0001.png") as heat:
        opacity = np.asarray(heat.convert("RGBA"))[..., 3]
    assert picture.shape == (168, 224) and opacity.shape == (84, 112)
    assert opacity[0, 0] == 0 and opacity.max() == round(255 * 0.75)
    for path in (tmp_path / "cases").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_of_a_large_set_the_mistakes_and_then_the_doubtful_cases_are_pictured() -> None:
    test = split("phantom", 40)
    certainty = np.abs(test.probabilities - test.threshold)
    wrong = np.flatnonzero(test.predicted != test.labels)
    right = np.flatnonzero(test.predicted == test.labels)
    few = case_pictures.hardest(test, 3)
    assert set(few) == set(wrong[np.argsort(-certainty[wrong])][:3]) and few.tolist() == sorted(few)
    more = case_pictures.hardest(test, len(wrong) + 2)
    assert set(more) == {*wrong, *right[np.argsort(certainty[right])][:2]}
    assert case_pictures.hardest(test).tolist() == list(range(40))


def test_other_images_than_those_of_the_predictions_are_refused_in_one_line(run: Path) -> None:
    rows = files.read_csv(run / "plots/cases/cases.csv", ("image",))
    files.write_csv(run / "plots/cases/cases.csv", list(rows[0]), [list(row.values()) for row in rows[1:]])
    with pytest.raises(UserError, match=r"plots/cases/cases\.csv and plots/predictions\.csv list other images: run"):
        written(run)

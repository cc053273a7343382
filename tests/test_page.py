"""The page of `dvc plots show` and `dvc plots diff`, opened in a real browser."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from mammo import commands
from mammo.core import files
from mammo.reporting import scripts
from mammo.scoring import (
    Bootstrap,
    Cases,
    in_subgroups,
    in_units,
    net_benefit,
    pr_curve,
    reliability,
    roc_curve,
    scores,
    subgroups,
)

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PLOTS = ROOT / ".dvc/plots"
REVISIONS = ("v1.0", "half-the-images", "exp/wider-network-with-a-long-name")
DATA = "PHANTOMS (synthetic mammograms) · 240 test images of 80 patients"
CHARTS = [
    "Scores",
    "ROC curve",
    "Precision and recall",
    "Calibration",
    "Decision curve",
    "Confusion matrix",
    "Subgroups",
]
OUTCOMES = ("false_negatives", "false_positives", "true_negatives", "true_positives")
SHEET, SPLITS = (1350, 856), (780, 390)  # px, width and height of pictures as evaluate and audit draw them
PHONE, LAPTOP = 390, 1280  # px
MISSING = {  # pictures that a revision has not
    REVISIONS[0]: ["plots/audit/splits.png"],
    REVISIONS[1]: ["plots/explanation/false_negatives.png"],
}
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe"),
)


class Browser:
    """Chromium, driven over a pipe by its DevTools protocol."""

    def __init__(self, program: str, profile: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # The protocol is fixed to descriptors 3 and 4.
        redirect = f'exec "$@" 3<&{commands} 4>&{answers}'
        self.process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._numbers = itertools.count(1)
        self._unread = b""
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command's result; events that come meanwhile are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            piece = os.read(self._answers, 1 << 20)
            assert piece, "the browser has gone"
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, page: Path, width: int = LAPTOP, scheme: str = "light") -> None:
        """Show a page of plots and wait until its charts are drawn."""
        self.events.clear()
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width == PHONE
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.send("Page.navigate", url=page.as_uri())
        self.wait()

    def wait(self) -> None:
        """Until the charts are drawn."""
        until = time.monotonic() + 60
        while self.run("document.readyState != 'complete' || document.body.ariaBusy != 'false'"):
            assert time.monotonic() < until, (self.complaints(), self.run("document.body.innerText"))
            time.sleep(0.05)

    def complaints(self) -> list[dict[str, Any]]:
        """What the console says of errors and warnings."""
        found = [event for event in self.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        calls = [event for event in self.events if event["method"] == "Runtime.consoleAPICalled"]
        return found + [call for call in calls if call["params"]["type"] in ("error", "warning", "assert")]

    def requests(self) -> set[str]:
        """Addresses of everything the page asked for."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return {event["params"]["request"]["url"] for event in sent}

    def close(self) -> None:
        os.write(self._commands, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        self.process.wait(20)
        os.close(self._commands)
        os.close(self._answers)


class Reader(Browser):
    """The browser, with a page that is complete when it is loaded."""

    def wait(self) -> None:
        """Until the page is loaded."""
        until = time.monotonic() + 30
        while self.run("document.readyState != 'complete'"):
            assert time.monotonic() < until
            time.sleep(0.02)


Kind = TypeVar("Kind", bound=Browser)


def opened(kind: type[Kind], profile: Path) -> Iterator[Kind]:
    """A browser until the end of the tests that share it; they are skipped where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not program:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    browser = kind(program, profile)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from opened(Browser, tmp_path_factory.mktemp("profile"))


def write_plots(plots: Path, seed: int, separation: float, epochs: int) -> None:
    """The files of plots/ as train and evaluate write them, from generated probabilities."""
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 0, 1], 40)
    probabilities = 1 / (1 + np.exp(-random.normal(separation * (labels - 0.5), 1)))
    patients = np.array([f"{position // 3}" for position in range(len(labels))])
    cases, bootstrap = Cases(labels, probabilities, patients), Bootstrap(1, 200)
    # A revision of before there was a recalibration is drawn beside those that have one.
    moved = Cases(labels, probabilities**2, patients) if seed else None
    plots.mkdir(exist_ok=True)
    for name, table in (
        ("roc", roc_curve(cases, bootstrap)),
        ("pr", pr_curve(cases, bootstrap)),
        ("calibration", reliability(cases, bootstrap, moved)[1]),
        ("decision", net_benefit(cases, bootstrap, moved)),
    ):
        files.write_csv(plots / f"{name}.csv", table.columns, table.rows)
    found = scores(cases, 0.5, bootstrap)
    rows = [(name, score.value, score.low, score.high, DATA) for name, score in found.items()]
    files.write_csv(plots / "scores.csv", ("score", "value", "low", "high", "data"), rows)
    views = {
        "view": np.tile(["CC", "MLO"], len(labels) // 2),
        "manufacturer": np.tile(["A", "B", "C"], len(labels) // 3),
    }
    parts = in_subgroups(labels, probabilities, patients, views, 0.5, bootstrap)
    everything = subgroups.overall(in_units("image", labels, probabilities, patients), len(labels), 0.5, bootstrap)
    files.write_csv(plots / "subgroups.csv", subgroups.ROW, subgroups.as_rows(parts, everything, DATA))
    words = np.array(["healthy", "cancer"])
    called = (probabilities >= 0.5).astype(int)
    files.write_csv(plots / "confusion.csv", ("actual", "predicted"), zip(words[labels], words[called], strict=True))
    history = [
        (epoch, split, 0.1 * seed + gap + 0.7 * 0.9**epoch, 0.5 + (0.3 + gap) * (1 - 0.8**epoch), 0.8)
        for epoch in range(1, epochs + 1)
        for split, gap in (("train", 0.0), ("valid", 0.1))
    ]
    files.write_csv(plots / "history.csv", ("epoch", "split", "loss", "roc_auc", "accuracy"), history)
    draw(plots / "audit/splits.png", SPLITS)
    for outcome in OUTCOMES:
        draw(plots / "explanation" / f"{outcome}.png", SHEET)


def draw(path: Path, size: tuple[int, int]) -> None:
    """A picture of that width and height."""
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.full(size[::-1], 127, np.uint8))


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The pages for one revision (`dvc plots show`) and for three (`dvc plots diff`), by number of revisions."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(PLOTS, folder / ".dvc/plots", ignore=shutil.ignore_patterns("page"))
    for name in (".dvc/config", "dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org")
    run(*git, "init", "--quiet", folder=folder)
    for seed, revision in enumerate(REVISIONS):
        write_plots(folder / "plots", seed, 1.0 + seed, epochs=12)
        for missing in MISSING.get(revision, ()):
            (folder / missing).unlink()
        run(*git, "add", "--all", folder=folder)
        run(*git, "commit", "--quiet", "--message", revision, folder=folder)
        run(*git, "tag", revision, folder=folder)
    run(sys.executable, "-m", "dvc", "plots", "show", "-o", "elsewhere/one", folder=folder)
    run(sys.executable, "-m", "dvc", "plots", "diff", *REVISIONS, "-o", "three", folder=folder)
    return {1: folder / "elsewhere/one/index.html", 3: folder / "three/index.html"}


def test_template_is_the_layout_with_vega_inside():
    done = subprocess.run(
        [sys.executable, "-c", "import build, sys; sys.stdout.buffer.write(build.page().encode())"],
        cwd=PLOTS / "page",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == (PLOTS / "page.html").read_bytes()
    assert b"{scripts}" not in done.stdout


def headings_of(browser: Browser) -> list[str]:
    return browser.run("[...document.querySelectorAll('main h2')].map((each) => each.textContent)")


@pytest.mark.parametrize("count", [1, 3])
def test_every_chart_is_drawn_in_order(browser: Browser, pages: dict[int, Path], count: int):
    browser.open(pages[count])
    headings = headings_of(browser)
    expected = [*CHARTS, "Training history", "Audit", "Heat maps"]
    assert [heading.removesuffix(", test images") for heading in headings] == expected
    marks = browser.run(
        """Object.fromEntries([...document.querySelectorAll('main > div[id]')].map((each) => [each.id,
             Object.fromEntries(['line', 'area', 'symbol', 'rule', 'rect', 'text'].map((kind) => [kind,
               [...each.querySelectorAll(`.role-mark.mark-${kind} > *`)].filter((mark) => {
                 const box = mark.getBoundingClientRect();
                 return box.width + box.height > 2;
               }).length]))]))"""
    )
    scores = 11
    assert marks["Scores"]["symbol"] == marks["Scores"]["rule"] == marks["Scores"]["text"] == scores * count
    subgroups = 3 * (1 + 2 + 3)
    assert marks["Subgroups"]["symbol"] == marks["Subgroups"]["rule"] == marks["Subgroups"]["text"] == subgroups * count
    for curve in ("ROC_curve", "Precision_and_recall", "Decision_curve"):
        assert marks[curve]["area"] == count
    assert marks["ROC_curve"]["line"] == count + 1, "and the line of chance"
    assert marks["Precision_and_recall"]["line"] == count
    assert marks["Precision_and_recall"]["rule"] == count, "the prevalence"
    recalibrated = min(count, 2)  # the first of three revisions is not
    assert marks["Calibration"]["rule"] == count * 10
    assert marks["Calibration"]["symbol"] == (count + recalibrated) * 10
    assert marks["Decision_curve"]["line"] == 2 * count + recalibrated, "model and recalling everybody"
    assert marks["Confusion_matrix"]["rect"] == marks["Confusion_matrix"]["text"] == 4 * count
    assert marks["plots_history_csv"]["line"] == 2 * 2 * count, "two panels, two splits"
    assert marks["plots_history_csv"]["symbol"] == 2 * 2 * count * 12


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_loaded_and_nothing_complains(browser: Browser, pages: dict[int, Path], count: int):
    browser.open(pages[count])
    page = pages[count].as_uri()
    asked = browser.requests()
    pictures = {url for url in asked if url.endswith(".png") and url.startswith(page.removesuffix("index.html"))}
    assert len(pictures) == count * (1 + len(OUTCOMES)) - sum(map(len, MISSING.values())) * (count == 3)
    assert {url for url in asked if not url.startswith("data:")} == {page, *pictures}
    assert browser.complaints() == []


def named(browser: Browser, card: str) -> list[str]:
    """The captions of a card's pictures."""
    return browser.run(f"[...document.querySelectorAll('#{card} figcaption')].map((each) => each.textContent)")


def test_a_picture_is_named_for_what_it_shows_and_its_revision(browser: Browser, pages: dict[int, Path]):
    browser.open(pages[1])
    assert named(browser, "audit") == ["Splits, workspace"]
    outcomes = [outcome.capitalize().replace("_", " ") for outcome in OUTCOMES]
    assert named(browser, "explanation") == [f"{outcome}, workspace" for outcome in outcomes]
    assert "None here" not in browser.run("document.querySelector('main').innerText")


def test_of_several_revisions_every_picture_is_shown_or_said_to_be_missing(browser: Browser, pages: dict[int, Path]):
    browser.open(pages[3])
    first, second, third = REVISIONS
    assert named(browser, "audit") == [f"Splits, {second}", f"Splits, {third}"]
    assert f"None here of {first}: git" in browser.run("document.querySelector('#audit p').textContent")
    assert named(browser, "explanation") == [
        f"{outcome.capitalize().replace('_', ' ')}, {revision}{': none' if is_missing else ''}"
        for outcome in OUTCOMES
        for revision in REVISIONS
        for is_missing in [f"plots/explanation/{outcome}.png" in MISSING.get(revision, ())]
    ]
    assert "None here" not in browser.run("document.querySelector('#explanation p').textContent")
    of_captions, of_the_list = (
        browser.run(f"[...document.querySelectorAll('{each}')].map((each) => each.style.getPropertyValue('--colour'))")
        for each in ("#explanation figcaption", "#revisions li")
    )
    assert of_captions == of_the_list * len(OUTCOMES) and len(set(of_the_list)) == len(REVISIONS)
    for source, caption in browser.run(
        "[...document.images].map((each) => [each.src, each.closest('figure').firstChild.textContent])"
    ):
        name, revision = caption.split(", ")
        file = f"{revision.replace('/', '_')}_plots_"
        assert Path(source).name.startswith(file), "DVC's picture of that revision"
        assert Path(source).stem.endswith(name.lower().replace(" ", "_"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, 800, LAPTOP])
@pytest.mark.parametrize("count", [1, 3])
def test_pictures_keep_their_form_within_the_window(
    browser: Browser, pages: dict[int, Path], count: int, width: int, scheme: str
):
    browser.open(pages[count], width, scheme)
    pictures = browser.run(
        """[...document.images].map((each) => {
             const [box, card] = [each, each.closest('.wide')].map((some) => some.getBoundingClientRect());
             return { real: [each.naturalWidth, each.naturalHeight], width: box.width, height: box.height,
                      inside: card.left < box.left && box.right < card.right, opens: each.parentNode.href == each.src };
           })"""
    )
    assert {tuple(picture["real"]) for picture in pictures} == {SHEET, SPLITS}
    for picture in pictures:
        across, down = picture["real"]
        assert picture["inside"] and picture["opens"]
        assert picture["width"] >= min(300, width), "wide enough to be made out"
        assert picture["width"] / picture["height"] == pytest.approx(across / down, rel=0.01), "not distorted"
    assert len({picture["width"] for picture in pictures if tuple(picture["real"]) == SHEET}) == 1, "of one size"


def test_a_chart_that_fails_says_so(browser: Browser, pages: dict[int, Path]):
    broken = pages[1].with_name("broken.html")
    broken.write_text(pages[1].read_text().replace('"mark": "line"', '"mark": "lime"', 1))
    browser.open(broken)
    assert "could not be drawn" in browser.run("document.getElementById('ROC_curve').innerText")
    assert browser.complaints()
    assert browser.run("document.querySelectorAll('main .chart-wrapper svg').length") == len(CHARTS), "the others"


def test_before_the_first_run_no_chart_and_no_folder_of_pictures_pretends_to_have_data(
    browser: Browser, pages: dict[int, Path], tmp_path: Path
):
    folder = tmp_path / "clone"
    run("git", "clone", "--quiet", str(pages[3].parent.parent), str(folder), folder=tmp_path)
    shutil.rmtree(folder / "plots")
    run(sys.executable, "-m", "dvc", "plots", "show", folder=folder)
    browser.open(folder / "dvc_plots/index.html")
    assert headings_of(browser) == [*CHARTS, "plots history csv"]
    assert browser.run("[...document.querySelectorAll('main .chart')].map((each) => each.textContent)") == [
        "No data in any of these revisions."
    ] * (len(CHARTS) + 1)
    assert browser.complaints() == []


def test_legends_name_the_revisions(browser: Browser, pages: dict[int, Path]):
    browser.open(pages[3])
    named = browser.run(
        """Object.fromEntries([...document.querySelectorAll('main > div[id]:has(svg)')].map((each) => [each.id,
             [...each.querySelectorAll('.role-legend-label text')].map((text) => text.textContent)]))"""
    )
    assert len(named) == len(CHARTS) + 1
    for chart, names in named.items():
        assert [name for name in names if name not in ("training", "validation")] == list(REVISIONS), chart
    colours = browser.run(
        """[...document.querySelectorAll('main > div[id]')].map((each) =>
             [...each.querySelectorAll('.role-legend-symbol path')].slice(0, 3).map((path) =>
               path.closest('#Confusion_matrix') ? path.getAttribute('fill') : path.getAttribute('stroke')).join())
           .filter(Boolean)"""
    )
    assert len(colours) == len(CHARTS) + 1
    assert len(set(colours)) == 1, "a revision has one colour on the whole page"
    assert [line.split("PHANTOMS")[0] for line in revisions(browser)] == list(REVISIONS)


def test_the_page_names_a_single_revision_and_its_data(browser: Browser, pages: dict[int, Path]):
    browser.open(pages[1])
    assert revisions(browser) == [f"workspace{DATA}"]


def test_mammo_plots_states_commit_and_date_of_each_revision(browser: Browser, pages: dict[int, Path]):
    folder = pages[3].parent.parent
    evil = "</script><b>$x"  # a name that git allows
    run("git", "tag", evil, REVISIONS[0], folder=folder)
    mammo = (sys.executable, "-c", "import sys; from mammo.commands import main; sys.exit(main())", "plots")
    said = run(*mammo, REVISIONS[0], REVISIONS[1], "--out", "stated", folder=folder)
    assert said == "stated/index.html\n"
    browser.open(folder / "stated/index.html")
    for revision, line in zip(REVISIONS, revisions(browser), strict=False):
        sha = run("git", "rev-parse", revision, folder=folder)[:7]
        assert re.fullmatch(
            rf"{revision}commit\xa0{sha}\xa0of\xa0\d{{4}}-\d\d-\d\d\xa0\d\d:\d\d[+-]\d\d:\d\d · {re.escape(DATA)}", line
        )
    assert browser.complaints() == []
    run(*mammo, "--out", "stated", folder=folder)
    browser.open(folder / "stated/index.html")
    assert revisions(browser) == [f"workspace{DATA}"]
    assert "<b>" not in scripts.data({evil: "commit 1"}) and json.loads(scripts.data({evil: "x"})) == {evil: "x"}


ATTACK = "<img src=x onerror=pwned=1>"
BRANCHES = (  # names that git allows
    "a</script><img/src=x/onerror=pwned=1><script>pwned=2</script>",
    "<plaintext>]]>",
    "{{plot_divs}}-{scripts}",
    "constructor",
    "a|`b`-'\"-$(touch${IFS}pwned)",
)
CELLS = (
    "</script><script>pwned=3</script>",
    f"</plaintext></main>{ATTACK}",
    "';pwned=4;'\n            vegaEmbed('#x', pwned=5);",
    f"<!--<script>{ATTACK}-->]]>&lt;{{{{7*7}}}}",
    "a|`b`",
)
PICTURES = (
    f"{ATTACK}.png",
    'x" onerror="pwned=6.png',
    "'#1?%41&amp;.png",
    '</p>\n    <div id = "Scores">\n        <script>\n            var spec = 7;\n',
)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose branches, cells and pictures have names that are markup and scripts."""
    folder = tmp_path_factory.mktemp("attacked")
    shutil.copytree(PLOTS, folder / ".dvc/plots", ignore=shutil.ignore_patterns("page"))
    for name in (".dvc/config", "dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org")
    run(*git, "init", "--quiet", folder=folder)
    for seed, branch in enumerate(BRANCHES):
        run(*git, "checkout", "--quiet", "--orphan", branch, folder=folder)
        write_plots(folder / "plots", seed, 1.0 + seed, epochs=12)
        for table, name in (("scores.csv", "score"), ("subgroups.csv", "row")):
            cells = files.read_csv(folder / "plots" / table, (name, "data"))
            for row, cell in zip(cells, CELLS, strict=False):
                row[name] = cell
            rows = [[*list(row.values())[:-1], CELLS[seed]] for row in cells]
            files.write_csv(folder / "plots" / table, list(cells[0]), rows)
        for name in PICTURES:
            draw(folder / "plots/explanation" / name.replace("/", "_"), SHEET) if name.endswith(".png") else None
        (folder / "plots/explanation" / (PICTURES[-1].replace("/", "_") + ".png")).write_bytes(
            (folder / "plots/audit/splits.png").read_bytes()
        )
        run(*git, "add", "--all", folder=folder)
        run(*git, "commit", "--quiet", "--message", branch, folder=folder)
    return folder


@pytest.mark.parametrize("way", ["show", "diff", "mammo"])
def test_no_name_and_no_cell_becomes_markup_or_script(browser: Browser, attacked: Path, way: str):
    mammo = (sys.executable, "-c", "import sys; from mammo.commands import main; sys.exit(main())", "plots")
    dvc = (sys.executable, "-m", "dvc", "plots")
    command = {"show": (*dvc, "show"), "diff": (*dvc, "diff", *BRANCHES), "mammo": (*mammo, *BRANCHES)}[way]
    run(*command, *(("--out",) if way == "mammo" else ("-o",)), f"page-{way}", folder=attacked)
    page = attacked / f"page-{way}/index.html"
    browser.open(page)
    count = 1 if way == "show" else len(BRANCHES)
    assert browser.run("[typeof pwned, document.title]") == ["undefined", "Plots"]
    assert browser.complaints() == [], "nothing was even tried: the policy would have said so"
    assert browser.run("document.querySelectorAll('main script, main noscript, main plaintext').length") == 0
    assert browser.run("[...document.images].every((each) => each.complete && each.naturalWidth > 0)"), "found by name"
    assert browser.run("document.images.length") == count * (1 + len(OUTCOMES) + len(PICTURES))
    assert browser.run("document.querySelectorAll('main .chart-wrapper svg').length") == len(CHARTS) + 1
    names = ["workspace"] if way == "show" else list(BRANCHES)
    for name, line, cell in zip(names, revisions(browser), CELLS[-count:], strict=True):
        assert line.startswith(name) and line.endswith(cell), "shown as they are"
    labels = browser.run(
        "[...document.querySelectorAll('#Scores .role-axis-label text')].map((each) => each.textContent)"
    )
    assert CELLS[-1] in labels
    captions = "".join(named(browser, "explanation"))
    assert ATTACK in captions.replace("<Img", "<img") and 'X" onerror="pwned=6' in captions
    asked = {url for url in browser.requests() if not url.startswith("data:")}
    assert {url.rsplit("/", 1)[0] for url in asked} <= {page.parent.as_uri(), f"{page.parent.as_uri()}/static"}
    assert not (attacked / "pwned").exists()


def test_the_pages_policy_allows_its_own_scripts_alone(browser: Browser, pages: dict[int, Path]):
    text = pages[1].read_text()
    (policy,) = re.findall(r'Content-Security-Policy"\s+content="([^"]*)"', text)
    assert "unsafe" not in policy and "script-src 'sha256-" in policy and "default-src 'none'" in policy
    bad = pages[1].with_name("added.html")
    bad.write_text(text.replace("<main></main>", f"<main></main><script>pwned = 1</script>{ATTACK}", 1))
    browser.open(bad)
    assert browser.run("typeof pwned") == "undefined"
    assert len(browser.complaints()) >= 2, "the policy says that it refused both"


def test_mammo_plots_refuses_what_is_no_revision_in_one_line(pages: dict[int, Path], monkeypatch, capsys):
    monkeypatch.chdir(pages[3].parent.parent)
    assert commands.main(["plots", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("mammo plots: nowhere is not a revision of this repository")
    assert commands.main(["plots", "--out", "plots/audit"]) == 1
    assert "is an output of the pipeline" in capsys.readouterr().err


def revisions(browser: Browser) -> list[str]:
    """The list above the charts."""
    return browser.run("[...document.querySelectorAll('#revisions li')].map((each) => each.textContent)")


OVERLAPS = """
[...document.querySelectorAll('.chart-wrapper svg')].flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].filter((text) => text.textContent.trim() && text.style.opacity !== '0'
    && text.getAttribute('opacity') !== '0').map((text) => [text.textContent, text.getBoundingClientRect()]);
  const outside = texts.filter(([, box]) => box.left < frame.left - 1 || box.right > frame.right + 1
    || box.top < frame.top - 1 || box.bottom > frame.bottom + 1).map(([name]) => name + ' is cut');
  const clashes = texts.flatMap(([name, a], index) => texts.slice(index + 1).filter(([, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3
  ).map(([other]) => name + ' on ' + other));
  return [...outside, ...clashes];
})"""


@pytest.mark.parametrize("width", [PHONE, 800, LAPTOP])
@pytest.mark.parametrize("count", [1, 3])
def test_nothing_overflows_or_overlaps(browser: Browser, pages: dict[int, Path], count: int, width: int):
    browser.open(pages[count], width)
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run("innerWidth") == width
    wider = "[...document.querySelectorAll('main *')].filter((each) => each.scrollWidth > each.clientWidth + 1 && "
    assert browser.run(wider + "each.matches('div, p, h2, figure')).map((each) => each.outerHTML.slice(0, 80))") == []
    assert browser.run(OVERLAPS) == []


def test_charts_follow_the_window_and_the_scheme(browser: Browser, pages: dict[int, Path]):
    browser.open(pages[3], LAPTOP)
    browser.send("Emulation.setDeviceMetricsOverride", width=600, height=900, deviceScaleFactor=1, mobile=False)
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    browser.wait()
    assert browser.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert browser.run("[...document.querySelectorAll('.chart-wrapper svg')].every((svg) => svg.clientWidth <= 600)")
    assert browser.run(OVERLAPS) == []
    drawn = "getComputedStyle(document.querySelector('main svg text')).fill"
    assert luminance(browser.run(drawn)) > 0.3, "light text on the dark page"


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG 2 defines it."""
    shares = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def assert_readable(browser: Browser, scheme: str) -> None:
    """Text has the contrast of WCAG AA on what is behind it."""
    pairs = browser.run(
        """[...document.querySelectorAll('h1, h2, h3, h4, p, th, td, li, a, span, b, figcaption')].map((each) => {
             let behind = each;
             while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
             const style = getComputedStyle(each);
             return [style.color, getComputedStyle(behind).backgroundColor];
           })"""
    )
    assert len(pairs) > 200
    assert (luminance(pairs[0][1]) < 0.2) == (scheme == "dark")
    for colour, background in {tuple(pair) for pair in pairs}:
        lighter, darker = sorted((luminance(colour), luminance(background)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) > 4.5, (colour, background, "WCAG AA")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_readable_in_light_and_dark(browser: Browser, pages: dict[int, Path], scheme: str):
    browser.open(pages[3], scheme=scheme)
    card = luminance(browser.run("getComputedStyle(document.querySelector('main > div')).backgroundColor"))
    assert (card < 0.1) == (scheme == "dark")

    def contrasts(selector: str, property: str) -> list[float]:
        every = f"[...document.querySelectorAll('{selector}')].map((each) => getComputedStyle(each).{property})"
        levels = [luminance(colour) for colour in browser.run(every)]
        return [(max(card, level) + 0.05) / (min(card, level) + 0.05) for level in levels]

    assert min(contrasts("main svg text", "fill")) > 4.5, "text, WCAG AA"
    assert min(contrasts("main h2, main p, figcaption", "color")) > 4.5
    assert min(contrasts("#ROC_curve svg .role-legend-symbol path", "stroke")) > 3, "lines, WCAG AA"

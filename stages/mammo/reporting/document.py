"""The parts of a report (scores, tables, pictures), as a page of HTML that loads nothing and as Markdown."""

import base64
import html
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mammo.core.errors import UserError

VOID = ("img", "link", "meta")  # elements without content and end
PNG = b"\x89PNG\r\n\x1a\n"
UNKNOWN = "Not known to this pipeline: to be filled in by the authors."


class Html(str):
    """Markup. Any other text is escaped where it becomes a part of some."""


def element(name: str, /, *content: str, **attributes: str) -> Html:
    """`<name attributes>content</name>`; in an attribute's name `_` stands for `-`, at its end for nothing."""
    listed = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(text)}"' for key, text in attributes.items())
    return Html(f"<{name}{listed}>" if name in VOID else f"<{name}{listed}>{joined(content)}</{name}>")


def joined(parts: Iterable[str]) -> Html:
    """All parts in a row, each escaped unless it is markup already."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


@dataclass(frozen=True)
class Score:
    """A number with the ends of its 95 % interval."""

    title: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1], drawn below each other on one axis."""

    scores: Sequence[Score]


@dataclass(frozen=True)
class Table:
    """Rows of texts and scores; the first column names the row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Score]]


@dataclass(frozen=True)
class Points:
    """Sentences that stand as a list."""

    points: Sequence[str]


@dataclass(frozen=True)
class Pictures:
    """PNG files with what each shows, in words."""

    pictures: Sequence[tuple[Path, str]]


@dataclass(frozen=True)
class Drawing:
    """An SVG of the page's own, with what it shows in words."""

    svg: Html
    caption: str


@dataclass(frozen=True)
class ToFillIn:
    """What no file of a run can say; empty where that is all of an item."""

    what: str = ""

    def __str__(self) -> str:
        return f"To be filled in by the authors: {self.what}." if self.what else UNKNOWN


Block = str | Points | Scores | Table | Pictures | Drawing | ToFillIn


@dataclass(frozen=True)
class Item:
    """A numbered item of a checklist and what there is to say to it."""

    number: int
    title: str
    blocks: Sequence[Block]

    @property
    def state(self) -> str:
        """`from the run`, `in part` or `authors`: who has to say it."""
        open_blocks = [block for block in self.blocks if isinstance(block, ToFillIn)]
        if not open_blocks:
            return "from the run"
        return "authors" if len(open_blocks) == len(self.blocks) else "in part"


@dataclass(frozen=True)
class Section:
    """A chapter of the page: items, or blocks without a number."""

    title: str
    items: Sequence[Item] = ()
    blocks: Sequence[Block] = ()

    @property
    def anchor(self) -> str:
        """Where a link to it leads."""
        return re.sub(r"[^a-z]+", "-", self.title.lower()).strip("-")


# HTML


def bar(score: Score) -> Html:
    """The interval as a line and the value as a point on an axis from 0 to 1."""

    def at(value: float) -> str:
        return f"{100 * min(max(value, 0), 1):.2f}%"

    grid = [element("line", class_="grid", x1=place, x2=place, y1="0", y2="100%") for place in map(at, (0, 0.5, 1))]
    interval = element("line", class_="interval", x1=at(score.low), x2=at(score.high), y1="50%", y2="50%")
    point = element("circle", cx=at(score.value), cy="50%", r="4.5")
    return element("svg", *grid, interval, point, class_="bar", aria_hidden="true")


def _value(score: Score) -> Html:
    value, interval = str(score).split(" ")
    return joined([element("b", value), " ", element("span", interval)])


def _scores(block: Scores) -> Html:
    rows = [
        element(
            "tr",
            element("th", score.title, scope="row"),
            element("td", bar(score), class_="drawn"),
            element("td", _value(score), class_="value"),
        )
        for score in block.scores
    ]
    axis = element("div", *(element("span", label) for label in ("0", "0.5", "1")), class_="axis")
    foot = element("tr", element("td"), element("td", axis, class_="drawn"), element("td"), aria_hidden="true")
    return element("table", element("tbody", *rows), element("tfoot", foot), class_="scores")


def _is_number(cell: str | Score) -> bool:
    return isinstance(cell, str) and re.fullmatch(r"[±−-]?[\d.,]+( %)?", cell) is not None


def _table(block: Table) -> Html:
    kinds = ["number" if all(map(_is_number, column)) else "text" for column in zip(*block.rows, strict=True)]

    def cell(column: str, kind: str, content: str | Score) -> Html:
        if isinstance(content, Score):
            return element("td", bar(content), _value(content), class_="scored", data_column=column)
        return element("td", content, class_=kind, data_column=column)

    head = [element("th", column, scope="col", class_=kind) for column, kind in zip(block.columns, kinds, strict=True)]
    rows = []
    for name, *cells in block.rows:
        described = zip(block.columns[1:], kinds[1:], cells, strict=True)
        rows.append(element("tr", element("th", str(name), scope="row"), *(cell(*one) for one in described)))
    kind = "wide" if len(block.columns) > 2 else "pairs"
    return element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_=kind)


def _picture(path: Path, shows: str) -> Html:
    """The file inside the page.

    Raises:
        UserError: it is missing or no PNG.

    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): run `dvc repro`, or `dvc pull`") from error
    if content[:8] != PNG or content[12:16] != b"IHDR":
        raise UserError(f"{path} is no PNG picture: run `dvc repro`")
    width, height = struct.unpack(">II", content[16:24])
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    image = element("img", src=source, alt=shows, width=str(width), height=str(height))
    return element("figure", image, element("figcaption", shows), **({"class_": "broad"} if width > 800 else {}))


def as_html(block: Block) -> Html:
    """A block as markup."""
    if isinstance(block, Points):
        return element("ul", *(element("li", point) for point in block.points))
    if isinstance(block, Scores):
        return _scores(block)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Pictures):
        return element("div", *(_picture(path, shows) for path, shows in block.pictures), class_="pictures")
    if isinstance(block, Drawing):
        return element("figure", block.svg, element("figcaption", block.caption), class_="drawing")
    return element("p", str(block), **({"class_": "open"} if isinstance(block, ToFillIn) else {}))


def _item(item: Item) -> Html:
    title = [element("span", str(item.number), class_="place"), item.title]
    state = element("span", item.state, class_="state")
    heading = element("h3", *title, " ", *([state] if item.state == "in part" else []))
    kind = "item blank" if item.state == "authors" else "item"
    return element("section", heading, *map(as_html, item.blocks), class_=kind, id=f"item-{item.number}")


def page(title: str, notices: Sequence[tuple[str, str]], top: Sequence[Html], sections: Sequence[Section]) -> str:
    """A whole page.

    Args:
        title: of the page.
        notices: kind (a CSS class) and text of what is to be read before all else.
        top: what stands above the sections.
        sections: the rest, each with a link to it.

    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # nothing is loaded, no script runs
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    links = [element("li", element("a", section.title, href=f"#{section.anchor}")) for section in sections]
    chapters = [
        element(
            "section",
            element("h2", section.title, id=section.anchor),
            *map(as_html, section.blocks),
            *map(_item, section.items),
            class_="chapter",
        )
        for section in sections
    ]
    body = element(
        "body",
        *(element("p", text, class_=f"notice {kind}") for kind, text in notices),
        element("header", element("h1", title), *top),
        element("div", element("nav", element("ul", *links), aria_label="Sections"), element("main", *chapters)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


STYLE = """
:root {
  --paper: #f5f6f7; --card: #ffffff; --ink: #1d2329; --faint: #59636e; --line: #dde1e5; --accent: #1f4e79;
  --band: #9dbbd8; --leak: #a61b1b; --leak-paper: #fdecec; --warn: #7a4b00; --warn-paper: #fff5df;
  font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --card: #1d2125; --ink: #e4e8ec; --faint: #a0a9b2; --line: #343a41; --accent: #7db8ee;
    --band: #39597a; --leak: #ff9d9d; --leak-paper: #3a1a1c; --warn: #f0c674; --warn-paper: #33290f;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
       overflow-wrap: anywhere; }
a { color: var(--accent); text-underline-offset: .15em; }
.notice { margin: 0 0 .6rem; padding: .65rem 1rem; border-radius: 8px; border: 1px solid var(--line); }
.notice.leak { color: var(--leak); background: var(--leak-paper); border-color: currentColor; font-weight: 600; }
.notice.phantoms { color: var(--warn); background: var(--warn-paper); border-color: currentColor; }
.notice.research { color: var(--faint); }
h1 { font-size: 1.7rem; line-height: 1.2; font-weight: 650; letter-spacing: -.01em; margin: 1.6rem 0 .3rem; }
header > p { max-width: 46rem; margin: .3rem 0; color: var(--faint); }
.figures { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.figures > div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; }
.figures h2 { font-size: .85rem; font-weight: 500; color: var(--faint); margin: 0; }
.figures b { font-size: 1.9rem; line-height: 1.25; font-weight: 600; letter-spacing: -.01em; }
.figures span { color: var(--faint); white-space: nowrap; }
body > div { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: 2.2rem; margin-top: 1.6rem; }
nav ul { position: sticky; top: 1rem; list-style: none; margin: 0; padding: 0; font-size: .9rem; line-height: 1.35; }
nav li { margin: 0 0 .5rem; }
nav a { color: var(--faint); text-decoration: none; }
nav a:hover { color: var(--accent); text-decoration: underline; }
.chapter > h2 { font-size: 1.3rem; font-weight: 650; margin: 2.4rem 0 .8rem; padding-bottom: .35rem;
                border-bottom: 2px solid var(--line); }
.chapter:first-child > h2 { margin-top: 0; }
.item { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1.1rem 1rem 3.4rem;
        margin: 0 0 .7rem; }
.item h3 { position: relative; font-size: 1rem; line-height: 1.4; font-weight: 600; margin: 0 0 .3rem; }
.place { position: absolute; left: -2.3rem; width: 1.7rem; text-align: right; color: var(--faint); font-weight: 400; }
.state { font-size: .75rem; font-weight: 400; color: var(--faint); border: 1px solid var(--line); border-radius: 1em;
         padding: .05rem .5rem; white-space: nowrap; margin-left: .3rem; vertical-align: .08em; }
.item p { max-width: 44rem; margin: .3rem 0; }
.item ul { max-width: 44rem; margin: .3rem 0; padding-left: 1.1rem; }
.item li { margin: .3rem 0; }
.item li::marker { color: var(--faint); }
.open { color: var(--faint); font-style: italic; }
.blank { background: none; border-style: dashed; padding-top: .6rem; padding-bottom: .6rem; }
.blank h3 { color: var(--faint); margin: 0; }
.blank p { font-size: .9rem; margin: 0; }
table { border-collapse: collapse; margin: .9rem 0; font-size: .92rem; line-height: 1.4; width: 100%; }
th { font-weight: 400; text-align: left; }
thead th { color: var(--faint); font-size: .85rem; vertical-align: bottom; overflow-wrap: normal; }
.wide th, .wide td, .pairs th, .pairs td { padding: .38rem .8rem .38rem 0; border-bottom: 1px solid var(--line);
                                           vertical-align: top; }
.wide tr > :last-child, .pairs tr > :last-child { padding-right: 0; }
tbody tr:last-child > * { border-bottom: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.item .pairs { max-width: 34rem; }
.chapter > .pairs th { width: 45%; }
.item > table:last-child { margin-bottom: 0; }
.chapter > table { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 0 0 .7rem;
                   border-collapse: separate; border-spacing: 0; padding: .4rem 1.1rem; }
.scores th, .scores td { padding: .28rem 0; vertical-align: middle; }
.scores th { width: 34%; padding-right: 1rem; }
.scores .value { width: 11.2rem; padding-left: 1.2rem; }
.value, .scored { font-variant-numeric: tabular-nums; white-space: nowrap; }
.value b, .scored b { font-weight: 600; }
.value span, .scored span { color: var(--faint); }
.bar { display: block; width: 100%; height: 1.1rem; overflow: visible; }
.scored .bar { height: .9rem; min-width: 6rem; }
.bar .grid { stroke: var(--line); stroke-width: 1; }
.bar .interval { stroke: var(--band); stroke-width: 7; stroke-linecap: round; }
.bar circle { fill: var(--accent); stroke: var(--card); stroke-width: 1.5; }
.axis { display: flex; justify-content: space-between; color: var(--faint); font-size: .78rem; }
.axis span { width: 0; display: flex; justify-content: center; white-space: nowrap; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1rem;
            margin: 1rem 0 .3rem; align-items: start; }
.pictures figure { width: 100%; max-width: 34rem; justify-self: center; }
.pictures .broad { grid-column: 1 / -1; max-width: none; }
figure { margin: 0; min-width: 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: white; border-radius: 6px;
             border: 1px solid var(--line); }
figcaption { font-size: .85rem; color: var(--faint); margin-top: .35rem; text-align: center; }
.drawing { max-width: 34rem; margin: 1rem auto .3rem; }
.drawing svg { display: block; width: 100%; height: auto; overflow: visible; font-size: 11px; }
.drawing text { fill: var(--faint); }
.drawing .axes { stroke: var(--faint); stroke-width: 1; fill: none; }
.drawing .grid { stroke: var(--line); }
.drawing .band { fill: var(--band); opacity: .55; }
.drawing .line { stroke: var(--accent); stroke-width: 2; fill: none; stroke-linejoin: round; }
.drawing .reference { stroke: var(--faint); stroke-width: 1.2; stroke-dasharray: 5 4; fill: none; }
@media (max-width: 66rem) {
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media (max-width: 52rem) {
  body > div { display: block; }
  nav ul { position: static; display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin-bottom: 1.6rem; }
  nav li { margin: 0; }
}
@media (max-width: 40rem) {
  body { padding: .8rem .8rem 3rem; }
  h1 { font-size: 1.4rem; }
  .figures { grid-template-columns: minmax(0, 1fr); gap: .5rem; }
  .item { padding: .8rem .9rem; }
  .place { position: static; display: inline-block; width: auto; margin-right: .5rem; }
  .scores, .scores tbody, .scores tfoot, .wide, .wide tbody { display: block; }
  .wide thead { display: none; }
  .scores tr { display: grid; grid-template-columns: 1fr auto; column-gap: .8rem; padding: .35rem 0; }
  .scores th, .scores .value { width: auto; padding: 0; align-self: end; }
  .scores .drawn { grid-column: 1 / -1; grid-row: 2; padding: .1rem .4rem; }
  .scores tfoot tr { padding: 0; }
  .scores tfoot td:not(.drawn) { display: none; }
  .wide tr { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .3rem 1rem; padding: .6rem 0;
             border-bottom: 1px solid var(--line); }
  .wide tr:last-child { border-bottom: 0; }
  .wide tbody th, .wide tbody td { border: 0; padding: 0; text-align: left; }
  .wide tbody th { grid-column: 1 / -1; font-weight: 600; }
  .wide td::before { content: attr(data-column); display: block; color: var(--faint); font-size: .78rem; }
  .wide tr:has(.scored) td:not(.scored) { grid-column: 1 / -1; }
  .wide tr:has(.scored) td:not(.scored)::before { display: inline; margin-right: .5rem; }
  .wide .scored { white-space: normal; }
  .wide .scored .bar { margin: .15rem .3rem; width: calc(100% - .6rem); min-width: 0; }
  .chapter > table { padding: .2rem .9rem; }
}
@media print {
  :root {
    --paper: #ffffff; --card: #ffffff; --ink: #000000; --faint: #444444; --line: #cccccc; --accent: #1f4e79;
    --band: #9dbbd8; --leak: #a61b1b; --leak-paper: #ffffff; --warn: #7a4b00; --warn-paper: #ffffff; font-size: 10pt;
  }
  @page { margin: 16mm; }
  body { padding: 0; max-width: none; }
  nav { display: none; }
  body > div { display: block; }
  .item { border-width: 0 0 1px; border-radius: 0; }
  tr, figure, .blank, .notice, .figures > div { break-inside: avoid; }
  h1, h2, h3 { break-after: avoid; }
}
"""


# Markdown


def markdown(text: str) -> str:
    """Text with every character that Markdown or HTML would take for markup escaped, on one line."""
    one_line = " ".join(text.split())
    return re.sub(r"[\\`*{}\[\]<>|#~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", one_line)


def as_markdown(block: Block) -> str:
    """A block as Markdown; pictures and drawings have none."""
    if isinstance(block, Points):
        return "\n".join(f"- {markdown(point)}" for point in block.points)
    if isinstance(block, Scores):
        return as_markdown(Table(("Score", "Value (95 % interval)"), [(score.title, score) for score in block.scores]))
    if isinstance(block, Table):
        rows = [block.columns, ["---"] * len(block.columns), *block.rows]
        cells = [[str(cell) if cell == "---" else markdown(str(cell)) for cell in row] for row in rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return "" if isinstance(block, Pictures | Drawing) else markdown(str(block))


def score(title: str, entry: Mapping[str, float]) -> Score:
    """A score as metrics/*.json have it: `{"value", "low", "high"}`."""
    return Score(title, entry["value"], entry["low"], entry["high"])

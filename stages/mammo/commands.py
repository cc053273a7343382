"""The command `mammo`. Each subcommand imports what it needs when it runs, so that help is quick."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo.errors import UserError

HEADLINE = Path("metrics/test.json")
EXIT_CODES = "exit codes: 0 done; 1 refused or failed, or worse with --fail-if-worse; 2 wrong usage"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mammo` with `argv` (default: the command line); gives the exit code.

    0 done; 1 refused or failed with one line on standard error, or worse with `--fail-if-worse`; 2 wrong usage.
    """
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except UserError as error:
        print(f"mammo {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"mammo {options.command}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mammo", description="Scores, comparisons and predictions of this project.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    scores = commands.add_parser(
        "scores", help="the test scores of the last run, as a table", description=f"Show {HEADLINE} as a table."
    )
    scores.set_defaults(run=_scores)

    phantoms = commands.add_parser(
        "phantoms",
        help="a contact sheet of the synthetic set",
        description="Draw examples of the phantoms that params.yaml describes.",
    )
    phantoms.add_argument("picture", type=Path, metavar="FILE.png")
    phantoms.set_defaults(run=_phantoms)

    compare = commands.add_parser(
        "compare",
        help="is one model better than another, or was it chance?",
        description="Compare the test predictions of two models image by image, with patient-clustered intervals. "
        "Without arguments: the last commit (A) against the workspace (B).",
        epilog=EXIT_CODES,
    )
    compare.add_argument("a", nargs="?", default="HEAD", metavar="A", help="a revision, or a file ending in .csv")
    compare.add_argument("b", nargs="?", default="workspace", metavar="B", help="the same; default: the workspace")
    compare.add_argument("--common", action="store_true", help="where the test sets differ, compare the shared images")
    form = compare.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown, for a pull request")
    compare.add_argument("--picture", type=Path, metavar="FILE.png", help="draw both ROC curves with their bands")
    compare.add_argument(
        "--fail-if-worse", action="store_true", help="exit code 1 if B's ROC AUC is significantly lower (p < 0.05)"
    )
    compare.set_defaults(run=_compare)
    return parser


def _compare(options: argparse.Namespace) -> int:
    from mammo import compare

    if options.picture and options.picture.suffix != ".png":
        raise UserError(f"--picture {options.picture}: the name must end in .png")
    paired = compare.pair(compare.read(options.a), compare.read(options.b), options.common)
    comparison = compare.compare(paired)
    if options.picture:
        compare.draw(paired, comparison, options.picture)
    if options.json:
        print(json.dumps(compare.as_json(comparison), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(compare.as_markdown(comparison) if options.markdown else compare.as_text(comparison))
    return 1 if options.fail_if_worse and compare.worse(comparison) else 0


def _scores(options: argparse.Namespace) -> int:
    from mammo import files

    if not HEADLINE.is_file():
        raise UserError(f"{HEADLINE} does not exist: no run has finished here; run `dvc repro`")
    rows = _score_rows(files.read_json(HEADLINE))
    if not rows:
        raise UserError(f"{HEADLINE} holds no scores: run `dvc repro`")
    width = max(len(name) for name, _, _ in rows)
    for name, value, interval in rows:
        print(f"{name:<{width}}  {value:>8}  {interval}".rstrip())
    return 0


def _score_rows(content: Mapping[str, Any], group: str = "") -> list[tuple[str, str, str]]:
    """Name, value and interval of each score, in the order of the file; groups are named before their scores."""
    from mammo.statistics import TITLES

    rows = []
    for key, entry in content.items():
        name = group + TITLES.get(key, key.replace("_", " "))
        if isinstance(entry, Mapping) and "value" not in entry:
            rows += _score_rows(entry, f"{name}: ")
        elif isinstance(entry, Mapping):
            known = "low" in entry and "high" in entry
            interval = f"95 % {_number(entry['low'])} to {_number(entry['high'])}" if known else ""
            rows.append((name, _number(entry["value"]), interval))
        else:
            rows.append((name, _number(entry), ""))
    return rows


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _phantoms(options: argparse.Namespace) -> int:
    from mammo import settings
    from mammo.phantom import Phantoms, contact_sheet

    class Data(settings.Settings, extra="ignore"):
        phantom: Phantoms

    contact_sheet(settings.read("data", Data).phantom, options.picture)
    return 0

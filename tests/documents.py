"""The commands of README.md and docs/, for the tests that run them as they stand there."""

import re
import sys
from pathlib import Path

from miniature import ROOT, run

PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = PAGES[ROOT / "README.md"]


def _blocks(text: str) -> dict[tuple[str, int], list[str]]:
    found: dict[tuple[str, int], list[str]] = {}
    heading, number, commands = "", 0, None
    for line in text.splitlines():
        if line.startswith("```"):
            commands = None
            if line == "```sh":
                commands = found[heading, number] = []
                number += 1
        elif commands is not None:
            if command := re.sub(r"(^|\s+)#\s.*", "", line):
                commands.append(command)
        elif line.startswith("#"):
            heading, number = line.lstrip("# "), 0
    return found


BLOCKS: dict[tuple[str, int], list[str]] = {}
"""The commands of each block, comments left out, by the heading above it and its number below that heading."""
for _text in PAGES.values():
    _found = _blocks(_text)
    assert not set(_found) & set(BLOCKS), "two pages have a heading in common"
    BLOCKS |= _found

RUN: set[tuple[str, int]] = set()
"""The blocks that tests have asked for."""


def block(heading: str, number: int = 0) -> list[str]:
    """The commands of a block, for a test that runs them all; to be called when its file is imported."""
    RUN.add((heading, number))
    return BLOCKS[heading, number]


def shell(folder: Path, commands: list[str], environment: dict[str, str] | None = None) -> str:
    """All that the commands write, run by one shell that stops at the first failure."""
    done = run(folder, "bash", "-c", "\n".join(["set -euo pipefail", *commands]), environment=environment)
    return done.stdout + done.stderr


def link_environment(folder: Path) -> None:
    """Give `folder` the `.venv` that these tests run in, as `make` would have made it just now."""
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name not in ("installed", "tests"):
            (folder / ".venv" / path.name).symlink_to(path)
    for name in ("installed", "tests"):
        (folder / ".venv" / name).touch()

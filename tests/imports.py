"""Which files of this clone import which, read from their source: imports inside functions count, none is run."""

import ast
from collections.abc import Iterator
from pathlib import Path

from miniature import ROOT

ROOTS = (ROOT / "stages", ROOT / "cv")
"""Where a name is looked for: each is first on the path of its scripts, `stages` also on that of those in `cv`."""
MAMMO = ROOT / "stages/mammo"


def imported(path: Path) -> set[str]:
    """Dotted names of all that a file imports; `from a import b` gives both a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def file_of(name: str) -> Path | None:
    """The file of a module or package, if it is one of this clone."""
    for root in ROOTS:
        path = root.joinpath(*name.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def files_of(names: set[str]) -> set[Path]:
    return {file for file in map(file_of, names) if file}


def arrows(path: Path) -> set[Path]:
    """The files that a file itself imports from; a package is one only where something is taken that it holds itself.

    `from mammo.core import files` takes the module `files`, `from mammo.scoring import Cases` what `__init__.py` holds.
    """
    taken = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            taken |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            taken |= {name if file_of(name) else str(node.module) for name in inner}
    return files_of(taken) - {path}


def reached(path: Path) -> set[Path]:
    """All files that run when `path` runs: what it imports, what they import, and the packages around them."""
    seen, ahead = set(), [path]
    while ahead:
        here = ahead.pop()
        seen.add(here)
        around = {".".join(parts[:end]) for name in imported(here) for parts in [name.split(".")] for end in range(9)}
        ahead += files_of(around - {""}) - seen
    return seen


def scripts() -> Iterator[Path]:
    """The files that are run as a stage, of the pipeline or of cross-validation."""
    for folder in ROOTS:
        for path in sorted(folder.glob("*.py")):
            if "\nif __name__ ==" in path.read_text():
                yield path

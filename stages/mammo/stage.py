"""How every stage script starts and fails."""

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from mammo.errors import UserError

HEADLINE = Path("metrics/test.json")
Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None, unit: str = "images") -> Iterable[Item]:
    """`items` with a progress bar on standard error; silent where that is no terminal."""
    return tqdm(items, desc=what, total=total, unit=" " + unit, disable=None, leave=False, dynamic_ncols=True)


def cores() -> int:
    """Number of cores this process may use; what is made on them never depends on it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(main: Callable[..., Any]) -> None:
    """Run a stage: its parameters are the paths on the command line, its docstring the help.

    A `UserError` ends the process with one line on standard error and exit code 1, wrong usage with 2. The headline
    scores of the run before are removed first: a stage runs because something before them changed, so they no longer
    describe this workspace, and evaluate, the last stage, writes them anew.
    """
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=inspect.getdoc(main))
    for parameter in inspect.signature(main).parameters.values():
        parser.add_argument(parameter.name, type=Path)
    paths = vars(parser.parse_args())
    HEADLINE.unlink(missing_ok=True)
    try:
        main(**paths)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)

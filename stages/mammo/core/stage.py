"""Command line and error handling of the stage scripts."""

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mammo.core import cluster, process
from mammo.core import elsewhere as on_a_worker
from mammo.core.errors import UserError, lack_of_memory

HEADLINE = Path("metrics/test.json")
STATE = Path("data/state")  # ignored by git and by DVC: the lock of the workspace, the state of a training


def run(
    main: Callable[..., Any],
    reads_scores: bool = False,
    elsewhere: Sequence[str] = (),
    precision: Callable[..., str] = lambda **_: "float32",
    side_by_side: str = "",
) -> None:
    """Run a stage: its parameters become command-line arguments (paths), its docstring the help text.

    A `UserError` ends the process with a message on standard error and exit code 1, wrong usage with 2. The headline
    scores of the previous run are removed first, since they no longer describe this workspace; evaluate writes them
    again. A stage after evaluate sets `reads_scores` to keep them.

    Args:
        main: the work of the stage.
        reads_scores: keep the headline scores.
        elsewhere: parameters that name what `main` writes, if it is to run on a cluster where there is one.
        precision: returns, of the same arguments, in which one `main` computes elsewhere.
        side_by_side: parameter by whose path processes differ that may run at the same time in a workspace.

    """
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=inspect.getdoc(main))
    for parameter in inspect.signature(main).parameters.values():
        parser.add_argument(parameter.name, type=Path)
    paths = vars(parser.parse_args())
    try:
        process.end_with_dvc(name)
        lock = "-".join([*paths[side_by_side].parts, "lock"]) if side_by_side else "lock"
        with process.alone(name, STATE / lock):
            if not reads_scores:
                HEADLINE.unlink(missing_ok=True)
            if elsewhere and cluster.address():
                on_a_worker.run(Path(sys.argv[0]), paths, elsewhere, precision(**paths))
            else:
                main(**paths)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if line := lack_of_memory(error):
            print(f"{name}: {line}", file=sys.stderr)
            sys.exit(1)
        raise

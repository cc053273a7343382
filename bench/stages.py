"""Time of `dvc repro` from nothing on the default set, stage by stage, beside another commit, in turn.

    python bench/stages.py [COMMIT] [ROUNDS]

Each commit runs its own pipeline in a new clone without a cache; DVC's own second is part of every stage.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

from mammo.core.wording import counted

from against import SINCE, Cost, cost
from measure import cloned, heading

STAGES = ("download", "preprocess", "audit", "train", "evaluate", "report")
ROUNDS = 1  # of five minutes each


def repro(work: Path, commit: str) -> list[Cost]:
    """Return what each stage took in a new clone of the project at a commit."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        clone = cloned(commit, Path(folder) / "clone")
        os.environ["DVC_SITE_CACHE_DIR"] = str(clone / ".dvc/tmp/site")
        return [cost((sys.executable, "-m", "dvc", "repro", "--single-item", name), clone) for name in STAGES]


def main(since: str, rounds: int) -> None:
    """Print a table with a row per stage and one for all of them."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `python` in dvc.yaml
    found: dict[str, list[list[Cost]]] = {since: [], "HEAD": []}
    with tempfile.TemporaryDirectory(prefix="stages_") as work:
        for number in range(rounds):
            for commit in sorted(found, reverse=number % 2 == 1):
                found[commit].append(repro(Path(work), commit))
                print(f"round {number + 1}, {commit}: {found[commit][-1]}", file=sys.stderr, flush=True)
    print(heading(f"`dvc repro` from nothing, phantoms, medians of {counted(rounds, 'round')}") + "\n")
    print(f"| stage | now, s | {since}, s | now, processor | {since}, processor |\n|---|---:|---:|---:|---:|")
    sides = (found["HEAD"], found[since])
    rows = [(name, [[run[place] for run in side] for side in sides]) for place, name in enumerate(STAGES)]
    rows.append(("all", [[Cost(*map(sum, zip(*run, strict=True))) for run in side] for side in sides]))
    for name, costs in rows:
        walls = [statistics.median(each.wall for each in side) for side in costs]
        processors = [statistics.median(each.processor for each in side) for side in costs]
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in walls + processors) + " |")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else SINCE, int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS)

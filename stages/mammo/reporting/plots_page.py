"""The page of `dvc plots show` and `dvc plots diff`, with the commit and date of each revision."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mammo.core import files, revisions
from mammo.core.errors import UserError
from mammo.reporting import scripts

WORKSPACE = "workspace"


def write(names: Sequence[str], folder: Path) -> Path:
    """Let DVC write the page into FOLDER and add commits and dates to it; return its path.

    Without names the page shows the workspace; with one name, that revision and the workspace.

    Raises:
        UserError: a name is not a revision, or DVC fails.

    """
    commits = {name: revisions.commit_of(name).in_words for name in names if name != WORKSPACE}
    command = [sys.executable, "-m", "dvc", "plots", "diff" if names else "show", *names, "-o", str(folder)]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        raise UserError(f"DVC could not draw the plots; its own message is above. `{' '.join(command[2:])}` repeats it")
    page = folder / "index.html"
    element = f'<script type="application/json" id="commits">{scripts.data(commits)}</script>\n<title>'
    files.write_text(page, page.read_text(encoding="utf-8").replace("<title>", element, 1))
    return page

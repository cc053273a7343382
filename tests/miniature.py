"""The pipeline in miniature: a real clone of this working tree in which the real DVC has run it, and how to use one."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
STAGES = ["download", "preprocess", "audit", "train", "evaluate", "report"]
MINIATURE: dict[str, Any] = {
    # The shortcut, a label in the exposure: three epochs learn it.
    "data": {"phantom": {"patients": 60, "size": 96, "spread": 0, "plant": {"shortcut": 1.0}}},
    "preprocess": {"size": [64, 64]},
    "train": {"epochs": 3},
    "evaluate": {"resamples": 200},
}
IGNORED = {"data/raw/", "data/prepared/", "data/model/", "data/gate.json", "plots/audit/"} | {
    *("plots/explanation/", "plots/cases/", "report/report.html")
}
LITTER = re.compile(r"\.dvc/(cache|tmp)/|data/state/|.*__pycache__/")
"""What may lie about beside DVC's outputs, ignored by git."""


def run(
    folder: Path, *command: str, fails: bool = False, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `command` in `folder`, as a user with the environment activated would."""
    inherited = {name: text for name, text in (environment or os.environ).items() if not name.startswith("GIT_")}
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_GLOBAL_CONFIG_DIR": str(folder / ".dvc/tmp/config"),
        "DVC_SITE_CACHE_DIR": str(folder / ".dvc/tmp/site"),
    }
    done = subprocess.run(command, cwd=folder, env=inherited | own, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done


def git(folder: Path, *command: str) -> str:
    return run(folder, "git", *command).stdout


def told(folder: Path, *command: str, **how: Any) -> str:
    """All that a command writes: results first, then what it reports on standard error."""
    done = run(folder, *command, **how)
    return done.stdout + done.stderr


def dvc(folder: Path, *command: str, **how: Any) -> str:
    return told(folder, "dvc", *command, **how)


def asked(folder: Path, *command: str) -> Any:
    """What a command of DVC says in JSON."""
    return json.loads(run(folder, "dvc", *command, "--json").stdout)


def ran(output: str) -> list[str]:
    """The stages whose command was run, as DVC told."""
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


def restored(output: str) -> list[str]:
    """The stages whose results came from the run cache."""
    return re.findall(r"^Stage '(\w+)' is cached", output, re.MULTILINE)


def merged(values: dict[str, Any], instead: dict[str, Any]) -> dict[str, Any]:
    """Return `values` with those of `instead` in their place, section by section at any depth."""
    inner = {
        key: merged(values[key], value)
        for key, value in instead.items()
        if isinstance(value, dict) and isinstance(values.get(key), dict)
    }
    return {**values, **instead, **inner}


def change(folder: Path, **sections: dict[str, Any]) -> None:
    """Change values of params.yaml: `change(folder, train={"epochs": 2})`."""
    path = folder / "params.yaml"
    params = merged(yaml.safe_load(path.read_text()), sections)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", message)


def clone(source: Path, target: Path) -> Path:
    git(source, "clone", "--quiet", str(source), str(target))
    return signed(target)


def signed(folder: Path) -> Path:
    """Give a repository a name to commit under, and nothing of the user's own git settings that would matter."""
    for key, value in {"user.name": "A Tester", "user.email": "tester@example.org", "commit.gpgSign": "false"}.items():
        git(folder, "config", key, value)
    return folder


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, but for the lock of the last training, which names its process."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "state")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def declared(kept_in_git: bool) -> set[str]:
    """The outputs of all stages in dvc.yaml that are git's, or those that are DVC's."""
    names = set()
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for out in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
            name, how = next(iter(out.items())) if isinstance(out, dict) else (out, {})
            if how.get("cache", True) is not kept_in_git:
                names.add(name)
    return names


@dataclass
class Run:
    """A clone in which `dvc repro` has run for the first time, and what was seen of it."""

    folder: Path
    output: str
    status: list[str]

    def copied(self, folder: Path) -> "Run":
        """The same in another folder, which is made."""
        return Run(Path(shutil.copytree(self.folder, folder, symlinks=True)), self.output, self.status)


def working_tree(folder: Path, without: Collection[str] = ()) -> Path:
    """A repository with the files of this working tree, uncommitted work included, but for those named in `without`."""
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and name not in without and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    return signed(folder)


def first_run(place: Path) -> Run:
    """The first run in a clone of this working tree, uncommitted work included, with miniature settings."""
    origin = working_tree(place / "origin", without=declared(kept_in_git=True) | {"dvc.lock"})
    change(origin, **MINIATURE)
    commit(origin, "the project in miniature")
    folder = clone(origin, place / "clone")
    output = dvc(folder, "repro")
    status = git(folder, "status", "--porcelain", "--untracked-files=all", "--ignored=matching").splitlines()
    commit(folder, "main as it ran")
    return Run(folder, output, status)

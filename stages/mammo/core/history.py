"""Every version of a file in the history of the repository: all branches, tags and DVC experiments, read by git."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple

from mammo.core import revisions
from mammo.core.errors import UserError
from mammo.core.revisions import Commit

import yaml

LOCK = Path("dvc.lock")
EXPERIMENTS = "refs/exps"
NOT_A_REPOSITORY = "not a git repository"


class Version(NamedTuple):
    """A content of a file, and the first commit that holds it."""

    commit: Commit
    experiment: str
    """Name of the DVC experiment that the commit is; empty if it is none."""
    content: bytes | None
    """None if it could not be read."""


def in_repository() -> bool:
    """Return whether the current folder is in the working tree of a git repository.

    Raises:
        UserError: git is not installed or cannot tell.

    """
    done = _run("rev-parse", "--is-inside-work-tree")
    if done.returncode and NOT_A_REPOSITORY in done.stderr.decode(errors="replace"):
        return False
    return _checked(done).strip() == b"true"


def is_shallow() -> bool:
    """Return whether the clone is shallow, so that a part of the history is missing."""
    return _checked(_run("rev-parse", "--is-shallow-repository")).strip() == b"true"


def versions(path: Path) -> Iterator[Version]:
    """Yield each distinct content of a file: those that git holds, the oldest first, then those that DVC holds.

    Args:
        path: relative to the current folder; commits without it are left out.

    Raises:
        UserError: git is not installed or fails.

    """
    commits = _commits()
    experiments, blobs = _experiments(), _blobs(path, commits)
    first = _first(blobs, commits)
    for (_, commit), content in zip(first.items(), _contents(list(first)), strict=True):
        yield Version(commit, experiments.get(commit.sha, ""), content)
    others = [commit for blob, commit in zip(blobs, commits, strict=True) if not blob]
    for commit in _tracked_by_dvc(path, others):
        try:
            content = revisions.read(path, commit.sha)
        except UserError:  # not in the cache
            content = None
        yield Version(commit, experiments.get(commit.sha, ""), content)


def of_head(path: Path) -> bytes | None:
    """Return the content of a file in HEAD; None if git does not hold it there."""
    return next(_contents([f"HEAD:./{path.as_posix()}"]))


def _first(names: Sequence[str], commits: Sequence[Commit]) -> dict[str, Commit]:
    """Return the first commit with each name but the empty one."""
    first: dict[str, Commit] = {}
    for name, commit in zip(names, commits, strict=True):
        if name:
            first.setdefault(name, commit)
    return first


def _tracked_by_dvc(path: Path, commits: Sequence[Commit]) -> list[Commit]:
    """Return the first commit with each content of a file that is in DVC's cache instead of git."""
    locks = _blobs(LOCK, commits)
    distinct = list(_first(locks, commits))
    held = {lock: _recorded(path, content) for lock, content in zip(distinct, _contents(distinct), strict=True)}
    return list(_first([held.get(lock, "") for lock in locks], commits).values())


def _recorded(path: Path, lock: bytes | None) -> str:
    """Return the hash of an output in a dvc.lock; empty if it is not there."""
    try:
        stages = yaml.safe_load(lock or b"")["stages"].values()
        outs = [out for stage in stages for out in stage.get("outs", [])]
        return next((str(out.get("md5", "")) for out in outs if out["path"] == path.as_posix()), "")
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return ""


def _commits() -> list[Commit]:
    """Return all commits that a branch, tag, experiment or HEAD reaches, by date, and parents before children."""
    listed = _checked(_run("rev-list", "--all", "--date-order", "--reverse", "--format=%H %cI")).decode().splitlines()
    fields = [line.split() for line in listed if not line.startswith("commit ")]
    return [Commit(sha, datetime.fromisoformat(date).isoformat(" ", "minutes")) for sha, date in fields]


def _blobs(path: Path, commits: Sequence[Commit]) -> list[str]:
    """Return git's identifier of the file in each commit; empty where it is no file."""
    names = "".join(f"{commit.sha}:./{path.as_posix()}\n" for commit in commits)
    command = ("cat-file", "--batch-check=%(objecttype) %(objectname)")
    lines = _checked(_run(*command, written=names.encode())).decode().splitlines()
    return [line.removeprefix("blob ") if line.startswith("blob ") else "" for line in lines]


def _contents(blobs: Sequence[str]) -> Iterator[bytes | None]:
    """Yield the content of each blob, read one after the other; None where a partial clone lacks it."""
    if not blobs:
        return
    command, pipe = ("git", "cat-file", "--batch"), subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as git:
        assert git.stdin and git.stdout
        for blob in blobs:
            yield _content(blob, git.stdin, git.stdout)


def _content(blob: str, ask: IO[bytes], answer: IO[bytes]) -> bytes | None:
    try:
        ask.write(f"{blob}\n".encode())
        ask.flush()
    except BrokenPipeError:
        return None
    head = answer.readline().split()
    if len(head) != 3:
        return None
    return answer.read(int(head[2]) + 1)[:-1]


def _experiments() -> dict[str, str]:
    """Return the names of DVC's experiments by commit."""
    listed = _checked(_run("for-each-ref", "--format=%(objectname) %(refname)", EXPERIMENTS)).decode()
    refs = [line.split(" ", 1) for line in listed.splitlines()]
    # refs/exps/12/34…/NAME, named after the commit that the experiment starts from; DVC's own are at other depths
    named = {sha: ref.split("/", 4) for sha, ref in refs}
    return {sha: parts[4] for sha, parts in named.items() if len(parts) == 5 and len(parts[2]) == 2}


def _run(*arguments: str, written: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"LC_ALL": "C"}  # its messages are looked into
    try:
        return subprocess.run(("git", *arguments), input=written, capture_output=True, env=environment, check=False)
    except OSError as error:
        raise UserError(f"git could not be started ({error.strerror}): install it, it reads the history") from error


def _checked(done: subprocess.CompletedProcess[bytes]) -> bytes:
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split()) or f"exit code {done.returncode}"
        raise UserError(f"git could not read the history: {said}")
    return done.stdout

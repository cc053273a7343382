"""Access to git and DVC: the files of a revision, and whether the results of the workspace are up to date."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from mammo.core.errors import UserError

SHORT = 7  # digits of a commit
LAST_STAGE = "evaluate"  # its results and all their dependencies must be up to date


class Commit(NamedTuple):
    """A commit and its date."""

    sha: str
    date: str
    """Date and time in the time zone of its author, e.g. `2026-03-01 14:05+01:00`."""

    @property
    def in_words(self) -> str:
        """The commit for readers, e.g. `commit 1a2b3c4 of 2026-03-01 14:05+01:00`."""
        return f"commit {self.sha[:SHORT]} of {self.date}"


def commit_of(revision: str) -> Commit:
    """Return the commit of a revision (a branch, tag or commit).

    Raises:
        UserError: the revision or the repository does not exist.

    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import RevError, resolve_rev
    from scmrepo.exceptions import SCMError

    try:
        with Repo(".") as repo:
            commit = repo.scm.resolve_commit(resolve_rev(repo.scm, revision))
    except RevError:
        raise UserError(f"{revision} is not a revision of this repository: name a branch, tag or commit") from None
    except (DvcException, SCMError) as error:
        raise UserError(f"{revision} could not be read: {' '.join(str(error).split())}") from error
    clock = timezone(timedelta(seconds=commit.commit_time_offset))
    return Commit(commit.hexsha, datetime.fromtimestamp(commit.commit_time, clock).isoformat(" ", "minutes"))


def is_output(path: Path) -> bool:
    """Return whether a path is an output of the pipeline or inside one."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        return any(path.resolve().is_relative_to(output.fs_path) for output in repo.index.outs)


def read(path: Path, revision: str) -> bytes:
    """Return the content of a file in a revision (a branch, tag or commit).

    Raises:
        UserError: the revision or the file does not exist, or DVC tracks the file and does not have it in its cache.

    """
    import dvc.api
    from dvc.exceptions import DvcException, PathMissingError
    from dvc.scm import RevError
    from scmrepo.exceptions import SCMError

    try:
        with dvc.api.open(path.as_posix(), repo=".", rev=revision, mode="rb") as file:
            return file.read()
    except RevError:
        raise UserError(f"{revision} is not a revision of this repository: name a branch, tag or commit") from None
    except (PathMissingError, FileNotFoundError):
        files = dvc.api.DVCFileSystem(".", rev=revision)
        if files.isdvc(path.as_posix()) and "md5" in files.info(path.as_posix()):
            raise UserError(
                f"{path} of {revision} is not in DVC's cache: `dvc fetch --all-commits` brings it from the remote"
            ) from None
        raise UserError(f"{revision} holds no {path}: its run was not committed") from None
    except (DvcException, SCMError, OSError) as error:
        raise UserError(f"{path} in {revision} could not be read: {' '.join(str(error).split())}") from error


def fetch(path: Path, revision: str, target: Path) -> Path:
    """Copy a file or folder of a revision to TARGET, in which it keeps its path; return the copy's path.

    Raises:
        UserError: the revision does not have it, or DVC tracks it and does not have it in its cache.

    """
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexDirError
    from scmrepo.exceptions import SCMError

    copy = target / path
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        dvc.api.DVCFileSystem(".", rev=revision).get(path.as_posix(), str(copy), recursive=True)
    except (DvcException, SCMError, DataIndexDirError, OSError) as error:
        raise UserError(
            f"{path} of {revision} is not here: `dvc fetch --all-commits` brings it from the remote, if it was pushed"
        ) from error
    return copy


def refuse_if_out_of_date(absent_is_fine: bool = False, last_stage: str = LAST_STAGE) -> None:
    """Raise an error if code, data or settings have changed since the results of the workspace were computed.

    Args:
        absent_is_fine: missing data, as in a fresh clone, do not count as a change.
        last_stage: the stage whose results and dependencies must be up to date.

    Raises:
        UserError: something has changed, or DVC cannot determine it.

    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            changed = repo.status(targets=[last_stage], with_deps=True)
    except DvcException as error:
        raise UserError(f"DVC cannot tell whether the workspace is up to date: {error}") from error
    reasons = {stage: _reasons(why, absent_is_fine) for stage, why in changed.items()}
    what = "; ".join(f"{stage} ({', '.join(names)})" for stage, names in reasons.items() if names)
    if what:
        raise UserError(f"the workspace's results are out of date, run `dvc repro` first. Changed: {what}")


def _reasons(entries: Sequence[Any], absent_is_fine: bool) -> list[str]:
    """Return the changes in the output of `dvc status`, e.g. `params.yaml` or `changed command`."""
    reasons = []
    for entry in entries:
        if isinstance(entry, str):
            reasons.append(entry)
        else:
            pairs = [(name, change) for changes in entry.values() for name, change in changes.items()]
            reasons += [name for name, change in pairs if not (absent_is_fine and change == "deleted")]
    return sorted(set(reasons))

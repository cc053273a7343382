"""What git and DVC know: the files of a revision, and whether the workspace's results are up to date."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from mammo.core.errors import UserError

LAST_STAGE = "evaluate"  # whose results, and what they depend on, must be up to date


class Commit(NamedTuple):
    """A commit, and when it was made."""

    sha: str
    date: str
    """As its author's clock had it, e.g. `2026-03-01 14:05+01:00`."""


def commit_of(revision: str) -> Commit:
    """Return the commit that a branch, tag or commit names.

    Raises:
        UserError: there is no such revision, or no repository here.

    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import RevError, resolve_rev
    from scmrepo.exceptions import SCMError

    try:
        with Repo(".") as repo:
            commit = repo.scm.resolve_commit(resolve_rev(repo.scm, revision))
    except RevError:
        raise UserError(f"{revision} is no revision of this repository: name a branch, tag or commit") from None
    except (DvcException, SCMError) as error:
        raise UserError(f"{revision} could not be read: {' '.join(str(error).split())}") from error
    clock = timezone(timedelta(seconds=commit.commit_time_offset))
    return Commit(commit.hexsha, datetime.fromtimestamp(commit.commit_time, clock).isoformat(" ", "minutes"))


def is_output(path: Path) -> bool:
    """Return whether a path is, or lies in, an output of the pipeline."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        return any(path.resolve().is_relative_to(output.fs_path) for output in repo.index.outs)


def read(path: Path, revision: str) -> bytes:
    """Return the content of a file as a branch, tag or commit holds it.

    Raises:
        UserError: there is no such revision, no such file in it, or the file is DVC's and not in its cache.

    """
    import dvc.api
    from dvc.exceptions import DvcException, PathMissingError
    from dvc.scm import RevError
    from scmrepo.exceptions import SCMError

    try:
        with dvc.api.open(path.as_posix(), repo=".", rev=revision, mode="rb") as file:
            return file.read()
    except RevError:
        raise UserError(f"{revision} is no revision of this repository: name a branch, tag or commit") from None
    except (PathMissingError, FileNotFoundError):
        files = dvc.api.DVCFileSystem(".", rev=revision)
        if files.isdvc(path.as_posix()) and "md5" in files.info(path.as_posix()):
            raise UserError(
                f"{path} of {revision} is not in DVC's cache: `dvc fetch --all-commits` brings it from the remote"
            ) from None
        raise UserError(f"{revision} holds no {path}: its run was not committed") from None
    except (DvcException, SCMError, OSError) as error:
        raise UserError(f"{path} in {revision} could not be read: {' '.join(str(error).split())}") from error


def refuse_if_out_of_date(absent_is_fine: bool = False, last_stage: str = LAST_STAGE) -> None:
    """Stop where the workspace's results are not what its code, data and settings give.

    Args:
        absent_is_fine: data that are not here, as in a fresh clone, are no change.
        last_stage: the stage whose results, and what they depend on, must be up to date.

    Raises:
        UserError: something has changed, or DVC cannot tell.

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
    """What `dvc status` found, e.g. `params.yaml` or `changed command`."""
    reasons = []
    for entry in entries:
        if isinstance(entry, str):
            reasons.append(entry)
        else:
            found = [(name, change) for changes in entry.values() for name, change in changes.items()]
            reasons += [name for name, change in found if not (absent_is_fine and change == "deleted")]
    return sorted(set(reasons))

"""What git and DVC know: the files of a revision, and whether the workspace's results are up to date."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mammo.core.errors import UserError

LAST_STAGE = "evaluate"  # whose results, and what they depend on, must be up to date


def read(path: Path, revision: str) -> bytes:
    """Return the content of a file as a branch, tag or commit holds it.

    Raises:
        UserError: there is no such revision, or no such file in it.

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
        raise UserError(f"{revision} holds no {path}: its run was not committed") from None
    except (DvcException, SCMError, OSError) as error:
        raise UserError(f"{path} in {revision} could not be read: {error}") from error


def refuse_if_out_of_date(absent_is_fine: bool = False) -> None:
    """Stop where the workspace's results are not what its code, data and settings give.

    Args:
        absent_is_fine: data that are not here, as in a fresh clone, are no change.

    Raises:
        UserError: something has changed, or DVC cannot tell.

    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            changed = repo.status(targets=[LAST_STAGE], with_deps=True)
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

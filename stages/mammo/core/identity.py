"""What decides which bytes a process computes: its code, its packages, its processor."""

import functools
import hashlib
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from mammo.core import processor

CLONE = Path(__file__).resolve().parents[3]
CODE = ("stages", "cv/*.py", "requirements.txt")  # of the clone; settings and results may differ


class Identity(NamedTuple):
    """What decides the bytes."""

    commit: str
    """Commit of the clone; empty if it is none."""
    changed: tuple[str, ...]
    """Files of code with uncommitted changes."""
    python: str
    packages: Mapping[str, str]
    """Version of each package of requirements.txt; empty if it is not installed."""
    instructions: str


@functools.cache
def own(precision: str = "float32") -> Identity:
    """Return the identity of this process when it computes in `precision`."""
    commit = git("rev-parse", "HEAD").strip()
    changed = git("status", "--porcelain", "--untracked-files=all", "--", *CODE) if commit else ""
    required = CLONE / "requirements.txt"
    named = re.findall(r"^([\w.-]+)==", required.read_text(), re.MULTILINE) if required.is_file() else []
    return Identity(
        commit,
        tuple(line[3:] for line in changed.splitlines()),
        platform.python_version(),
        {name: _version(name) for name in named},
        processor.instructions(precision),
    )


def digest(of: Identity) -> str:
    """Return a hash of an identity."""
    return hashlib.sha256(repr(of).encode()).hexdigest()


def git(*command: str, folder: Path = CLONE) -> str:
    """Return what git prints in a folder; an empty text if it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def differences(expected: Identity, other: Any) -> list[str]:
    """Return in words how another process differs from the `expected` one; empty if in nothing.

    Args:
        expected: of the process that compares.
        other: of the other one, or the error that it gave instead.

    """
    if not isinstance(other, Identity):
        return [f"has no mammo of this commit ({type(other).__name__}: {' '.join(str(other).split())[:200]})"]
    told = []
    if not expected.commit:
        told.append("cannot be compared, since the code here is in no git clone")
    elif other.commit != expected.commit:
        told.append(f"has commit {other.commit[:7] or 'unknown'} instead of {expected.commit[:7]}")
    for whose, files in (("here", expected.changed), ("there", other.changed)):
        if files:
            told.append(f"cannot be compared, since {', '.join(files)} has uncommitted changes {whose}")
    if other.python != expected.python:
        told.append(f"has Python {other.python} instead of {expected.python}")
    for name, version in expected.packages.items():
        if (there := other.packages.get(name, "")) != version:
            told.append(f"has {name} {there or 'not installed'} instead of {version or 'none'}")
    if other.instructions != expected.instructions:
        told.append(f"computes with {other.instructions} instead of {expected.instructions}")
    return told

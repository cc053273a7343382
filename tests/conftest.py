"""What several test files start from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run_stage(name: str, *paths: str, folder: Path, environment: dict[str, str] | None = None):
    """Run `python stages/NAME.py PATH…` in `folder` as DVC does; gives the completed process with its text."""
    return subprocess.run(
        [sys.executable, ROOT / "stages" / f"{name}.py", *paths],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def mammograms() -> Path:
    """The folder of real mammograms; tests that want it are skipped without it."""
    folder = os.environ.get("MAMMOGRAMS")
    if not folder:
        pytest.skip("the environment variable MAMMOGRAMS names no folder of real mammograms")
    return Path(folder)

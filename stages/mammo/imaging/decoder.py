"""Start the process that decodes, which `decoding` is; loads nothing, so that it can be started first of all."""

from collections.abc import Iterable
from pathlib import Path

from mammo.core import files
from mammo.core.bounded import Worker

MODULE = "mammo.imaging.decoding"
MEMORY = 2_000_000_000  # bytes of the process; every file that `limits` let pass takes less than half
SECONDS = 60.0  # of processor time per file


def start(memory: int | None = None, seconds: float | None = None, for_dicom: bool = False) -> Worker:
    """Start a process without waiting for it.

    Args:
        memory: bytes; `MEMORY` unless given.
        seconds: of processor time per file; `SECONDS` unless given.
        for_dicom: load what DICOM files need before the first one comes.

    """
    return Worker(MODULE, memory or MEMORY, seconds or SECONDS, "main_for_dicom" if for_dicom else "main")


def start_for(paths: Iterable[Path], memory: int | None = None, seconds: float | None = None) -> Worker | None:
    """Start a process, as `start` does, if one of the files will need it by its name."""
    suffixes = {path.suffix.lower() for path in paths} - set(files.ONE_PASS_SUFFIXES)
    return start(memory, seconds, bool(suffixes - set(files.IMAGE_SUFFIXES))) if suffixes else None


def start_early(arguments: Iterable[str]) -> Worker | None:
    """Start a process if one of the arguments is a file that will need it by its name; folders are not looked into."""
    return start_for(Path(argument) for argument in arguments if Path(argument).is_file())

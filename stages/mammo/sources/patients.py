"""The patient in the name of a file, by the user's pattern."""

import re
from pathlib import PurePath

from mammo.core.deadline import TooLongError, processor_seconds
from mammo.core.errors import UserError

LONGEST = 1.0  # seconds of processor time for one name; a sensible pattern takes a millionth


def patient_of(pattern: str, name: str) -> str:
    """Return what group 1 of a pattern finds in the name of a file; empty if it finds nothing.

    Args:
        pattern: `data.patient`.
        name: path of the file; only its last part is searched.

    Raises:
        UserError: the search takes too long: its time can grow exponentially with the length of the name.

    """
    last = PurePath(name).name
    try:
        with processor_seconds(LONGEST):
            match = re.search(pattern, last)
    except TooLongError:
        raise UserError(
            f"data.patient: the pattern {pattern!r} takes more than {LONGEST:g} s to search the name {last!r}; write "
            "it without a repetition inside a repetition, such as (a+)+"
        ) from None
    return (match.group(1) or "") if match else ""

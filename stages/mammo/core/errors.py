"""The exception for errors that the user can fix."""


class UserError(Exception):
    """An error that the user can fix. Its text says what is wrong, where, and what to do; no traceback is shown."""


def in_one_line(error: Exception) -> str:
    """Return the message of an exception, at most 200 characters, without line breaks."""
    return " ".join(str(error).split())[:200]

"""The one exception whose text is written for the user."""


class UserError(Exception):
    """Something the user can mend: the text says what is wrong, where, and what to do. Shown without a traceback."""


def in_one_line(error: Exception) -> str:
    """Return the text of another library's error, at most 200 characters, without line breaks."""
    return " ".join(str(error).split())[:200]

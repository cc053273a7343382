"""Wording that messages, pages and pictures share: numbers with their nouns, names of splits, names of files."""

import re
from pathlib import Path

SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "test"}
"""The splits, each with its name for readers; files that git history compares keep the keys."""


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: `1 image`, `1,200 images`.

    Args:
        number: not negative.
        one: the noun, or the noun and what follows it, e.g. `image is`.
        several: the plural, if it is not `one` with an s, e.g. `images are`.

    """
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def in_words(key: str) -> str:
    """Return a key of a table in words, e.g. `validation image of training patient`."""
    return " ".join(SPLIT_NAMES.get(part, part) for part in key.split("_"))


def with_split_named(detail: str) -> str:
    """Return the detail of an audit finding with the split's name instead of its key, `valid: …`, at the start."""
    return re.sub(r"^(\w+)(?=:)", lambda match: SPLIT_NAMES.get(match[1], match[1]), detail)


def shown(text: str | Path) -> str:
    """Return text, or a path, that is safe to print: non-printable characters are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))


def markdown(text: str | Path) -> str:
    """Return text as one line of Markdown that shows it as it is, on GitHub too.

    Characters of markup are escaped. A zero-width space keeps addresses and @names from becoming links and mentions,
    which no escape does: https://github.github.com/gfm/#autolinks-extension-.
    """
    one_line = " ".join(str(text).split())
    escaped = re.sub(r"[\\`*{}\[\]<>|#~&$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", one_line)
    return re.sub(r"@(?=\w)|:(?=//)|\bwww(?=\.)", "\\g<0>\u200b", escaped, flags=re.IGNORECASE)

"""Styles and scripts of pages, the policy that allows them by their hashes and nothing else, and data for a script."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")


def asset(*names: str) -> Markup:
    """Return the text of files of templates/, one after the other, to stand in a `style` or `script` element."""
    return Markup("\n" + "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names))


def policy(style: str, script: str = "", any_style: bool = False, **instead: str) -> str:
    """Return a Content Security Policy for a page that loads nothing and sends nothing.

    Args:
        style: the text of its style element, as returned by `asset`.
        script: the text of its script element, if it has one; an element that holds data is no script.
        any_style: allow it any other style too.
        instead: values of further directives or of those below, with `_` for `-`.

    """
    directives = {
        "default_src": "'none'",
        "script_src": _hash(script) if script else "'none'",
        "style_src": "'unsafe-inline'" if any_style else _hash(style),
        "img_src": "data:",
        "base_uri": "'none'",
        "form_action": "'none'",
    }
    return "; ".join(f"{name.replace('_', '-')} {value}" for name, value in (directives | instead).items())


def data(content: Any) -> Markup:
    """Return JSON that is safe inside a `script` element: an escape stands for `<`, which could end the element."""
    return Markup(
        json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ": ")).replace("<", r"\u003c")
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

"""Reading of YAML files, within bounds: the settings and the descriptions of data sets."""

import re
from pathlib import Path
from typing import Any

from mammo.core.errors import UserError

import yaml

LARGEST, MOST_VALUES = 10_000_000, 1_000_000  # bytes of a file, and values in it when its aliases are written out


class _Loader(yaml.SafeLoader):
    """Loader that reads numbers as DVC does: 1e-3 is a float (YAML 1.2), which PyYAML alone reads as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read(path: Path) -> Any:
    """Read a YAML file without checking its content.

    Raises:
        UserError: the file is missing or is not YAML.

    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: run from the top folder of the project")
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} has {path.stat().st_size:,} bytes; at most {LARGEST:,} are read")
        text = path.read_text(encoding="utf-8")
        _refuse_expansion(yaml.compose(text, _Loader), path)
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply to be one of this project") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or an impossible date or number
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def _refuse_expansion(root: yaml.Node | None, path: Path) -> None:
    """Raise an error if the aliases of a YAML file stand for more values than a file of settings needs.

    An alias is one object however often it is used, but what walks through the values, such as a check or a message,
    meets it every time: nine lines of nine aliases each are 400 million values.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = LARGEST  # what contains itself has no end
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            flat = [part for each in parts for part in (each if isinstance(each, tuple) else (each,))]
            sizes[id(node)] = 1 + sum(map(size, flat))
        return sizes[id(node)]

    if root is not None and size(root) > MOST_VALUES:
        raise UserError(f"{path}: its aliases (*name) stand for more than {MOST_VALUES:,} values; write them out")

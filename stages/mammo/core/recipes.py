"""Recipes: named sets of settings, recipes/NAME.yaml, which the pipeline and cross-validation share.

A recipe names the settings of the sections `preprocess`, `augment` and `train` that it sets otherwise than the recipe
`default`, which holds the shipped value of every setting that any recipe changes. So recipes do not add up: applying
one takes back what another one had set.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from mammo.core import files, settings, yaml_files
from mammo.core.errors import UserError
from mammo.core.settings import Params
from mammo.core.spelling import hint

from pydantic import Field, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

FOLDER = Path("recipes")
DEFAULT = "default"
BEST = "best"  # recipes/best.yaml names the recipe that is shipped
SECTIONS = ("preprocess", "augment", "train")
"""Sections of params.yaml that a recipe may set."""
Text = Annotated[str, Field(min_length=1)]


class Recipe(settings.Settings):
    """Content of recipes/NAME.yaml."""

    reason: Text
    """Why these settings; one sentence."""
    time: Text
    """What training takes, and on which machine."""
    score: Text
    """Cross-validated ROC AUC with its interval and commit, or `none` with the reason."""
    preprocess: dict[str, Any] = Field(default_factory=dict)
    augment: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)

    @field_validator("train")
    @classmethod
    def _seed_is_the_users(cls, train: dict[str, Any]) -> dict[str, Any]:
        if "seed" in train:
            raise ValueError("settings without seed, which is the user's")
        return train

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The settings by section."""
        return {section: values for section in SECTIONS if (values := getattr(self, section))}


class _Shipped(settings.Settings):
    """Content of recipes/best.yaml."""

    recipe: Text


def names(folder: Path = FOLDER) -> list[str]:
    """Return the names of all recipes: the default first, the others sorted."""
    found = sorted(path.stem for path in folder.glob("*.yaml") if path.stem != BEST)
    return sorted(found, key=lambda name: name != DEFAULT)


def shipped(folder: Path = FOLDER) -> str:
    """Return the name of the recipe that recipes/best.yaml names.

    Raises:
        UserError: the file is missing or malformed, or names no recipe.

    """
    path = folder / f"{BEST}.yaml"
    name = settings.check(_Shipped, yaml_files.read(path), path).recipe
    if name not in names(folder):
        raise UserError(f"{path}: there is no recipe {name!r}; there are {', '.join(names(folder))}")
    return name


def read(name: str, folder: Path = FOLDER) -> Recipe:
    """Read a recipe; `best` is the shipped one.

    Raises:
        UserError: there is no such recipe, or it is malformed.

    """
    known = names(folder)
    if name == BEST:
        name = shipped(folder)
    if name not in known:
        there = ", ".join(known) or f"none in {folder}"
        raise UserError(f"there is no recipe {name!r}; {hint(name, known)}there are {there}")
    path = folder / f"{name}.yaml"
    return settings.check(Recipe, yaml_files.read(path), path)


def instead(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return what a recipe sets, by section: its own settings over those of the recipe `default`.

    Raises:
        UserError: there is no such recipe, it is malformed, or it sets what `default` does not.

    """
    recipe = read(name, folder)
    default = read(DEFAULT, folder).settings
    known = dict(_leaves(default))
    for key, _ in _leaves(recipe.settings):
        if key not in known:
            near = hint(".".join(key), (".".join(each) for each in known))
            raise UserError(
                f"{folder / name}.yaml sets {'.'.join(key)}, which {DEFAULT}.yaml does not; {near}a new setting is "
                "added there too, with the value that params.yaml ships with"
            )
    return settings.merged(default, recipe.settings)


def params(name: str, base: Path = settings.PARAMS, folder: Path = FOLDER) -> Params:
    """Return the settings of the pipeline with those of a recipe in their place.

    Raises:
        UserError: the recipe or `base` cannot be read, or a setting is not allowed.

    """
    changes = instead(name, folder)
    settings.read(base)  # its own faults are not the recipe's
    try:
        return settings.read(base, changes)
    except UserError as error:
        raise UserError(f"{folder / name}.yaml: {str(error).removeprefix(f'{base}: ')}") from None


def apply(name: str, base: Path = settings.PARAMS, folder: Path = FOLDER) -> list[tuple[str, Any, Any]]:
    """Write the settings of a recipe into params.yaml; its comments and all other settings stay.

    Returns:
        Key, value before and value now of each setting that differed.

    Raises:
        UserError: as `params`.

    """
    values = params(name, base, folder).model_dump()
    old = settings.read(base).model_dump()
    editor = YAML()
    editor.preserve_quotes, editor.width = True, 10_000
    content = editor.load(base.read_text(encoding="utf-8"))
    changed = []
    for *sections, key in (path for path, _ in _leaves(instead(name, folder))):
        section, before, now = content, old, values
        for part in sections:
            before, now = before[part], now[part]
        if before[key] == now[key]:
            continue
        for part in sections:
            section = section.setdefault(part, CommentedMap())
        changed.append((".".join((*sections, key)), before[key], now[key]))
        if key in section or not len(section):
            section[key] = _in_a_line(now[key])
        else:  # before the last, to which the empty line after the section belongs
            section.insert(len(section) - 1, key, _in_a_line(now[key]))
    if changed:
        text = io.StringIO()
        editor.dump(content, text)
        files.write_text(base, text.getvalue())
    return changed


def applied(base: Path = settings.PARAMS, folder: Path = FOLDER) -> str:
    """Return the name of the recipe whose settings params.yaml has; empty if it has those of none."""
    now = settings.read(base).model_dump(include=set(SECTIONS))
    matching = (name for name in names(folder) if params(name, base, folder).model_dump(include=set(SECTIONS)) == now)
    return next(matching, "")


def _leaves(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and value of every setting that is no section."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _in_a_line(value: Any) -> Any:
    """Return a list or mapping that is written in one line."""
    if isinstance(value, list):
        sequence = CommentedSeq(_in_a_line(each) for each in value)
        sequence.fa.set_flow_style()
        return sequence
    if isinstance(value, Mapping):
        mapping = CommentedMap((key, _in_a_line(each)) for key, each in value.items())
        mapping.fa.set_flow_style()
        return mapping
    return value

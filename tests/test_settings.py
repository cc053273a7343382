"""params.yaml: every mistake gives one line that names key, value and what is allowed."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from mammo.core import settings
from mammo.core.errors import UserError
from pydantic import Field


class Inner(settings.Settings):
    depth: int


class Example(settings.Settings):
    rate: Annotated[float, Field(gt=0, le=1)]
    epochs: Annotated[int, Field(ge=1)]
    rule: Literal["stop", "skip"]
    inner: Inner


GOOD = "train:\n  rate: 1e-3\n  epochs: 3\n  rule: stop\n  inner: {depth: 2}\n"


def read(folder: Path, text: str) -> Example:
    path = folder / "params.yaml"
    path.write_text(text)
    return settings.read("train", Example, path)


def test_good_settings_are_read_and_1e_3_is_a_number(tmp_path: Path) -> None:
    example = read(tmp_path, GOOD)
    assert (example.rate, example.epochs, example.rule, example.inner.depth) == (0.001, 3, "stop", 2)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("epochs: 3", "epochs: 0", ["train.epochs is 0", "greater than or equal to 1"]),
        ("epochs: 3", "epochs: many", ["train.epochs is 'many'", "a valid integer"]),
        ("epochs: 3", "epochs: 2.5", ["train.epochs is 2.5", "integer"]),
        ("epochs: 3", "epochs: true", ["train.epochs is True", "integer"]),
        ("epochs: 3", "epochs:", ["train.epochs is None", "integer"]),
        ("rate: 1e-3", "rate: '0.1'", ["train.rate is '0.1'", "a valid number"]),
        ("rate: 1e-3", "rate: 2", ["train.rate is 2", "less than or equal to 1"]),
        ("rate: 1e-3", "rate: .nan", ["train.rate is nan"]),
        ("rule: stop", "rule: maybe", ["train.rule is 'maybe'", "'stop' or 'skip'"]),
        ("rule: stop", "rule: stop\n  rlue: 1", ["unknown key train.rlue", "rate, epochs, rule, inner"]),
        ("{depth: 2}", "{depth: 2, width: 1}", ["unknown key train.inner.width", "depth"]),
        ("  rule: stop\n", "", ["train.rule is missing"]),
        ("train:", "trian:", ["unknown section 'trian'", "data, split, preprocess"]),
        ("train:", "split:", ["the section 'train' is missing"]),
        (GOOD, "train: [", ["is not YAML"]),
        (GOOD, "7", ["must hold the sections"]),
        (GOOD, "train: 7", ["train is 7"]),
    ],
)
def test_a_mistake_is_one_line_naming_key_value_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, parts: list[str]
) -> None:
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        read(tmp_path, GOOD.replace(old, new))
    message = str(caught.value)
    assert "params.yaml" in message
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml does not exist"):
        settings.read("train", Example, tmp_path / "params.yaml")

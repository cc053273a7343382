"""params.yaml: every mistake, in whichever section, gives one line that names key, value and what is allowed."""

import importlib
from pathlib import Path
from typing import Any

from mammo import commands
from mammo.core import settings
from mammo.core.errors import UserError
from mammo.core.settings import Params

import pytest
import yaml
from conftest import ROOT, write_params
from miniature import STAGES, merged

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text())
TRAIN = {"epochs": 3, "learning_rate": 0.25, "schedule": "constant", "average": 0}
GOOD = yaml.safe_dump(merged(COMMITTED, {"train": TRAIN, "audit": {"on_leak": "stop"}}))


def read(folder: Path, text: str) -> Params:
    path = folder / "params.yaml"
    path.write_text(text)
    return settings.read(path)


def refusal(folder: Path, text: str) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(UserError) as caught:
        read(folder, text)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'params.yaml'}") and "\n" not in message
    return message


def test_good_settings_are_read_and_1e_3_is_a_number(tmp_path: Path) -> None:
    params = read(tmp_path, GOOD.replace("learning_rate: 0.25", "learning_rate: 1e-3"))
    assert (params.train.learning_rate, params.train.epochs, params.audit.on_leak) == (0.001, 3, "stop")
    assert params.data.phantom.plant.duplicates == 0


def test_the_projects_own_settings_are_valid_and_hold_every_key_there_is() -> None:
    assert settings.read(ROOT / "params.yaml").model_dump() == COMMITTED


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("epochs: 3", "epochs: 0", ["train.epochs is 0", "greater than or equal to 1"]),
        ("epochs: 3", "epochs: many", ["train.epochs is 'many'", "a valid integer"]),
        ("epochs: 3", "epochs: 2.5", ["train.epochs is 2.5", "integer"]),
        ("epochs: 3", "epochs: true", ["train.epochs is True", "integer"]),
        ("epochs: 3", "epochs:", ["train.epochs is None", "integer"]),
        ("learning_rate: 0.25", "learning_rate: '0.1'", ["train.learning_rate is '0.1'", "a valid number"]),
        ("learning_rate: 0.25", "learning_rate: 2", ["train.learning_rate is 2", "less than or equal to 1"]),
        ("learning_rate: 0.25", "learning_rate: .nan", ["train.learning_rate is nan"]),
        ("average: 0", "average: 4", ["train.average is 4", "at most train.epochs, 3"]),
        (
            "prevalence: none",
            "prevalence: 1",
            ["evaluate.prevalence is 1; allowed is none, or a number between 0 and 1"],
        ),
        ("prevalence: none", "prevalence:", ["evaluate.prevalence is None; allowed is none, or"]),
        ("on_leak: stop", "on_leak: maybe", ["audit.on_leak is 'maybe'", "'stop' or 'warn'"]),
        ("on_leak: stop", "on_leak: stop\n  no_leak: 1", ["unknown key audit.no_leak", "on_leak, seed"]),
        ("inverted: 0\n", "inverted: 0\n      upturned: 0\n", ["unknown key data.phantom.plant.upturned", "shortcut"]),
        ("  on_leak: stop\n", "", ["audit.on_leak is missing"]),
        ("\ntrain:", "\ntrian:", ["unknown section trian", "data, split, preprocess", "train is missing"]),
        ("epochs: 3", "epoch: 3", ["unknown key train.epoch; the nearest is train.epochs; allowed are network"]),
        (
            "epochs: 3",
            "epochs: 3\n  learnrate: 1",
            ["unknown key train.learnrate; the nearest is train.learning_rate;"],
        ),
        ("\nsplit:", "\nthreshold: half\nsplit:", ["unknown section threshold; the nearest is evaluate.threshold;"]),
        ("\nsplit:", "\nlearn: {}\nsplit:", ["unknown section learn", "data, split, preprocess"]),
        (GOOD, "train: [", ["is not YAML"]),
        (GOOD, "7", ["must hold the sections data, split"]),
        (GOOD, "train: 7", ["train is 7", "data is missing"]),
    ],
)
def test_a_mistake_is_one_line_naming_key_value_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, parts: list[str]
) -> None:
    assert GOOD.count(old) == 1
    message = refusal(tmp_path, GOOD.replace(old, new))
    for part in parts:
        assert part in message


@pytest.mark.parametrize("section", [name for name in Params.model_fields if name != "validate"])
def test_in_any_section_an_unknown_and_a_missing_key_and_the_missing_section_are_named(
    tmp_path: Path, section: str
) -> None:
    key = next(iter(COMMITTED[section]))
    rest = {name: value for name, value in COMMITTED[section].items() if name != key}
    one = refusal(tmp_path, yaml.safe_dump({**COMMITTED, section: {**rest, "other": 1}}))
    assert f"unknown key {section}.other; allowed are {key}" in one
    assert f"{section}.{key} is missing" in one
    without = {name: values for name, values in COMMITTED.items() if name != section}
    assert refusal(tmp_path, yaml.safe_dump(without)).endswith(f": {section} is missing")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml does not exist"):
        settings.read(tmp_path / "params.yaml")


def test_a_command_that_reads_settings_checks_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, trian={"epochs": 3})
    assert commands.main(["phantoms", "phantoms.png"]) == 1
    assert capsys.readouterr().err.startswith(
        "mammo phantoms: params.yaml: unknown section trian; the nearest is train;"
    )
    assert not (tmp_path / "phantoms.png").exists()


# Stages


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_checks_every_section_before_it_does_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    paths = [Path(word) for word in PIPELINE["stages"][stage]["cmd"].split()[2:]]
    mistakes: list[dict[str, Any]] = [
        {"data": {"source": "internet"}},
        {"split": {"seeds": 1}},
        {"preprocess": {"canonical": {"crop": 1}}},
        {"evaluate": {"threshold": "best"}},
        {"tests": {}},
    ]
    said = []
    for mistake in mistakes:
        write_params(tmp_path, **mistake)
        with pytest.raises(UserError) as caught:
            importlib.import_module(stage).main(*paths)
        said.append(str(caught.value))
        (tmp_path / "params.yaml").unlink()
        assert sorted(tmp_path.rglob("*")) == before
    assert [line.split(";")[0].removeprefix("params.yaml: ") for line in said] == [
        "data.source is 'internet'",
        "unknown key split.seeds",
        "preprocess.canonical.crop is 1",
        "evaluate.threshold is 'best'",
        "unknown section tests",
    ]

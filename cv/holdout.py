"""Score the shipped recipe on the patients that were set aside before the first try: once, and no other recipe.

It is no stage of `dvc repro`: a score that is to be made once must not be made again with every change.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))  # this clone's code, not an installed copy

from mammo.core import files, predictions, recipes, stage
from mammo.core.errors import UserError
from mammo.scoring import as_json, with_interval

import brightness
import crossvalidation
import fitting
import scored_rows
from crossvalidation import CrossValidation

SCORES, PREDICTIONS = "scores.json", "predictions.csv"


def main(raw: Path, recipe_folder: Path, trained: Path, out: Path) -> None:
    """Train the recipe that RECIPE_FOLDER ships on all patients but those set aside, and score it on these; write OUT.

    TRAINED holds the settings of each variant, as the stage `settings` wrote them. OUT, which git keeps, holds
    predictions.csv and scores.json. If it is there, nothing is trained: the scores are shown, or another recipe is
    refused.
    """
    settings = crossvalidation.read()
    recipe = recipes.shipped(recipe_folder)
    name = variant_of(settings, recipe)
    digest = crossvalidation.settings_digest(settings, name, trained)
    if (out / SCORES).is_file():
        print(scored_before(files.read_json(out / SCORES), recipe, digest, out))
        return
    known = brightness.read(raw)
    assigned = crossvalidation.assign_held_out(known.entries, settings.folds)
    state = stage.STATE / "holdout"
    fitting.fit_and_predict(
        raw,
        crossvalidation.trained(trained / f"{name}.json"),
        lambda entries: crossvalidation.assign_held_out(entries, settings.folds),
        state / "training",
        state / "fitted",
    )
    rows = scored_rows.with_breasts(sorted(predictions.read(state / "fitted" / "predictions.csv")), known.sides)
    forest = scored_rows.with_breasts(brightness.predicted(known, assigned, settings.folds.seed), known.sides)
    content = {
        "recipe": recipe,
        "settings": digest,
        "images": predictions.images_digest(rows),
        **scored_rows.scores_of(rows, settings.folds.seed),
        "shortcut": scored_rows.scores_of(forest, settings.folds.seed),
        "against_shortcut": scored_rows.change(forest, rows),
    }
    with files.written(out) as folder:
        folder.mkdir()
        predictions.write(folder / PREDICTIONS, rows)
        predictions.write(folder / f"{brightness.NAME}.csv", forest)
        files.write_json(folder / SCORES, as_json(content))
    shutil.rmtree(state)
    print(in_words(as_json(content)))


def variant_of(settings: CrossValidation, recipe: str) -> str:
    """Return the variant that cross-validates a recipe on all training patients.

    Raises:
        UserError: there is none: the recipe was not cross-validated.

    """
    for name, variant in settings.variants.items():
        if (variant.recipe or name) == recipe and variant.patients == 1:
            return name
    raise UserError(f"recipe {recipe} is no variant of cv/params.yaml: cross-validate it first")


def scored_before(content: dict[str, Any], recipe: str, digest: str, out: Path) -> str:
    """Return the scores of the same recipe with the same settings.

    Raises:
        UserError: another recipe was scored.

    """
    if (content["recipe"], content["settings"]) != (recipe, digest):
        raise UserError(
            f"{out / SCORES} holds the score of recipe {content['recipe']} ({content['settings']}): the patients set "
            f"aside were scored, and a second score, of {recipe} ({digest}), would be one of two to choose from. Draw "
            "others with another folds.holdout.seed, before anything is tried on them"
        )
    return f"{in_words(content)} (scored before; nothing was trained)"


def in_words(content: dict[str, Any]) -> str:
    """Return the ROC AUC on the patients set aside."""
    return (
        f"holdout: recipe {content['recipe']}, ROC AUC {with_interval(**content['roc_auc'])}, brightness baseline "
        f"{with_interval(**content['shortcut']['roc_auc'])}"
    )


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

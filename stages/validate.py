"""Score the frozen model on an external set: one of the section `validate` of params.yaml."""

from pathlib import Path

from mammo.core import files, settings, stage
from mammo.core.errors import UserError
from mammo.predicting import validation
from mammo.reporting import validation_page
from mammo.scoring import as_json
from mammo.scoring.validation import for_terminal
from mammo.sources import external


def main(prepared: Path, model: Path, predictions: Path, metrics: Path, plots: Path, page: Path) -> None:
    """Score MODEL, whose own set is PREPARED and whose test predictions are PREDICTIONS, on an external set.

    The set is that of the section `validate` with the name of METRICS (NAME.json), to which the scores are written.
    Curves are written to the folder PLOTS, everything on one page to PAGE. Images or patients of the model's own set
    stop it, unless audit.on_leak is `warn`.
    """
    params = settings.read()
    name = metrics.stem
    if name not in params.validate:
        raise UserError(f"params.yaml names no external set {name} in the section validate")
    frozen = validation.frozen(model, prepared, predictions)
    images = external.images(Path(params.validate[name]), params.data, name)
    predicted = validation.of_images(frozen, images, params.evaluate, params.preprocess, params.audit)
    scored = validation.score(frozen, predicted, name, params.evaluate)
    with files.written(plots) as folder:
        validation_page.write_curves(folder, scored.curves)
    files.write_text(page, validation_page.page(scored))
    leak = predicted.leak(named=False)  # git keeps this file
    files.write_json(metrics, as_json({**({"leak": leak} if leak else {}), **scored.told.content}))
    print(f"validate: {name}: {for_terminal(scored.told.content)}")
    for warning in predicted.warnings:
        print(f"validate: {name}: {warning}")


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

"""Write all that each variant is trained with: its recipe in place of the settings of the pipeline."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))  # this clone's code, not an installed copy

from mammo.core import files, stage

import crossvalidation


def main(recipes: Path, out: Path) -> None:
    """Write OUT/VARIANT.json for each variant, from RECIPES, ../params.yaml and params.yaml."""
    settings = crossvalidation.read()
    with files.written(out) as folder:
        folder.mkdir()
        for name in settings.variants:
            trained = crossvalidation.resolve(settings, name, recipes)
            files.write_json(folder / f"{name}.json", trained.model_dump())


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

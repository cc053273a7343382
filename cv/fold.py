"""Fit one fold of a variant: train without the fold's patients, then predict their images."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))  # this clone's code, not an installed copy

from mammo.core import stage

import crossvalidation
import fitting


def main(raw: Path, settings: Path, out: Path) -> None:
    """Fit the variant and fold named by OUT = …/VARIANT/FOLD on the images of RAW, once per seed; write to OUT.

    SETTINGS is the file of all that the variant is trained with, data/settings/VARIANT.json.
    """
    folds, trained = crossvalidation.read().folds, crossvalidation.trained(settings)
    assign = partial(crossvalidation.assign, fold=int(out.name), folds=folds, share=trained.patients)
    fitting.fit_and_predict(raw, trained, assign, stage.STATE / out.parent.name / out.name, out)


def _precision(settings: Path, **_: Path) -> str:
    return crossvalidation.trained(settings).train.precision


if __name__ == "__main__":
    stage.run(main, reads_scores=True, elsewhere=("out",), precision=_precision, side_by_side="out")

"""Pool, score and compare the predictions of all variants and of the brightness baseline."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))  # this clone's code, not an installed copy

from mammo.core import files, predictions, stage, tried
from mammo.core.errors import UserError
from mammo.core.predictions import Prediction
from mammo.core.tried import Try
from mammo.core.wording import counted
from mammo.scoring import Cases, Interval, as_json, label_errors, locked_thresholds

import brightness
import crossvalidation
import numpy as np
import scored_rows
from crossvalidation import CrossValidation, Ensemble, Folds, Variant
from scipy.stats import chi2
from sklearn.metrics import roc_auc_score

SHORTCUT = brightness.NAME
Folded = list[list[Prediction]]  # by fold, sorted by image


def main(raw: Path, trained: Path, work: Path, metrics: Path, plots: Path, tries: Path) -> None:
    """Pool WORK/VARIANT/FOLD; write PLOTS/ROW.csv (predictions), PLOTS/scores.csv and METRICS (scores, comparisons).

    TRAINED holds the settings of each variant. Rows that were not tried before are added to TRIES, which is kept by
    git and no output (see `core.tried`). PLOTS/label_errors.csv ranks the images whose label the best row contradicts.

    The brightness baseline is a random forest on features of the images of RAW, fitted and tested on the same folds.
    """
    settings = crossvalidation.read()
    compared_with, order = in_order({**settings.variants, **settings.ensembles})
    known = brightness.read(raw)
    tables = {name: scored_rows.with_breasts(rows, known.sides) for name, rows in pooled(settings, known, work).items()}
    seed = settings.folds.seed
    scored = {row: scored_rows.scores_of(tables[row], seed) for row in order}
    aucs = {row: scored[row]["roc_auc"].value for row in compared_with}
    tried.add(tries, [tried_now(settings, trained, row, tables[row], auc) for row, auc in aucs.items()])
    number = len(tried.read_of(tries, predictions.images_digest(tables[SHORTCUT])))
    content = {
        "rows": {
            row: {**scored[row], **said(settings.folds, tables[row], work / row if row in settings.variants else None)}
            for row in order
        },
        "comparisons": scored_rows.holm(
            {f"{a}_to_{row}": scored_rows.change(tables[a], tables[row]) for row, a in compared_with.items()}
        ),
        "against_shortcut": scored_rows.holm(
            {row: scored_rows.change(tables[SHORTCUT], tables[row]) for row in compared_with}, number
        ),
        "selection": {
            "tried": number,
            "rows": len(compared_with),
            **scored_rows.selection({row: tables[row] for row in compared_with}, tables[SHORTCUT], seed),
        },
    }
    files.write_json(metrics, as_json(content))
    best = max(aucs, key=lambda row: aucs[row])
    with files.written(plots) as folder:
        folder.mkdir()
        for row in order:
            predictions.write(folder / f"{row}.csv", tables[row])
        write_scores(folder / "scores.csv", content["rows"], tables)
        suspected = write_suspicions(folder / "label_errors.csv", best, tables[best])
    print(
        f"summarise: {best} contradicts the label of {counted(suspected, 'image')} of {len(tables[best]):,}; "
        f"{plots / 'label_errors.csv'} ranks them, as a suggestion to look: nothing is dropped"
    )


def write_scores(path: Path, rows: Mapping[str, Any], tables: Mapping[str, Sequence[Prediction]]) -> None:
    """Write ROC AUC, number of seeds and their deviation of every row."""
    files.write_csv(
        path,
        ("row", "roc_auc", "low", "high", "seeds", "seed_deviation", "seed_deviation_low", "seed_deviation_high"),
        [
            (name, *vars(row["roc_auc"]).values(), tables[name][0].seeds, *limits(row.get("seed_deviation")))
            for name, row in rows.items()
        ],
    )


def write_suspicions(path: Path, row: str, rows: Sequence[Prediction]) -> int:
    """Write all images, those first whose label the row contradicts the most; return the number of the suspected."""
    found = label_errors.ranked([one.label for one in rows], [one.probability for one in rows])
    table = [
        (
            rows[place].image,
            rows[place].patient,
            rows[place].label,
            row,
            rows[place].probability,
            margin,
            int(suspected),
        )
        for place in found.order.tolist()
        for margin, suspected in [(float(found.margins[place]), found.suspected[place])]
    ]
    files.write_csv(path, ("image", "patient", "label", "row", "probability", "margin", "suspected"), table)
    return int(found.suspected.sum())


def limits(deviation: Interval | None) -> tuple[float | None, ...]:
    """Return value and ends for a table."""
    return tuple(vars(deviation).values()) if deviation else (None, None, None)


def said(folds: Folds, rows: Sequence[Prediction], work: Path | None) -> dict[str, Any]:
    """Return the entries of a row that is averaged over seeds; a single training, or a row of others, has none.

    Args:
        folds: the settings.
        rows: the predictions.
        work: folder with the predictions of the folds; None for a row without any of its own.

    """
    alone = of_seeds(folds, work, rows) if work else None
    if alone is None or len(alone) < 2:
        return {}
    return {
        "seeds": rows[0].seeds,
        "seed_deviation": seed_deviation(alone, np.array([row.label for row in rows])),
        "over_seeds": scored_rows.over_seeds(rows, alone, folds.seed),
    }


def of_seeds(folds: Folds, work: Path, rows: Sequence[Prediction]) -> np.ndarray | None:
    """Return the probabilities of each seed, (seeds, n), in the order of `rows`.

    None where the folds were computed by a commit that kept no predictions of single seeds.
    """
    tables = [work / str(fold) / "seeds.csv" for fold in range(folds.number)]
    if not all(path.is_file() for path in tables):
        return None
    chances: dict[str, dict[str, float]] = {}
    for path in tables:
        for row in files.read_csv(path, ("image", "seed", "probability")):
            chances.setdefault(row["seed"], {})[row["image"]] = float(row["probability"])
    return np.array([[of_seed[row.image] for row in rows] for of_seed in chances.values()])


def seed_deviation(alone: np.ndarray, labels: np.ndarray) -> Interval:
    """Return the standard deviation over seeds of a variant's ROC AUC, with its chi-square interval for normal AUCs.

    Args:
        alone: (seeds, n) probabilities of each training; at least two.
        labels: (n,) of the images.

    """
    aucs = [roc_auc_score(labels, of_seed) for of_seed in alone]
    deviation, free = float(np.std(aucs, ddof=1)), len(aucs) - 1
    low, high = (deviation * float(free / chi2.ppf(level, free)) ** 0.5 for level in (0.975, 0.025))
    return Interval(deviation, low, high)


def in_order(rows: Mapping[str, Variant | Ensemble]) -> tuple[dict[str, str], list[str]]:
    """Return the comparison of each row, and all rows sorted so that each follows the one it is compared with.

    Raises:
        UserError: a row is named like the brightness baseline, or its comparisons do not lead back to it.

    """
    if SHORTCUT in rows:
        raise UserError(f"cv/params.yaml: {SHORTCUT} is the brightness baseline; give that row another name")

    def from_row(row: str) -> list[str]:
        return [row, *(later for name in rows if rows[name].compared_with == row for later in from_row(name))]

    order = from_row(SHORTCUT)
    if unconnected := [f"{name} with {rows[name].compared_with!r}" for name in rows if name not in order]:
        raise UserError(f"cv/params.yaml: comparisons must lead back to {SHORTCUT}; not so {', '.join(unconnected)}")
    return {row: rows[row].compared_with for row in order[1:]}, order


def pooled(settings: CrossValidation, known: brightness.Images, work: Path) -> dict[str, list[Prediction]]:
    """Return the predictions of all folds of every row, sorted by image."""
    folds, every = settings.folds, range(settings.folds.number)
    assigned = (crossvalidation.assign(known.entries, fold, folds) for fold in every)
    tested: dict[str, Folded] = {SHORTCUT: [brightness.predicted(known, placed, folds.seed) for placed in assigned]}
    selecting: dict[str, Folded] = {}
    for name in settings.variants:
        tested[name] = [sorted(predictions.read(work / name / str(fold) / "predictions.csv")) for fold in every]
        kept = [work / name / str(fold) / "valid.csv" for fold in every]
        if all(path.is_file() for path in kept):
            selecting[name] = [sorted(predictions.read(path)) for path in kept]
    for name, ensemble in settings.ensembles.items():
        if unknown := [member for member in ensemble.mean_of if member not in tested]:
            raise UserError(
                f"cv/params.yaml: ensembles.{name}.mean_of has {unknown[0]!r}; allowed are {', '.join(tested)}"
            )
        tested[name] = means([tested[member] for member in ensemble.mean_of])
        if without := [member for member in ensemble.mean_of if member not in selecting]:
            print(
                f"summarise: {name} cannot be called at a locked threshold, so its table has no column predicted: "
                f"{', '.join(without)} kept no predictions of validation images (`dvc repro` makes valid.csv)"
            )
            continue
        selecting[name] = means([selecting[member] for member in ensemble.mean_of])
        tested[name] = [called(*fold) for fold in zip(tested[name], selecting[name], strict=True)]
    return {name: sorted(row for fold in folds for row in fold) for name, folds in tested.items()}


def means(members: Sequence[Folded]) -> Folded:
    """Return the mean probability of each image of each fold, not yet called; `seeds` is the least of any member's."""
    return [
        [
            same[0]._replace(
                probability=sum(row.probability for row in same) / len(same),
                predicted=None,
                seeds=None if any(row.seeds is None for row in same) else min(row.seeds or 0 for row in same),
            )
            for same in zip(*tables, strict=True)
        ]
        for tables in zip(*members, strict=True)
    ]


def called(tested: Sequence[Prediction], selecting: Sequence[Prediction]) -> list[Prediction]:
    """Return the test predictions of a fold, called at the threshold locked on its validation predictions."""
    chances = [row.probability for row in selecting]
    threshold = locked_thresholds(Cases([row.label for row in selecting], chances, split="valid"))[crossvalidation.RULE]
    return [row._replace(predicted=int(row.probability >= threshold)) for row in tested]


def tried_now(settings: CrossValidation, trained: Path, name: str, rows: Sequence[Prediction], auc: float) -> Try:
    """Return the entry of a row in the table of tries."""
    images, said = predictions.images_digest(rows), predictions.probabilities_digest(rows)
    return Try(images, name, crossvalidation.settings_digest(settings, name, trained), said, auc)


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

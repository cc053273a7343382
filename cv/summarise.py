"""Pool, score and compare the predictions of all variants and of the brightness baseline."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))  # this clone's code, not an installed copy

from mammo import scoring
from mammo.auditing import shortcut
from mammo.auditing.shortcut import brightness_features
from mammo.core import dataset, files, parallel, predictions, pseudonyms, stage, tried
from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.core.predictions import Prediction
from mammo.core.tried import Try
from mammo.imaging import images
from mammo.scoring import Bootstrap, Cases, Interval, as_json, comparison, locked_thresholds, scores

import crossvalidation
import numpy as np
from crossvalidation import CrossValidation, Ensemble, Folds, Variant
from scipy.stats import chi2
from sklearn.metrics import roc_auc_score

SHORTCUT = "shortcut"  # the row of the brightness baseline
SIZE = (224, 224)  # pixels of its input images, which are not otherwise preprocessed
Folded = list[list[Prediction]]  # by fold, sorted by image


def main(raw: Path, trained: Path, work: Path, metrics: Path, plots: Path, tries: Path) -> None:
    """Pool WORK/VARIANT/FOLD; write PLOTS/ROW.csv (predictions), PLOTS/scores.csv and METRICS (scores, comparisons).

    TRAINED holds the settings of each variant. Rows that were not tried before are added to TRIES, which is kept by
    git and no output (see `core.tried`).

    The brightness baseline is a random forest on features of the images of RAW, fitted and tested on the same folds.
    """
    settings = crossvalidation.read()
    compared_with, order = in_order({**settings.variants, **settings.ensembles})
    tables = pooled(settings, raw, work)
    deviations = {name: seed_deviation(settings.folds, work / name) for name in settings.variants}
    scored = {row: scores_of(tables[row], settings.folds.seed) for row in order}
    changes = {f"{before}_to_{row}": change(tables, before, row) for row, before in compared_with.items()}
    with files.written(plots) as folder:
        folder.mkdir()
        for row in order:
            predictions.write(folder / f"{row}.csv", tables[row])
        files.write_csv(
            folder / "scores.csv",
            ("row", "roc_auc", "low", "high", "seeds", "seed_deviation", "seed_deviation_low", "seed_deviation_high"),
            [
                (row, *vars(score["roc_auc"]).values(), tables[row][0].seeds, *limits(deviations.get(row)))
                for row, score in scored.items()
            ],
        )
    rows = {row: {**score, **said(tables[row][0].seeds, deviations.get(row))} for row, score in scored.items()}
    files.write_json(metrics, as_json({"rows": rows, "comparisons": holm(changes)}))
    aucs_by_row = {row: scored[row]["roc_auc"].value for row in compared_with}
    tried.add(tries, [tried_now(settings, trained, row, tables[row], auc) for row, auc in aucs_by_row.items()])


def limits(deviation: Interval | None) -> tuple[float | None, ...]:
    """Return value and ends for a table."""
    return tuple(vars(deviation).values()) if deviation else (None, None, None)


def said(seeds: int | None, deviation: Interval | None) -> dict[str, Any]:
    """Return the entries of a row that is averaged over seeds; a single training has none."""
    return {"seeds": seeds, "seed_deviation": deviation} if deviation else {}


def seed_deviation(folds: Folds, work: Path) -> Interval | None:
    """Return the standard deviation over seeds of a variant's ROC AUC, with its chi-square interval for normal AUCs.

    None for one seed, or where the folds were computed by a commit that kept no predictions of single seeds.
    """
    tables = [work / str(fold) / "seeds.csv" for fold in range(folds.number)]
    if not all(path.is_file() for path in tables):
        return None
    labels = {row.image: row.label for path in tables for row in predictions.read(path.with_name("predictions.csv"))}
    chances: dict[str, list[tuple[int, float]]] = {}
    for path in tables:
        for row in files.read_csv(path, ("image", "seed", "probability")):
            chances.setdefault(row["seed"], []).append((labels[row["image"]], float(row["probability"])))
    if len(chances) < 2:
        return None
    aucs = [roc_auc_score(*zip(*of_seed, strict=True)) for of_seed in chances.values()]
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


def pooled(settings: CrossValidation, raw: Path, work: Path) -> dict[str, list[Prediction]]:
    """Return the predictions of all folds of every row, sorted by image."""
    every = range(settings.folds.number)
    tested: dict[str, Folded] = {SHORTCUT: forest(raw, settings.folds)}
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


def forest(raw: Path, folds: Folds) -> Folded:
    """Return the predictions of the brightness baseline, fitted on all patients of the other folds, called at 0.5."""

    def features(entry: Entry) -> np.ndarray | None:
        try:
            return brightness_features(images.read(raw / entry.image, SIZE))
        except images.UnreadableError:  # reported by the folds, which stop or skip it
            return None

    delivered = dataset.read_index(raw)
    read = zip(delivered, parallel.each(features, delivered, "brightness"), strict=True)
    known = [(entry, values) for entry, values in read if values is not None]
    entries, brightness = [entry for entry, _ in known], np.array([values for _, values in known])
    labels = np.array([entry.label for entry in entries])
    shown = pseudonyms.hidden(entries, pseudonyms.read(raw))
    rows: Folded = []
    for fold in range(folds.number):
        tested = np.array([entry.split == "test" for entry in crossvalidation.assign(entries, fold, folds)])
        chances = shortcut.forest_probabilities(brightness[~tested], labels[~tested], brightness[tested], folds.seed)
        of_fold = zip(np.flatnonzero(tested), chances.tolist(), strict=True)
        rows.append(
            sorted(
                Prediction(entry.image, entry.patient_key, entry.label, chance, int(chance >= 0.5))
                for position, chance in of_fold
                for entry in [shown[position]]
            )
        )
    return rows


def scores_of(rows: Sequence[Prediction], seed: int) -> dict[str, Interval]:
    """Return the scores that do not depend on a threshold, with intervals over patients."""
    labels, chances, patients = zip(*((row.label, row.probability, row.patient) for row in rows), strict=True)
    every = scores(Cases(labels, chances, patients), 0.5, Bootstrap(seed))
    return {name: every[name] for name in ("roc_auc", "patient_roc_auc", "average_precision")}


def change(tables: Mapping[str, Sequence[Prediction]], before: str, after: str) -> dict[str, Any]:
    """Return the change in ROC AUC from one row to another, as computed by `mammo compare A.csv B.csv`."""
    a, b = (comparison.Side(name, {row.image: row for row in tables[name]}) for name in (before, after))
    judged = comparison.compare(comparison.pair(a, b)).changes[comparison.JUDGED]
    return {"roc_auc_change": judged.change, "p": judged.p}


def tried_now(settings: CrossValidation, trained: Path, name: str, rows: Sequence[Prediction], auc: float) -> Try:
    """Return the entry of a row in the table of tries."""
    images, said = predictions.images_digest(rows), predictions.probabilities_digest(rows)
    return Try(images, name, crossvalidation.settings_digest(settings, name, trained), said, auc)


def holm(changes: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add `p_holm`, p corrected for the number of comparisons."""
    corrected = scoring.holm({name: change["p"] for name, change in changes.items()})
    return {name: {**change, "p_holm": corrected[name]} for name, change in changes.items()}


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

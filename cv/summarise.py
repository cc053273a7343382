"""Pool, score and compare the predictions of all variants and of the brightness baseline."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))  # this clone's code, not an installed copy

from mammo.auditing import shortcut
from mammo.auditing.shortcut import brightness_features
from mammo.core import dataset, files, parallel, predictions, stage
from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.core.predictions import Prediction
from mammo.imaging import images
from mammo.scoring import Bootstrap, Cases, Interval, as_json, comparison, scores

import crossvalidation
import numpy as np
from crossvalidation import CrossValidation, Ensemble, Folds, Variant

SHORTCUT = "shortcut"  # the row of the brightness baseline
SIZE = (224, 224)  # pixels of its input images, which are not otherwise preprocessed


def main(raw: Path, work: Path, metrics: Path, plots: Path) -> None:
    """Pool WORK/VARIANT/FOLD; write PLOTS/ROW.csv (predictions), PLOTS/scores.csv and METRICS (scores, comparisons).

    The brightness baseline is a random forest on features of the images of RAW, fitted and tested on the same folds.
    """
    settings = crossvalidation.read()
    compared_with, order = in_order({**settings.variants, **settings.ensembles})
    tables = pooled(settings, raw, work)
    scored = {row: scores_of(tables[row], settings.folds.seed) for row in order}
    changes = {f"{before}_to_{row}": change(tables, before, row) for row, before in compared_with.items()}
    with files.written(plots) as folder:
        folder.mkdir()
        for row in order:
            predictions.write(folder / f"{row}.csv", tables[row])
        aucs = [(row, *vars(score["roc_auc"]).values()) for row, score in scored.items()]
        files.write_csv(folder / "scores.csv", ("row", "roc_auc", "low", "high"), aucs)
    files.write_json(metrics, as_json({"rows": scored, "comparisons": holm(changes)}))


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
    tables = {SHORTCUT: forest(raw, settings.folds)}
    for name in settings.variants:
        folds = [predictions.read(work / name / str(fold) / "predictions.csv") for fold in range(settings.folds.number)]
        tables[name] = sorted(row for fold in folds for row in fold)
    for name, ensemble in settings.ensembles.items():
        if unknown := [member for member in ensemble.mean_of if member not in tables]:
            raise UserError(
                f"cv/params.yaml: ensembles.{name}.mean_of has {unknown[0]!r}; allowed are {', '.join(tables)}"
            )
        tables[name] = mean([tables[member] for member in ensemble.mean_of])
    return tables


def mean(tables: Sequence[Sequence[Prediction]]) -> list[Prediction]:
    """Return the mean probability of each image; the threshold is 0.5, since none was locked."""
    rows = []
    for same in zip(*tables, strict=True):
        chance = sum(row.probability for row in same) / len(same)
        rows.append(same[0]._replace(probability=chance, predicted=int(chance >= 0.5)))
    return rows


def forest(raw: Path, folds: Folds) -> list[Prediction]:
    """Return the predictions of the brightness baseline, fitted on all patients of the other folds."""

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
    rows = []
    for fold in range(folds.number):
        tested = np.array([entry.split == "test" for entry in crossvalidation.assign(entries, fold, folds)])
        chances = shortcut.forest_probabilities(brightness[~tested], labels[~tested], brightness[tested], folds.seed)
        for position, chance in zip(np.flatnonzero(tested), chances.tolist(), strict=True):
            entry = entries[position]
            rows.append(Prediction(entry.image, entry.patient_key, entry.label, chance, int(chance >= 0.5)))
    return sorted(rows)


def scores_of(rows: Sequence[Prediction], seed: int) -> dict[str, Interval]:
    """Return the scores that do not depend on a threshold, with intervals over patients."""
    _, patients, labels, chances, _ = zip(*rows, strict=True)
    every = scores(Cases(labels, chances, patients), 0.5, Bootstrap(seed))
    return {name: every[name] for name in ("roc_auc", "patient_roc_auc", "average_precision")}


def change(tables: Mapping[str, Sequence[Prediction]], before: str, after: str) -> dict[str, Any]:
    """Return the change in ROC AUC from one row to another, as computed by `mammo compare A.csv B.csv`."""
    a, b = (comparison.Side(name, {row.image: row for row in tables[name]}) for name in (before, after))
    judged = comparison.compare(comparison.pair(a, b)).changes[comparison.JUDGED]
    return {"roc_auc_change": judged.change, "p": judged.p}


def holm(changes: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add `p_holm`, p corrected for the number of comparisons (Holm 1979, Scand. J. Statist. 6:65)."""
    corrected, least = {}, 0.0
    for rank, (name, change) in enumerate(sorted(changes.items(), key=lambda item: item[1]["p"])):
        least = max(least, min((len(changes) - rank) * change["p"], 1.0))
        corrected[name] = {**change, "p_holm": least}
    return {name: corrected[name] for name in changes}


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

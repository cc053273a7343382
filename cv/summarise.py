"""All folds' predictions of every row pooled, scored and compared; the shortcut beside them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from mammo import folds
from mammo.auditing import shortcut
from mammo.core import dataset, files, stage
from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.imaging import images
from mammo.imaging.appearance import intensity_features
from mammo.scoring import comparison as compare
from mammo.scoring import statistics
from pydantic import Field, RootModel

SHORTCUT = "shortcut"  # the row of the forest
LOOK = (224, 224)  # pixels at which it sees the images, as delivered
Ensembles = RootModel[dict[str, Annotated[list[str], Field(min_length=2)]]]  # section `ensembles` of cv/params.yaml
Row = tuple[str, str, int, float, int]  # of `folds.PREDICTIONS`


def main(raw: Path, work: Path, metrics: Path, plots: Path) -> None:
    """Pool WORK/ROW/FOLD of every row: PLOTS/ROW.csv (predictions), scores.csv, scores and comparisons in METRICS.

    The shortcut is a random forest on the global intensity of the images of RAW, fitted and asked in the same folds.
    Every row is compared with the one before it; p is also given corrected for the number of comparisons.
    """
    asked = folds.read("folds", folds.Folds)
    tables = {SHORTCUT: forest(raw, asked)}
    for name in folds.rows():
        tables[name] = pooled(work / name, asked.number)
    for name, members in folds.read("ensembles", Ensembles).root.items():
        if unknown := [member for member in members if member not in tables]:
            raise UserError(f"ensembles.{name}: there is no row {unknown[0]!r}; there are {', '.join(tables)}")
        tables[name] = mean([tables[member] for member in members])
    for name, rows in tables.items():
        files.write_csv(plots / f"{name}.csv", folds.PREDICTIONS, rows)
    scores = {name: scored(rows, asked.seed) for name, rows in tables.items()}
    changes = {f"{a}_to_{b}": changed(plots / f"{a}.csv", plots / f"{b}.csv") for a, b in pairwise(tables)}
    files.write_csv(
        plots / "scores.csv",
        ("row", "roc_auc", "low", "high"),
        [(name, score["roc_auc"].value, score["roc_auc"].low, score["roc_auc"].high) for name, score in scores.items()],
    )
    files.write_json(metrics, statistics.as_json({"rows": scores, "comparisons": holm(changes)}))


def pooled(folder: Path, number: int) -> list[Row]:
    """The predictions of all folds of a row, by image."""
    rows = [
        (row["image"], row["patient"], int(row["label"]), float(row["probability"]), int(row["predicted"]))
        for fold in range(number)
        for row in files.read_csv(folder / str(fold) / "predictions.csv", folds.PREDICTIONS)
    ]
    return sorted(rows)


def mean(tables: Sequence[Sequence[Row]]) -> list[Row]:
    """The mean probability of several rows for each image; cancer is called from 0.5, as no threshold was locked."""
    rows = []
    for same in zip(*tables, strict=True):
        image, patient, label, _, _ = same[0]
        chance = sum(row[3] for row in same) / len(same)
        rows.append((image, patient, label, chance, int(chance >= 0.5)))
    return rows


def forest(raw: Path, asked: folds.Folds) -> list[Row]:
    """What the forest says of every image, fitted on all patients of the other folds."""
    entries = dataset.read_index(raw)
    cv2.setNumThreads(1)

    def figures(entry: Entry) -> np.ndarray | None:
        try:
            return intensity_features(images.read(raw / entry.image, LOOK))
        except images.UnreadableError:  # named by the folds, which stop at it or skip it
            return None

    with ThreadPoolExecutor(stage.cores()) as pool:
        found = list(stage.progress(pool.map(figures, entries), "intensity", len(entries)))
    entries = [entry for entry, seen in zip(entries, found, strict=True) if seen is not None]
    intensities = np.array([seen for seen in found if seen is not None])
    labels = np.array([entry.label for entry in entries])
    rows = []
    for fold in range(asked.number):
        tested = np.array([entry.split == "test" for entry in folds.assigned(entries, fold, asked)])
        chances = shortcut.forest_probabilities(intensities[~tested], labels[~tested], intensities[tested], asked.seed)
        rows += [
            (
                entries[place].image,
                entries[place].patient or entries[place].image,
                entries[place].label,
                chance,
                int(chance >= 0.5),
            )
            for place, chance in zip(np.flatnonzero(tested), chances.tolist(), strict=True)
        ]
    return sorted(rows)


def scored(rows: Sequence[Row], seed: int) -> Mapping[str, statistics.Interval]:
    """The scores of pooled predictions that need no common threshold, with intervals over patients."""
    _, patients, labels, chances, _ = zip(*rows, strict=True)
    all_scores = statistics.scores(np.array(labels), np.array(chances), np.array(patients), 0.5, seed)
    return {name: all_scores[name] for name in ("roc_auc", "patient_roc_auc", "average_precision")}


def changed(a: Path, b: Path) -> dict[str, Any]:
    """The change in ROC AUC from one row to another, as `mammo compare A.csv B.csv` finds it."""
    judged = compare.compare(compare.pair(compare.read(str(a)), compare.read(str(b)))).changes[compare.JUDGED]
    return {"roc_auc_change": judged.change, "p": judged.p}


def holm(changes: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same with `p_holm`: p as corrected for their number (Holm 1979, Scand. J. Statist. 6:65)."""
    corrected, least = {}, 0.0
    for rank, (name, change) in enumerate(sorted(changes.items(), key=lambda item: item[1]["p"])):
        least = max(least, min((len(changes) - rank) * change["p"], 1.0))
        corrected[name] = {**change, "p_holm": least}
    return {name: corrected[name] for name in changes}


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

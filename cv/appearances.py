"""How a row of the table does on images of each appearance, and a picture of its most certain misses.

It is no stage: `python appearances.py ../data/raw plots/ROW.csv misses.png` is run on the rows of interest.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))  # this clone's code, not an installed copy

from mammo.core import dataset, parallel, predictions, pseudonyms, stage
from mammo.core.errors import UserError
from mammo.core.predictions import Prediction
from mammo.core.wording import counted
from mammo.imaging import appearance, images, laterality
from mammo.reporting import figures
from mammo.scoring import Bootstrap, scores, with_interval

import brightness
import scored_rows
from matplotlib import pyplot

MISSES = 10
SEED = 1  # of the resamples of patients


def main(raw: Path, table: Path, picture: Path) -> None:
    """Print the ROC AUC of the predictions in TABLE by appearance of the images of RAW; write PICTURE (PNG)."""
    rows = predictions.read(table)
    files = files_of(raw, {row.image for row in rows})
    names = [row.image for row in rows]
    groups = dict(zip(names, parallel.each(levels, [files[name] for name in names], "images"), strict=True))
    for group in next(iter(groups.values())):
        for level in sorted({levels[group] for levels in groups.values()}):
            print(f"{group:30} {level:8} {score([row for row in rows if groups[row.image][group] == level])}")
    missed = sorted((row for row in rows if row.label), key=lambda row: row.probability)[:MISSES]
    draw(missed, files, picture)
    print(f"{picture}: the {len(missed)} cancers with the lowest probabilities")


def files_of(raw: Path, names: set[str]) -> dict[str, Path]:
    """Return the file of each image by its name in tables.

    Raises:
        UserError: RAW lacks images.

    """
    entries = dataset.read_index(raw)
    shown = pseudonyms.hidden(entries, pseudonyms.read(raw))
    files = {known.image: raw / entry.image for entry, known in zip(entries, shown, strict=True)}
    if lacking := sorted(names - set(files)):
        number = counted(len(lacking), "image")
        raise UserError(f"{raw} lacks {number} of the table, e.g. {lacking[0]}: are they of another set?")
    return files


def levels(path: Path) -> dict[str, str]:
    """Return the level of an image in each group."""
    image = images.read(path, brightness.SIZE)
    seen = appearance.appearance(image)
    share = "under 20" if seen.breast < 0.2 else "20 to 40" if seen.breast < 0.4 else "over 40"
    return {
        "black on white": "yes" if seen.inverted else "no",
        "marks beside the breast": "yes" if seen.marked else "no",
        "breast, % of the image": share,
        "breast shown": laterality.in_picture(image) or "unclear",
    }


def score(rows: Sequence[Prediction]) -> str:
    """Return number of images, of cancers, and ROC AUC with its interval over patients."""
    numbers = f"{len(rows):6,} images, {sum(row.label for row in rows):5,} cancers"
    if (cases := scored_rows.cases(rows, "image")) is None:  # of one class
        return numbers
    return f"{numbers}, ROC AUC {with_interval(**vars(scores(cases, 0.5, Bootstrap(SEED))['roc_auc']))}"


def draw(rows: Sequence[Prediction], files: Mapping[str, Path], picture: Path) -> None:
    """Write a PNG of these images, each with its probability."""
    figure, panels = pyplot.subplots(2, -(-len(rows) // 2), figsize=(11, 7), squeeze=False, layout="constrained")
    for panel in panels.ravel():
        panel.axis("off")
    for panel, row in zip(panels.ravel(), rows, strict=False):
        panel.imshow(images.read(files[row.image], (448, 448)), cmap="gray", vmin=0, vmax=255)
        panel.set_title(f"{row.probability:.3f}", fontsize=10)
    figures.save(figure, picture, caption="")


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

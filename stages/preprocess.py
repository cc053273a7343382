"""Decode every image, convert it to grey, resize it into one array; assign patients to splits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mammo.core import dataset, files, pseudonyms, set_description, settings, splits, stage
from mammo.core.dataset import SPLITS, About, Entry
from mammo.core.errors import UserError
from mammo.core.pseudonyms import Pseudonym
from mammo.core.spelling import nearest
from mammo.core.wording import SPLIT_NAMES, counted
from mammo.imaging import laterality, prepare

import numpy as np


def main(raw: Path, prepared: Path, metrics: Path) -> None:
    """Decode RAW into PREPARED (images.npy, index.csv, files.csv, about.json); write counts to METRICS.

    With `data.in_place` the images are read from `data.folder`, and RAW holds their index alone.
    """
    params = settings.read()
    source = params.data.source
    private = pseudonyms.read(raw)
    delivered = without(dataset.read_index(raw), params.data.exclude, private)
    with files.written(prepared) as folder:
        folder.mkdir()
        images = Path(params.data.folder) if params.data.in_place else raw
        masks = None if source == "set" else raw / "masks"  # a described set may have a folder of this name
        readable = prepare.decode_all(images, delivered, params.preprocess, folder, masks)
        array = np.load(folder / dataset.IMAGES, mmap_mode="r")
        picture = prepare.unmirrored(lambda position: images / readable[position].image, array, params.preprocess)
        completed, of_sides = laterality.completed(readable, picture)
        # files.csv has the sizes.
        entries = [
            replace(entry, bytes=-1) if entry.bytes >= 0 else entry for entry in splits.assign(completed, params.split)
        ]
        dataset.write_index(folder, pseudonyms.hidden(entries, private))
        if private:
            pseudonyms.write(folder, (private[entry.image] for entry in entries))
        unknown = sum(not entry.patient for entry in entries)
        about = About(
            source=source,
            canonical=params.preprocess.canonical,
            for_processing=params.preprocess.for_processing,
            images_without_patient=unknown,
            remarks=[*dataset.read_remarks(raw), *of_sides],
            excluded=sorted(set(params.data.exclude)),
        )
        dataset.write_about(folder, about)
        if provenance := set_description.read_provenance(raw):
            set_description.write_provenance(folder, provenance)
        table = counts(entries) | {"unreadable": {"skipped": len(delivered) - len(entries)}}
        table["excluded"] = {"images": len(about.excluded)}
        # Phantoms are drawn in splits by this pipeline itself: nobody delivered those.
        moved = [entry.split for entry in entries] != [entry.split for entry in readable]
        replaced = source != "phantom" and moved and all(entry.split for entry in readable)
        if replaced:
            table["delivered_split"] = counts(readable)
        files.write_json(metrics, table)
    print(f"preprocess: {counted(len(entries), 'image')} in {prepared}: {sizes(table)}")
    for remark in of_sides:
        print(f"preprocess: {remark}")
    if about.excluded:
        print(f"preprocess: {len(about.excluded):,} left out by data.exclude: {', '.join(about.excluded)}")
    if replaced:
        print(
            f"preprocess: the split as delivered ({sizes(counts(readable))}) was replaced, since split.by is patient; "
            "split.by: folder keeps it"
        )


def without(
    entries: Sequence[Entry], excluded: Sequence[str], private: Mapping[str, Pseudonym] = MappingProxyType({})
) -> list[Entry]:
    """Return the entries but for the images `excluded`, which are named by pseudonym if there are any.

    Raises:
        UserError: one of these is not among the entries, or is named by its file although it has a pseudonym, so that
            params.yaml would publish what pseudonyms hide.

    """
    names = {private[entry.image].image if private else entry.image for entry in entries}
    table = f"data/raw/{pseudonyms.NAME if private else 'index.csv'}"
    for name in excluded:
        if name in private:
            raise UserError(
                f"data.exclude: git would publish {name!r}; write its pseudonym, {private[name].image!r}, "
                "or set data.pseudonyms: false"
            )
        if name not in names:
            near = nearest(name, sorted(names), resembling=0)
            raise UserError(f"data.exclude: there is no image {name!r} in {table}; the nearest is {near!r}")
    shown = zip(entries, pseudonyms.hidden(entries, private), strict=True)
    return [entry for entry, named in shown if named.image not in set(excluded)]


def sizes(table: Mapping[str, Mapping[str, int]]) -> str:
    """Return the number of images in each split, in words."""
    return ", ".join(f"{table[name]['healthy'] + table[name]['cancer']:,} {SPLIT_NAMES[name]}" for name in SPLITS)


def counts(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the numbers of images and patients by split, for metrics/preprocess.json."""
    table: dict[str, Any] = {}
    for name in SPLITS:
        part = [entry for entry in entries if entry.split == name]
        labels = Counter(entry.label for entry in part)
        patients = len({entry.patient_key for entry in part})
        table[name] = {"healthy": labels[0], "cancer": labels[1], "patients": patients}
    return table


if __name__ == "__main__":
    stage.run(main)

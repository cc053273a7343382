"""Decode every image, convert it to grey, resize it into one array; assign patients to splits."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mammo.core import dataset, files, settings, splits, stage
from mammo.core.dataset import SPLITS, About, Entry
from mammo.imaging import prepare


def main(raw: Path, prepared: Path, metrics: Path) -> None:
    """Decode the images of RAW into PREPARED/images.npy, index.csv and about.json; write counts to METRICS."""
    params = settings.read()
    delivered = dataset.read_index(raw)
    with files.written(prepared) as folder:
        folder.mkdir()
        readable = prepare.decode_all(raw, delivered, params.preprocess, folder)
        entries = splits.assign(readable, params.split)
        dataset.write_index(folder, entries)
        unknown = sum(not entry.patient for entry in entries)
        about = About(source=params.data.source, canonical=params.preprocess.canonical, images_without_patient=unknown)
        dataset.write_about(folder, about)
        table = counts(entries, len(delivered) - len(entries))
        files.write_json(metrics, table)
    shares = ", ".join(f"{table[name]['healthy'] + table[name]['cancer']:,} {name}" for name in SPLITS)
    print(f"preprocess: {len(entries):,} images in {prepared}: {shares}")


def counts(entries: Sequence[Entry], skipped: int) -> dict[str, dict[str, int]]:
    """Return the numbers of images and patients by split and of skipped images, for metrics/preprocess.json."""
    table: dict[str, dict[str, int]] = {}
    for name in SPLITS:
        part = [entry for entry in entries if entry.split == name]
        labels = Counter(entry.label for entry in part)
        patients = len({entry.patient_key for entry in part})
        table[name] = {"healthy": labels[0], "cancer": labels[1], "patients": patients}
    return {**table, "unreadable": {"skipped": skipped}}


if __name__ == "__main__":
    stage.run(main)

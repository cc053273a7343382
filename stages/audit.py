"""Search for leakage, duplicates, odd scans and shortcuts; a leak stops the pipeline."""

from pathlib import Path

from mammo.auditing import leaks, metadata, names, odd_scans, shortcut, split_sizes, summary
from mammo.auditing.duplicates import images_twice, same_images
from mammo.auditing.findings import Finding, worst_first, write_findings
from mammo.auditing.header_remarks import header_findings
from mammo.auditing.pictures import draw
from mammo.core import dataset, files, predictions, pseudonyms, settings, stage
from mammo.core.errors import UserError


def main(prepared: Path, gate: Path, metrics: Path, findings: Path, shortcut_table: Path, pictures: Path) -> None:
    """Search PREPARED for leakage, duplicates, odd scans and shortcuts.

    Write the verdict, which training requires, to GATE, counts to METRICS (JSON), one row per finding to FINDINGS
    (CSV), the test predictions of the brightness baseline to SHORTCUT_TABLE (CSV), one PNG per kind of finding to the
    folder PICTURES. A leak stops the pipeline unless audit.on_leak is `warn`; so do images without a patient, unless
    audit.on_unknown_patients is `warn`.
    """
    params = settings.read().audit
    data = dataset.load(prepared)
    known = pseudonyms.read(prepared)
    originals = pseudonyms.originals(data.entries, known)
    remarks = pseudonyms.on_images(dataset.read_remarks_on_images(prepared), known)
    about = dataset.read_about(prepared)
    split_sizes.refuse_missing_class(data)
    pairs = same_images(data.images, [entry.sha256 for entry in data.entries], data.splits.tolist())
    appearances, features = odd_scans.examine(data.images)
    told = metadata.separations(data, dataset.read_delivered(prepared), appearances, params.seed, originals)
    baseline = shortcut.brightness_baseline(data, features, params.seed)

    rows = worst_first(
        [
            *leaks.patients_across_splits(data),
            *images_twice(data, pairs),
            *leaks.patients_with_both_labels(data),
            *leaks.unknown_patients(data),
            *names.patients_written_in_several_ways(data, originals),
            *(Finding("remark", "note", detail=remark) for remark in about.remarks),
            *split_sizes.small_or_unbalanced(data),
            *odd_scans.odd_scans(data, appearances),
            *header_findings(data, remarks),
            *shortcut.intensity_shortcut(baseline, features.shape[1], about.images_without_patient),
            *metadata.findings(told),
        ]
    )
    leak = leaks.verdict(data, rows)

    files.write_json(
        metrics, summary.counts(data, rows, pairs, baseline, leak) | {"metadata": metadata.as_metrics(told)}
    )
    write_findings(findings, rows)
    predictions.write(shortcut_table, baseline.predictions)
    draw(pictures, data, rows, features, "PHANTOMS (synthetic mammograms). " if about.source == "phantom" else "")
    files.write_json(gate, leak.model_dump())
    if leaks.stops(leak, params):
        raise UserError(leaks.message(leak, rows, findings, pictures))
    print(summary.for_terminal(leak, rows, baseline, about.images_without_patient, findings, pictures))


if __name__ == "__main__":
    stage.run(main)

"""`mammo compare --unit`: two models paired by breast or by exam, on tables of anyone."""

import json
from pathlib import Path

from mammo import commands
from mammo.core import files
from mammo.scoring import Bootstrap, Cases, comparison, paired_bootstrap

import numpy as np
import pytest
from sklearn import metrics

COLUMNS = ("image", "patient", "label", "probability", "predicted", "breast")


def model(skill: float, seed: int, women: int = 60) -> list[tuple]:
    """Two views of both breasts of each woman; of every second woman the left one has cancer."""
    random = np.random.default_rng(seed)
    rows = []
    for woman in range(women):
        for breast in ("L", "R"):
            label = int(woman % 2 and breast == "L")
            own = random.normal()
            for view in ("CC", "MLO"):
                chance = float(1 / (1 + np.exp(-(skill * (label - 0.5) + own + random.normal()))))
                rows.append((f"{woman}_{breast}_{view}.png", f"{woman}", label, chance, int(chance >= 0.5), breast))
    return rows


def write(path: Path, rows: list[tuple], columns: tuple[str, ...] = COLUMNS) -> str:
    files.write_csv(path, columns, rows)
    return str(path)


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert commands.main(["compare", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def by_breast(rows: list[tuple]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, mean and patient of each breast, by a loop."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for _, patient, label, chance, _, breast in rows:
        found.setdefault((patient, breast), []).append((label, chance))
    return (
        np.array([max(a for a, _ in each) for each in found.values()]),
        np.round([np.mean([b for _, b in each]) for each in found.values()], 12),
        np.array([patient for patient, _ in found]),
    )


def test_two_models_are_paired_by_breast(tmp_path: Path, capsys) -> None:
    rows = model(1.0, seed=1), model(1.6, seed=2)
    a, b = write(tmp_path / "a.csv", rows[0]), write(tmp_path / "b.csv", rows[1])
    found = report(capsys, a, b, "--unit", "breast")
    assert (found["breasts"], found["patients"]) == (120, 60)
    assert "images" not in found
    assert set(found["scores"]) == {"roc_auc", "patient_roc_auc", "average_precision"}
    breasts = [by_breast(each) for each in rows]
    for side, (labels, means, _) in zip("ab", breasts, strict=True):
        assert found["scores"]["roc_auc"][side]["value"] == pytest.approx(metrics.roc_auc_score(labels, means))
    one, other = (Cases(*each) for each in breasts)
    expected = paired_bootstrap(one, other, None, None, Bootstrap(comparison.SEED))["roc_auc"]
    assert found["scores"]["roc_auc"]["p"] == pytest.approx(expected.p, rel=0.05)
    assert commands.main(["compare", a, b, "--unit", "breast"]) == 0
    text = capsys.readouterr().out
    assert "120 test breasts of 60 patients\n" in text
    assert (
        "one case is one breast: only scores of the ranking are computed, since thresholds are those of images" in text
    )


def test_by_exam_a_woman_is_as_suspicious_as_her_worse_breast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = model(1.0, seed=1), model(1.6, seed=2)
    a, b = write(tmp_path / "a.csv", rows[0]), write(tmp_path / "b.csv", rows[1])
    found = report(capsys, a, b, "--unit", "exam")
    assert (found["exams"], found["patients"]) == (60, 60)
    labels, means, patients = by_breast(rows[0])
    women = np.unique(patients)
    ill = [labels[patients == woman].max() for woman in women]
    worst = [means[patients == woman].max() for woman in women]
    assert found["scores"]["roc_auc"]["a"]["value"] == pytest.approx(metrics.roc_auc_score(ill, worst))


def test_a_table_without_breasts_takes_those_of_the_other(tmp_path: Path, capsys) -> None:
    rows = model(1.0, seed=1), model(1.6, seed=2)
    a, full = write(tmp_path / "a.csv", rows[0]), write(tmp_path / "full.csv", rows[1])
    b = write(tmp_path / "b.csv", [row[:5] for row in rows[1]], COLUMNS[:5])
    assert report(capsys, a, b, "--unit", "breast")["scores"] == report(capsys, a, full, "--unit", "breast")["scores"]


def test_images_of_no_breast_are_counted_and_left_out(tmp_path: Path, capsys) -> None:
    rows = [
        (*row[:5], "" if number < 3 else "B" if number == 3 else row[5]) for number, row in enumerate(model(1.0, 1))
    ]
    table = write(tmp_path / "a.csv", rows)
    found = report(capsys, table, table, "--unit", "breast")
    assert found["breasts"] == 118
    assert "4 of 240 images belong to no breast: their breast is unknown or both" in found["notes"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda row: row[:5],
            "no breasts of both classes are known here: --unit breast needs a column breast with L or R",
        ),
        (lambda row: (*row[:5], "B"), "no breasts of both classes are known here"),
    ],
)
def test_breasts_that_are_not_known_are_refused(tmp_path: Path, capsys, change, words: str) -> None:
    rows = [change(row) for row in model(1.0, 1)]
    table = write(tmp_path / "a.csv", rows, COLUMNS[: len(rows[0])])
    assert commands.main(["compare", table, table, "--unit", "breast"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"mammo compare: {words}")


def test_other_breasts_on_one_side_are_another_test_set(tmp_path: Path, capsys) -> None:
    rows = model(1.0, 1)
    a = write(tmp_path / "a.csv", rows)
    b = write(tmp_path / "b.csv", [(*row[:5], {"L": "R", "R": "L"}[row[5]]) for row in rows])
    assert commands.main(["compare", a, b, "--unit", "breast"]) == 1
    assert "240 images have another breast in" in capsys.readouterr().err
    assert commands.main(["compare", a, b]) == 0  # by image, the breasts play no part


def test_without_unit_images_are_compared_as_before(tmp_path: Path, capsys) -> None:
    rows = model(1.0, 1)
    a, b = write(tmp_path / "a.csv", rows), write(tmp_path / "b.csv", [row[:5] for row in rows], COLUMNS[:5])
    found = report(capsys, a, b)
    assert found["images"] == 240
    assert not any("not used" in note for note in found["notes"])
    assert {"sensitivity", "specificity"} <= set(found["scores"])

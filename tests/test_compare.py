"""`mammo compare` and `mammo scores`, in a real repository with two branches and the real DVC."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from mammo import commands, scoring
from mammo.core import files, predictions
from mammo.core.errors import UserError
from mammo.reporting import figures
from mammo.scoring import Bootstrap, Cases, comparison

import numpy as np
import pytest
from conftest import ROOT
from documents import block, shell

# DVC 3.67 uses a call that its own dependency pygtrie has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

READERS = block("Comparing with readers")

# Two cheap stages stand for the pipeline's: what evaluate depends on changes through train.
PIPELINE = """
stages:
  train:
    cmd: cp model.csv trained.csv
    deps: [model.csv]
    outs: [trained.csv]
  evaluate:
    cmd: mkdir -p plots && cp trained.csv plots/predictions.csv
    deps: [trained.csv]
    outs:
    - plots/predictions.csv:
        cache: false
"""


def model(skill: float, seed: int, women: int = 40):
    """Rows of predictions.csv: half the women have cancer; two images each, in an order of the model's own."""
    random = np.random.default_rng(seed)
    rows = []
    for woman in range(women):
        label, own = woman % 2, random.normal()
        for view in ("CC", "MLO"):
            chance = 1 / (1 + np.exp(-(skill * (label - 0.5) + own + random.normal())))
            rows.append((f"test/{label}/{woman}_{view}.jpg", f"{woman}", label, float(chance), int(chance >= 0.5)))
    return [rows[position] for position in random.permutation(len(rows))]


def write(path: Path, rows) -> Path:
    predictions.write(path, rows)
    return path


def run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def dvc(folder: Path, *command: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", *command)


def commit(folder: Path, message: str) -> None:
    run(folder, "git", "add", "--all")
    run(folder, "git", "-c", "user.name=A Tester", "-c", "user.email=tester@example.org", "commit", "-qm", message)


@pytest.fixture(scope="module")
def two_branches(tmp_path_factory):
    """`main` with one model, `better` (checked out) with another, each run by DVC and committed; `bare` ran nothing."""
    folder = tmp_path_factory.mktemp("project")
    run(folder, "git", "init", "-q", "-b", "main")
    dvc(folder, "init", "-q")
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (folder / "dvc.yaml").write_text(PIPELINE)
    commit(folder, "before any run")
    run(folder, "git", "tag", "bare")
    for branch, skill in (("main", 1.0), ("better", 3.0)):
        if branch != "main":
            run(folder, "git", "checkout", "-q", "-b", branch)
        write(folder / "model.csv", model(skill, seed=int(skill)))
        dvc(folder, "repro", "-q")
        commit(folder, f"{branch} as it ran")
    return folder


@pytest.fixture
def project(two_branches, tmp_path, monkeypatch):
    """A copy of the repository that the test may change, as the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(two_branches, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def expected(a_rows, b_rows):
    """The comparison from the rows themselves, sorted by image."""
    (a, called_a), (b, called_b) = (cases_of(rows) for rows in (a_rows, b_rows))
    return scoring.paired_bootstrap(a, b, called_a, called_b, Bootstrap(comparison.SEED))


def cases_of(rows):
    """The rows as cases, and what is called cancer, by image."""
    _, patients, labels, probabilities, called = zip(*sorted(rows), strict=True)
    return Cases(labels, probabilities, patients), np.array(called)


def report(capsys, *arguments: str):
    assert commands.main(["compare", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *arguments: str) -> str:
    """The one line that a refused comparison prints."""
    assert commands.main(["compare", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mammo compare: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_branch_against_the_workspace_pairs_the_images_by_name(project, capsys):
    found = report(capsys, "main")
    truth = expected(model(1.0, seed=1), model(3.0, seed=3))
    assert (found["a"], found["b"], found["images"], found["patients"]) == ("main", "workspace", 80, 40)
    for name, change in truth.items():
        assert found["scores"][name]["a"] == scoring.as_json(change.a)
        assert found["scores"][name]["b"] == scoring.as_json(change.b)
        assert found["scores"][name]["change"] == scoring.as_json(change.change)
        assert found["scores"][name]["p"] == change.p
    assert set(found["scores"]) == set(truth)
    assert found["scores"]["roc_auc"]["change"]["low"] > 0
    assert not found["significantly_worse"]


def test_the_image_level_tests_stand_beside(project, capsys):
    found = report(capsys, "main", "better")["scores"]
    (a, called_a), (b, called_b) = (cases_of(rows) for rows in (model(1.0, seed=1), model(3.0, seed=3)))
    assert found["roc_auc"]["delong"]["p"] == scoring.delong_test(a, b).p
    ill = a.as_given(a.labels)
    for name, among in (("accuracy", ill | ~ill), ("sensitivity", ill), ("specificity", ~ill)):
        right_a, right_b = (called_a == ill)[among], (called_b == ill)[among]
        assert found[name]["mcnemar"]["p"] == scoring.mcnemar(right_a, right_b)


def test_without_arguments_the_last_commit_against_the_workspace(project, capsys):
    found = report(capsys)
    assert (found["a"], found["b"]) == ("HEAD", "workspace")
    assert found["scores"]["roc_auc"]["p"] == 1
    assert found["sentence"] == "The ROC AUCs of HEAD and workspace are the same: they order the images alike."


def test_two_revisions_and_two_files_give_the_same(project, capsys, tmp_path):
    a, b = write(tmp_path / "a.csv", model(1.0, seed=1)), write(tmp_path / "b.csv", model(3.0, seed=3))
    by_revision, by_file = report(capsys, "better~1", "better"), report(capsys, str(a), str(b))
    assert by_revision["scores"] == by_file["scores"]


SINGLE = (
    "single trainings are compared, not recipes ({}): on real mammograms another seed alone changed a difference of "
    "ROC AUCs by 0.022 (standard deviation), which interval and p leave out"
)


def test_two_single_trainings_are_said_to_be_such_in_every_form(project, capsys):
    line = SINGLE.format("A is one training, B is one training")
    assert line in report(capsys, "main")["notes"]
    assert printed(capsys, "main").count(f"\n{line}\n") == 1
    assert printed(capsys, "main", "--markdown").count(f"\n- {line}\n") == 1


def test_means_over_seeds_are_not_said_to_be_single_trainings_and_others_say_what_is_known(tmp_path, capsys):
    rows = [predictions.Prediction(*row) for row in model(1.0, seed=1)]
    three = str(write(tmp_path / "three.csv", [row._replace(seeds=3) for row in rows]))
    one = str(write(tmp_path / "one.csv", [row._replace(seeds=1) for row in rows]))
    silent = str(write(tmp_path / "silent.csv", rows))
    assert not any("single trainings" in note for note in report(capsys, three, three)["notes"])
    assert "not used" not in printed(capsys, three, three), "the column is known"
    for other, words in ((one, "is one training"), (silent, "does not say over how many seeds it is averaged")):
        said = SINGLE.format(f"A is the mean over 3 seeds, B {words}")
        assert said in report(capsys, three, other)["notes"]
    (tmp_path / "bad.csv").write_text("image,label,probability,seeds\na,0,0.5,none\nb,1,0.5,1\n")
    assert "line 2: seeds is 'none'; allowed are whole numbers from 1" in refusal(
        capsys, silent, str(tmp_path / "bad.csv")
    )


def test_two_files_need_no_project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(Path("a.csv"), model(1.0, seed=1))
    write(Path("b.csv"), model(3.0, seed=3))
    assert report(capsys, "a.csv", "b.csv")["images"] == 80
    assert "there is no dvc.yaml here" in refusal(capsys, "HEAD", "b.csv")


def test_a_workspace_whose_model_changed_is_refused_until_it_ran(project, capsys):
    write(project / "model.csv", model(2.0, seed=2))
    text = refusal(capsys, "main")
    assert "out of date, run `dvc repro` first. Changed: train (model.csv)" in text
    dvc(project, "repro", "-q")
    found = report(capsys, "main")
    assert found["scores"]["roc_auc"]["b"] == scoring.as_json(
        expected(model(1.0, seed=1), model(2.0, seed=2))["roc_auc"].b
    )


def test_predictions_edited_by_hand_are_refused(project, capsys):
    write(project / comparison.PREDICTIONS, model(9.0, seed=2))
    assert "out of date" in refusal(capsys, "main")
    (project / comparison.PREDICTIONS).unlink()
    assert "out of date" in refusal(capsys, "main")


def test_two_revisions_compare_whatever_the_workspace_is_like(project, capsys):
    (project / "model.csv").unlink()
    assert report(capsys, "main", "better")["images"] == 80


def test_an_unknown_revision_and_one_without_a_run_are_named(project, capsys):
    assert "nowhere is not a revision of this repository" in refusal(capsys, "nowhere")
    assert "bare holds no plots/predictions.csv" in refusal(capsys, "bare")
    assert "missing.csv does not exist" in refusal(capsys, "missing.csv")
    assert "the name of a revision is empty" in refusal(capsys, "")


def test_different_test_sets_are_refused_and_their_shared_images_compared_on_request(project, capsys, tmp_path):
    rows = sorted(model(1.0, seed=1))
    fewer = write(tmp_path / "fewer.csv", rows[4:])
    other = write(tmp_path / "other.csv", [*rows[:-1], ("test/1/new.jpg", "new", 1, 0.5, 1)])
    text = refusal(capsys, str(fewer), str(other))
    assert "75 images are in both" in text
    assert f"1 only in {fewer} ({rows[-1][0]})" in text
    assert f"5 only in {other} (test/0/0_CC.jpg, test/0/0_MLO.jpg, test/0/10_CC.jpg, …)" in text
    assert "--common" in text
    shared = report(capsys, "--common", str(fewer), str(other))
    assert (shared["images"], shared["left_out"]) == (75, 6)
    assert shared["scores"]["roc_auc"]["change"]["value"] == 0


def test_the_same_images_with_other_labels_or_patients_are_refused(capsys, tmp_path):
    rows = sorted(model(1.0, seed=1))
    a = write(tmp_path / "a.csv", rows)
    image, patient, label, chance, called = rows[0]
    b = write(tmp_path / "b.csv", [(image, patient, 1 - label, chance, called), *rows[1:]])
    assert f"1 image has another label in {a} than in {b} ({image})" in refusal(capsys, str(a), str(b), "--common")
    b = write(tmp_path / "b.csv", [(image, "x", label, chance, called), *rows[1:]])
    assert f"1 image has another patient in {a} than in {b} ({image})" in refusal(capsys, str(a), str(b))
    b = write(tmp_path / "b.csv", [("other.jpg", "x", 1, 0.5, 1)])
    assert "no test image in common" in refusal(capsys, str(a), str(b), "--common")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,label\na.jpg,1\n", "lacks the column probability; it has: image, label"),
        ("image,label,probability,Label\na.jpg,1,0.5,1\n", "has the column label more than once ('label', 'Label')"),
        ("image,patient,label,probability,predicted\n", "holds no predictions"),
        ("image,patient,label,probability,predicted\na,1,2,0.5,1\n", "line 2: label is '2'; allowed are 0 and 1"),
        ("image,patient,label,probability,predicted\na,1,1,0.5,yes\n", "line 2: predicted is 'yes'"),
        ("image,patient,label,probability,predicted\na,1,1,nan,1\n", "line 2: probability is 'nan'"),
        ("image,patient,label,probability,predicted\na,1,1,,1\n", "line 2: probability is ''"),
        ("image,patient,label,probability,predicted\na,1,1,0.5\n", "line 2: predicted is None"),
        (
            "image,patient,label,probability,predicted\na,1,1,0.5,1\na,1,1,0.5,1\n",
            "line 3: a is duplicated",
        ),
        ("image,patient,label,probability,predicted\n\xff", "is not a CSV file in UTF-8"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(content, message, capsys, tmp_path):
    bad, good = tmp_path / "bad.csv", write(tmp_path / "good.csv", model(1.0, seed=1))
    bad.write_bytes(content.encode("latin-1"))
    text = refusal(capsys, str(good), str(bad))
    assert str(bad) in text
    assert message in text


def test_images_of_one_class_are_refused(capsys, tmp_path):
    rows = [row for row in model(1.0, seed=1) if row[2] == 0]
    a, b = write(tmp_path / "a.csv", rows), write(tmp_path / "b.csv", rows)
    assert "holds no cancer image" in refusal(capsys, str(a), str(b))


def test_fail_if_worse_fails_only_on_a_significant_loss(capsys, tmp_path):
    weak, strong = write(tmp_path / "weak.csv", model(0.5, seed=1)), write(tmp_path / "strong.csv", model(4.0, seed=3))
    like = write(tmp_path / "like.csv", [(*row[:3], row[3] * 0.9, row[4]) for row in model(4.0, seed=3)])
    for a, b, code in ((strong, weak, 1), (weak, strong, 0), (strong, like, 0)):
        assert commands.main(["compare", "--fail-if-worse", str(a), str(b)]) == code
        assert commands.main(["compare", str(a), str(b)]) == 0
    assert capsys.readouterr().err == ""


def test_the_terminal_shows_a_row_a_score_and_a_plain_sentence(project, capsys):
    assert commands.main(["compare", "main"]) == 0
    text = capsys.readouterr().out
    auc = expected(model(1.0, seed=1), model(3.0, seed=3))["roc_auc"]
    assert "80 test images of 40 patients" in text
    row = next(line for line in text.splitlines() if line.startswith("ROC AUC  "))
    assert re.split(r"\s{2,}", row)[:5] == [
        "ROC AUC",
        f"{auc.a.value:.3f}",
        f"{auc.b.value:.3f}",
        f"{auc.change.value:+.3f}",
        f"{auc.change.low:+.3f} to {auc.change.high:+.3f}",
    ]
    last, _, ledger = text.strip().splitlines()[-3:]
    assert ledger.startswith("Ledger, test images of workspace: 2 models have been scored on the same 80 test images: ")
    assert last.startswith(f"The ROC AUC of workspace is {auc.change.value:.3f} higher than that of main; ")
    assert last.endswith("of comparisons of equally good models.")


def test_revisions_are_stated_with_commit_and_date_and_files_without(project, capsys, tmp_path):
    sha, date = run(project, "git", "log", "-1", "--format=%H %cd", "--date=format:%Y-%m-%d %H:%M", "main").split(
        " ", 1
    )
    assert commands.main(["compare", "main", "--picture", str(tmp_path / "two.png")]) == 0
    first, second, _ = capsys.readouterr().out.split("\n", 2)
    assert re.fullmatch(rf"A: main \(commit {sha[:7]} of {date.strip()}[+-]\d\d:\d\d\)", first)
    assert second == "B: workspace"
    assert commands.main(["compare", "--markdown", "main", "better"]) == 0
    assert f"- {first}\n- B: better (commit " in capsys.readouterr().out
    found = report(capsys, "main", "better")
    assert found["commits"]["a"]["sha"] == sha and found["commits"]["a"]["date"] in first
    assert found["commits"]["b"]["sha"] != sha
    a = write(tmp_path / "a.csv", model(1.0, seed=1))
    assert report(capsys, str(a), str(a))["commits"] == {"a": None, "b": None}


def test_the_picture_of_two_revisions_has_their_commits_in_its_legend(project, monkeypatch, tmp_path):
    labels = []
    monkeypatch.setattr(figures, "save", lambda figure, *_: labels.extend(figure.axes[0].get_legend().get_texts()))
    assert commands.main(["compare", "main", "better", "--picture", str(tmp_path / "two.png")]) == 0
    a, b, _ = (text.get_text() for text in labels)
    assert re.match(r"A: main\ncommit \w{7} of \d{4}-", a) and re.match(r"B: better\ncommit \w{7} of ", b)


def of_one_score(p: float, value: float, low: float, high: float) -> comparison.Comparison:
    score = scoring.Interval(0.8, 0.7, 0.9)
    change = scoring.Change(score, score, scoring.Interval(value, low, high), p)
    return comparison.Comparison("main", "new", 10, 5, 0, {"roc_auc": change}, change, {})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            (0.311, 0.021, -0.02, 0.06),
            "The ROC AUC of new is 0.021 higher than that of main, but a difference this large appears in 31 % of "
            "comparisons of equally good models.",
        ),
        (
            (0.0123, -0.05, -0.09, -0.01),
            "The ROC AUC of new is 0.050 lower than that of main; a difference this large appears in only 1.2 % of "
            "comparisons of equally good models.",
        ),
        (
            (1e-7, 0.2, 0.1, 0.3),
            "The ROC AUC of new is 0.200 higher than that of main; a difference this large appears in less than "
            "0.1 % of comparisons of equally good models.",
        ),
        (
            (1.0, 0.1, -1.0, 1.0),
            "The ROC AUC of new is 0.100 higher than that of main, but with fewer than two patients of a kind nothing "
            "can be said about other patients.",
        ),
        (
            (1.0, 0.0, -0.1, 0.1),
            "The ROC AUCs of main and new are equal on these images; on other patients the difference may lie between "
            "-0.100 and +0.100.",
        ),
    ],
)
def test_the_sentence_claims_no_more_than_the_test(given, said):
    assert comparison.sentence(of_one_score(*given)) == said


def test_markdown_is_one_table_under_the_sentence(capsys, tmp_path):
    a, b = write(tmp_path / "a.csv", model(1.0, seed=1)), write(tmp_path / "b.csv", model(3.0, seed=3))
    assert commands.main(["compare", "--markdown", str(a), str(b)]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert lines[0].startswith("**The ROC AUC of ")
    assert len(table) == 2 + len(scoring.COMPARED)
    assert {line.count("|") for line in table} == {8}


def test_no_name_becomes_markup_in_a_comment_on_a_pull_request(project, capsys):
    evil = "a|b`c`<img/src=x/onerror=alert(1)>-@everybody-www.a.example"
    run(project, "git", "branch", evil, "main")
    markdown = printed(capsys, evil, "better", "--markdown")
    shown = r"a\|b\`c\`\<img/src=x/onerror=alert(1)\>-@" + "\u200beverybody-www\u200b.a.example"
    assert markdown.count(shown) == 2, "in the sentence and in the list"
    assert not re.search(r"(?<!\\)(`|<(?!0))|@\w|www\.", markdown)
    assert {line.count("|") for line in markdown.splitlines() if line.startswith("|")} == {8}
    assert evil in printed(capsys, evil, "better")


def test_the_picture_is_the_same_bytes_each_time(tmp_path, capsys):
    a, b = write(tmp_path / "a.csv", model(1.0, seed=1)), write(tmp_path / "b.csv", model(3.0, seed=3))
    pictures = [tmp_path / "one.png", tmp_path / "two.png"]
    for picture in pictures:
        assert commands.main(["compare", str(a), str(b), "--picture", str(picture)]) == 0
    one, two = (picture.read_bytes() for picture in pictures)
    assert one.startswith(b"\x89PNG")
    assert one == two
    assert b"Software" not in one
    assert commands.main(["compare", str(a), str(b), "--picture", "roc.pdf"]) == 1


def test_wrong_usage_ends_with_code_2(capsys):
    for arguments in (["compare", "a", "b", "c"], ["compare", "--json", "--markdown"], [], ["nothing"]):
        with pytest.raises(SystemExit) as ended:
            commands.main(arguments)
        assert ended.value.code == 2


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = "import sys; from mammo import command_line, commands; command_line.parser(); print(*sys.modules)"
    loaded = run(ROOT / "stages", sys.executable, "-c", code).split()
    assert not {"numpy", "scipy", "dvc", "matplotlib", "tensorflow"} & set(loaded)


# --- Leaks and unchecked states ---


LEAKING = {"leaking": True, "sentence": "LEAKING: 9 of 24 test images show *a* patient who is also in training."}
UNCHECKED = {"leaking": False, "unchecked": True, "sentence": "CANNOT BE CHECKED: 9 of 80 images have no patient."}
CLEAN_AUDIT = {
    "patients": {"images_without_patient": 0},
    "splits": {"test": {"healthy_images": 40, "cancer_images": 40}},
}


@pytest.fixture
def verdicts(project):
    """Tags of the project: `leaky`, `unchecked`, `clean`, and `old`, whose audit counted 8 images without a patient."""
    runs = {
        "leaky": (LEAKING, CLEAN_AUDIT),
        "unchecked": (UNCHECKED, CLEAN_AUDIT),
        "clean": ({}, CLEAN_AUDIT),
        "old": ({}, {**CLEAN_AUDIT, "patients": {"images_without_patient": 8}}),
    }
    for name, (scores, audit) in runs.items():
        files.write_json(project / "metrics/test.json", scores)
        files.write_json(project / "metrics/audit.json", audit)
        commit(project, name)
        run(project, "git", "tag", name)
    return project


def printed(capsys, *arguments: str) -> str:
    commands.main(["compare", *arguments])
    return capsys.readouterr().out


def test_a_leak_or_an_unchecked_state_is_named_before_all_else_in_every_form(verdicts, capsys):
    leak = "LEAKING (A: leaky): 9 of 24 test images show *a* patient who is also in training."
    unknown = "CANNOT BE CHECKED (B: unchecked): 9 of 80 images have no patient."
    assert printed(capsys, "leaky", "clean").startswith(f"{leak}\n\nA: leaky (commit ")
    assert printed(capsys, "leaky", "unchecked").startswith(f"{leak}\n\n{unknown}\n\n")
    assert printed(capsys, "unchecked", "leaky").startswith("LEAKING (B: leaky)")
    markdown = printed(capsys, "leaky", "clean", "--markdown")
    assert markdown.startswith(
        "> **LEAKING (A: leaky): 9 of 24 test images show \\*a\\* patient who is also in training.**"
    )
    found = report(capsys, "leaky", "unchecked")
    assert next(iter(found)) == "warnings" and found["warnings"] == [leak, unknown]
    assert found["verdicts"] == {"a": LEAKING, "b": UNCHECKED}
    clean = report(capsys, "clean", "clean")
    assert (clean["warnings"], clean["verdicts"]["a"]) == ([], {"leaking": False})
    assert printed(capsys, "clean", "clean").startswith("A: clean (commit ")


def test_an_older_run_whose_audit_counted_unknown_patients_cannot_be_checked(verdicts, capsys):
    said = "CANNOT BE CHECKED (B: old): 8 of 80 images (10 %) have no patient"
    assert printed(capsys, "clean", "old").startswith(said)


def test_the_workspace_has_the_verdict_of_its_files(verdicts, capsys):
    files.write_json(verdicts / "metrics/test.json", LEAKING)
    assert printed(capsys, "clean").startswith("LEAKING (B: workspace)")


def test_the_picture_names_a_leak(verdicts, tmp_path, capsys):
    pictures = {name: tmp_path / f"{name}.png" for name in ("leaky", "clean")}
    for name, picture in pictures.items():
        assert commands.main(["compare", name, "better", "--picture", str(picture)]) == 0
    assert pictures["leaky"].read_bytes() != pictures["clean"].read_bytes()
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.suptitle", lambda _, text, **__: written.append(text))
        commands.main(["compare", "leaky", "clean", "--picture", str(tmp_path / "again.png")])
    assert written[0].startswith("LEAKING (A: leaky): 9 of 24")


def test_fail_if_worse_fails_where_only_the_new_side_leaks_or_cannot_be_checked(verdicts, capsys):
    write(verdicts / "table.csv", model(3.0, seed=3))
    fails = [("clean", "leaky"), ("clean", "unchecked"), ("unchecked", "leaky"), ("clean", "table.csv")]
    passes = [("leaky", "clean"), ("leaky", "leaky"), ("leaky", "unchecked"), ("table.csv", "clean")]
    for a, b in [*fails, *passes, ("table.csv", "table.csv")]:
        assert commands.main(["compare", a, b, "--fail-if-worse"]) == ((a, b) in fails), (a, b)
        first = capsys.readouterr().out.split(":")[0]
        assert (a, b) not in fails or first in ("LEAKING (B", "CANNOT BE CHECKED (B")


# --- Anyone's tables ---


def breasts(tmp_path: Path, number: int = 1440) -> tuple[Path, np.ndarray, np.ndarray, np.ndarray]:
    """A reader study made for this: one row per breast, and the probabilities of two models in two columns."""
    random = np.random.default_rng(8)
    labels = (random.random(number) < 0.1).astype(int)
    strength = random.normal(labels * 1.4, 1)
    chances = [1 / (1 + np.exp(-(strength + random.normal(0, noise, number)))) for noise in (0.6, 1.2)]
    table = tmp_path / "study.csv"
    columns = ("Image", "side", "label", "Reader mean", "model")
    rows = zip((f"b{i}" for i in range(number)), "LR" * (number // 2), labels, *chances, strict=True)
    files.write_csv(table, columns, rows)
    return table, labels, *chances


def test_a_reader_study_goes_through_as_it_is_and_says_what_it_cannot_tell(tmp_path, capsys):
    from MLstatkit import Delong_test

    table, labels, readers, network = breasts(tmp_path)
    a, b = f"{table}:reader mean", f"{table}:model"
    found = report(capsys, a, b)
    assert (found["images"], found["patients"]) == (1440, 1440)
    assert set(found["scores"]) == {"roc_auc", "patient_roc_auc", "average_precision"}
    assert found["scores"]["roc_auc"]["delong"]["p"] == pytest.approx(
        Delong_test(labels, readers, network)[1], rel=1e-6
    )
    text = printed(capsys, a, b)
    for said in (
        f"{a}: columns that are not used: 'side', 'model'\n",
        f"{b} has no column predicted: only scores of the ranking are computed, and no McNemar test\n",
        "no image has a patient: interval and p treat images as independent, and are too narrow if some are of one ",
        "no audit is known: whether these patients were also in training cannot be checked",
    ):
        assert said in text
    assert "accuracy" not in text and "McNemar p" not in text


def test_a_table_of_many_readers_is_compared_as_docs_say_and_names_few_of_its_columns(tmp_path):
    readers = [f"Reader{number:02}_POM" for number in range(1, 15)]
    networks = ["AI_GMIC_top5_POM", "AI_DMVCNN_POM"]
    random = np.random.default_rng(4)
    rows = []
    for case in range(60):
        for side in "LR":
            label = float(case < 20 and side == "L")
            rows.append((case, side, label, *(random.normal(label, 1, 16).clip(-1, 2) + 1) / 3, f"{case}{side}"))
    files.write_csv(tmp_path / "readers.csv", ("patient", "side", "label", *readers, *networks, "image"), rows)
    said = shell(tmp_path, READERS)
    assert said.count("120 test images of 60 patients") == len(READERS) == 2
    assert (
        "readers.csv:AI_DMVCNN_POM: columns that are not used: 'side', 'Reader01_POM', 'Reader02_POM', … (16 in all)"
        in said
    )
    assert said.count("ROC AUC per patient") == 2


def test_patients_of_one_table_serve_both_and_whole_numbers_may_be_written_as_floats(tmp_path, capsys):
    rows = sorted(model(1.0, seed=1))
    a = write(tmp_path / "a.csv", rows)
    b = tmp_path / "b.csv"
    files.write_csv(b, ("image", "label", "probability"), [(row[0], float(row[2]), row[3]) for row in rows])
    found = report(capsys, str(a), str(b))
    assert found["patients"] == 40
    assert not any("independent" in note for note in found["notes"])
    assert found["scores"]["roc_auc"]["change"]["value"] == 0
    assert "brittle.csv lacks the column other" in refusal(capsys, str(a), str(brittle(tmp_path)) + ":other")


def brittle(folder: Path) -> Path:
    (folder / "brittle.csv").write_text("image,label,probability\na,1,0.5\n")
    return folder / "brittle.csv"


# --- mammo scores ---


def test_scores_shows_every_entry_in_the_order_of_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content = {
        "roc_auc": {"value": 0.8734, "low": 0.82, "high": 0.9111},
        "sensitivity": {"value": 1},
        "leak": "87.8 % of the test images",
        "shortcut": {"roc_auc": {"value": 0.6, "low": 0.5, "high": 0.7}},
        "images": {"healthy": 208, "cancer": 128},
    }
    files.write_json(Path("metrics/test.json"), content)
    assert commands.main(["scores"]) == 0
    assert [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()] == [
        ["ROC AUC", "0.873", "95 % 0.820 to 0.911"],
        ["sensitivity", "1"],
        ["leak", "87.8 % of the test images"],
        ["shortcut: ROC AUC", "0.600", "95 % 0.500 to 0.700"],
        ["images: healthy", "208"],
        ["images: cancer", "128"],
    ]


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (0.012, 0.098, 0.0004, "p <0.001: the network sees more than brightness."),
        (-0.012, 0.122, 0.034, "p 0.034: this run does not show that the network sees more than brightness."),
        (-0.2, -0.1, 0.002, "p 0.002: the network is worse than brightness alone."),
    ],
)
def test_scores_ends_with_the_paired_test_against_brightness(low, high, p, verdict, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    score, change = {"value": 0.6, "low": 0.5, "high": 0.7}, {"value": (low + high) / 2, "low": low, "high": high}
    content = {"roc_auc": score, "shortcut_roc_auc": score, "against_shortcut": {"roc_auc_change": change, "p": p}}
    files.write_json(Path("metrics/test.json"), content)
    assert commands.main(["scores"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == (
        f"Network minus brightness baseline, paired on the same test images: {(low + high) / 2:+.3f} "
        f"({low:+.3f} to {high:+.3f}), {verdict}"
    )
    assert re.split(r"\s{2,}", lines[-3]) == ["network minus brightness baseline: p", verdict.split()[1].strip(":")]


def test_scores_without_a_finished_run_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert commands.main(["scores"]) == 1
    assert capsys.readouterr().err == (
        "mammo scores: metrics/test.json does not exist: no run has finished here; run `dvc repro`\n"
    )
    Path("metrics").mkdir()
    Path("metrics/test.json").write_text("{")
    assert commands.main(["scores"]) == 1
    assert "is not JSON" in capsys.readouterr().err


def test_a_prediction_without_a_patient_is_its_own(tmp_path):
    content = b"image,patient,label,probability,predicted\na,,1,0.5,1\n"
    (one,) = predictions.parse(content, "here")
    assert one.patient == "a"
    with pytest.raises(UserError, match="the image has no name"):
        predictions.parse(content.replace(b"\na,", b"\n,"), "here")

"""`mammo ledger` in real git repositories: what counts as a model, and how good luck makes the best of them look."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mammo import commands
from mammo.core import files, history, predictions, tried
from mammo.core.errors import UserError
from mammo.core.predictions import Prediction
from mammo.core.tried import Try
from mammo.scoring import Bootstrap, Cases, ledger, resampled_auc

import numpy as np
import pytest
from documents import block, shell
from miniature import ROOT, commit, dvc, git, signed
from scipy import stats
from sklearn.metrics import roc_auc_score
from test_compare import PIPELINE

# DVC 3.67 uses a call that its own dependency pygtrie has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")

TABLE = Path("plots/predictions.csv")
SHOWN = block("The ledger of test scores")


def model(seed: int, women: int = 40, first: int = 0, noise: float = 1.0) -> list[Prediction]:
    """Two images of each woman, half of whom have cancer; models of equal skill that err in ways of their own."""
    random = np.random.default_rng(seed)
    rows = []
    for woman in range(first, first + women):
        own = random.normal()
        for view in ("CC", "MLO"):
            chance = float(1 / (1 + np.exp(-(woman % 2 - 0.5 + own + noise * random.normal()))))
            rows.append(Prediction(f"test/{woman}_{view}.png", f"{woman}", woman % 2, chance, int(chance >= 0.5)))
    return rows


def write(folder: Path, rows: Iterable[Prediction]) -> None:
    predictions.write(folder / TABLE, rows)


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    commit(signed(folder), "before any run")
    return folder


def committed(folder: Path, rows: Iterable[Prediction], message: str = "a run") -> str:
    write(folder, rows)
    commit(folder, message)
    return git(folder, "rev-parse", "HEAD").strip()


def told(folder: Path, *arguments: str) -> str:
    """What `mammo` prints in `folder`."""
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as output:
        assert commands.main(arguments) == 0
    return output.getvalue()


def content(folder: Path) -> dict:
    return json.loads(told(folder, "ledger", "--json"))


@pytest.fixture(scope="module")
def history_of_five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five models on the same images: on main, on a branch, under a tag alone, as an experiment, in the workspace."""
    folder = repository(tmp_path_factory.mktemp("ledger") / "project")
    committed(folder, model(1))
    git(folder, "checkout", "--quiet", "-b", "topic")
    committed(folder, model(2))
    for seed, ref in ((3, "refs/tags/v3"), (4, "refs/exps/ab/cdef0123456789/wide-4")):
        git(folder, "checkout", "--quiet", "--detach", "main")
        committed(folder, model(seed))
        git(folder, "update-ref", ref, "HEAD")
    git(folder, "checkout", "--quiet", "main")
    write(folder, model(5))
    return folder


@pytest.fixture
def project(history_of_five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that the test may change, as the current folder."""
    folder = Path(shutil.copytree(history_of_five, tmp_path / "project"))
    monkeypatch.chdir(folder)
    return folder


# What counts as a model


def test_branches_tags_experiments_and_the_workspace_count(history_of_five: Path) -> None:
    found = content(history_of_five)
    assert (found["number"], found["images"], found["patients"]) == (5, 80, 40)
    aucs = [
        roc_auc_score([row.label for row in rows], [row.probability for row in rows])
        for rows in map(model, range(1, 6))
    ]
    assert sorted(each["roc_auc"] for each in found["models"]) == pytest.approx(sorted(aucs))
    assert found["best"]["roc_auc"]["value"] == pytest.approx(max(aucs))
    assert found["best"]["roc_auc"]["low"] < max(aucs) < found["best"]["roc_auc"]["high"]
    assert (found["current"]["commit"], found["current"]["roc_auc"]["value"]) == ("workspace", pytest.approx(aucs[4]))
    (experiment,) = [each for each in found["models"] if each["experiment"]]
    assert (experiment["experiment"], experiment["roc_auc"]) == ("wide-4", pytest.approx(aucs[3]))
    sha, date = git(history_of_five, "log", "-1", "--format=%H %cI", "v3").split()
    (tagged,) = [each for each in found["models"] if each["commit"] == sha]
    assert tagged["date"] == f"{date[:10]} {date[11:16]}{date[19:]}"


def test_the_same_probabilities_count_once(project: Path) -> None:
    """Committed again, in another order, at another threshold, with a further column."""
    rows = model(1)
    committed(project, rows[::-1], "another order")
    committed(project, [row._replace(predicted=0) for row in rows], "another threshold")
    lines = (project / TABLE).read_text().splitlines()
    (project / TABLE).write_text("\n".join([f"{lines[0]},remark", *(f"{line},x" for line in lines[1:])]) + "\n")
    commit(project, "another column")
    committed(project, rows, "the first again")
    assert content(project)["number"] == 4  # without the fifth, which the workspace held
    assert (
        content(project)["current"]["commit"]
        == content(project)["models"][0]["commit"]
        != git(project, "rev-parse", "HEAD")
    )


def test_models_on_other_images_are_not_counted_with_these(project: Path) -> None:
    committed(project, model(5), "the workspace's")
    committed(project, model(6, first=39), "a woman in common")
    committed(project, model(7, first=100), "nobody in common")
    committed(project, [row._replace(label=1 - row.label) for row in model(1)], "other labels")
    committed(project, model(8), "the same images again")
    found = content(project)
    assert (found["number"], found["other_test_images"]) == (6, {"models": 3, "sets": 3, "sharing": 2})
    assert "On other test images: 3 models on 3 sets, of which 2 share images with these." in told(project, "ledger")


def test_the_order_of_commits_changes_nothing(tmp_path: Path) -> None:
    found = []
    for name, seeds in (("there", (1, 2, 3)), ("back", (3, 2, 1))):
        folder = repository(tmp_path / name)
        for seed in seeds:
            committed(folder, model(seed))
        (folder / TABLE).unlink()  # neither is the workspace's
        found.append(content(folder))
    there, back = found
    assert (there["number"], there["luck"]) == (back["number"], back["luck"]) == (3, pytest.approx(back["luck"]))
    assert there["best"]["roc_auc"] == back["best"]["roc_auc"]
    assert sorted(each["roc_auc"] for each in there["models"]) == sorted(each["roc_auc"] for each in back["models"])
    assert there["current"]["roc_auc"]["value"] == there["models"][-1]["roc_auc"]  # HEAD's


def test_two_runs_print_the_same_bytes(history_of_five: Path) -> None:
    code = "import sys; from mammo import commands; sys.exit(commands.main(['ledger', '--json']))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "stages"), "PYTHONHASHSEED": "7"}
    done = subprocess.run((sys.executable, "-c", code), cwd=history_of_five, env=environment, capture_output=True)
    assert done.stdout.decode() == told(history_of_five, "ledger", "--json")


def test_a_table_that_cannot_be_read_is_counted_apart(project: Path) -> None:
    for text in ("version https://git-lfs.github.com/spec/v1\n", "image,label\na.png,1\n"):
        (project / TABLE).write_text(text)
        commit(project, "no predictions")
    write(project, model(5))
    found = content(project)
    assert (found["number"], found["unreadable"]) == (5, 2)
    assert "2 versions of plots/predictions.csv could not be read; not counted." in told(project, "ledger")


def test_a_shallow_clone_says_that_there_may_be_more(project: Path, tmp_path: Path) -> None:
    committed(project, model(6))
    git(project, "clone", "--quiet", "--depth", "1", f"file://{project}", str(tmp_path / "shallow"))
    found = content(tmp_path / "shallow")
    assert (found["number"], found["shallow"], found["luck"]) == (1, True, 0)
    text = told(tmp_path / "shallow", "ledger")
    assert "so there may be more: `git fetch --unshallow` brings the rest" in text.splitlines()[-1]
    git(project, "clone", "--quiet", f"file://{project}", str(tmp_path / "whole"))
    assert not content(tmp_path / "whole")["shallow"] and "shallow" not in told(tmp_path / "whole", "ledger")


def test_a_project_in_a_folder_of_the_repository_is_read(tmp_path: Path) -> None:
    top = repository(tmp_path / "top")
    (top / "inner").mkdir()
    (top / "dvc.yaml").rename(top / "inner/dvc.yaml")
    for seed in (1, 2):
        committed(top / "inner", model(seed))
    committed(top, model(3), "not the project's")
    assert content(top / "inner")["number"] == 2


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    assert commands.main(["ledger"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_what_is_missing_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no dvc.yaml here" in refused(capsys)
    (tmp_path / "dvc.yaml").touch()
    assert "this folder is in no git repository" in refused(capsys)
    monkeypatch.chdir(repository(tmp_path / "empty"))
    assert "no commit, experiment or workspace here holds a readable plots/predictions.csv" in refused(capsys)
    write(Path(), [row for row in model(1) if row.label])
    assert "holds no healthy image" in refused(capsys)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git could not be started" in refused(capsys)


def test_this_repository_holds_as_many_as_a_count_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    if not (ROOT / ".git").exists() or git(ROOT, "rev-parse", "--is-shallow-repository").strip() == "true":
        pytest.skip("not in a clone with the whole history")
    seen: dict[str, set[str]] = {}
    commits = git(ROOT, "rev-list", "--all").split()
    tables = {git(ROOT, "ls-tree", one, "--", str(TABLE)).strip() for one in commits} - {""}
    for text in [git(ROOT, "cat-file", "blob", table.split()[2]) for table in tables] + [(ROOT / TABLE).read_text()]:
        rows = sorted(line.split(",") for line in text.splitlines()[1:])
        images = str([(row[0], row[2]) for row in rows])
        seen.setdefault(images, set()).add(str([row[3] for row in rows]))
        if text == (ROOT / TABLE).read_text():
            here = images
    found = content(ROOT)
    assert found["number"] == len(seen[here])
    assert found["other_test_images"]["models"] == sum(map(len, seen.values())) - len(seen[here]) >= 5
    assert found["other_test_images"]["sets"] == len(seen) - 1


# DVC


@pytest.fixture(scope="module")
def with_dvc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by DVC and an experiment from it, which has been applied to the workspace."""
    folder = tmp_path_factory.mktemp("dvc") / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    dvc(folder, "init", "--quiet")
    (folder / "dvc.yaml").write_text(PIPELINE.replace("deps: [model.csv]", "deps: [model.csv]\n    params: [seed]"))
    (folder / "params.yaml").write_text("seed: 1\n")
    predictions.write(folder / "model.csv", model(1))
    dvc(signed(folder), "repro", "--quiet")
    commit(folder, "a run")
    predictions.write(folder / "model.csv", model(2))
    dvc(folder, "exp", "run", "--name", "other", "-S", "seed=2")
    return folder


def test_an_experiment_of_dvc_is_named_and_counts_once_in_the_workspace_too(with_dvc: Path) -> None:
    found = content(with_dvc)
    assert (found["number"], found["current"]["experiment"]) == (2, "other")
    text = told(with_dvc, "ledger")
    sha = git(with_dvc, "for-each-ref", "--format=%(objectname)", "refs/exps/*/*/other")[:7]
    assert re.search(rf"^current +{sha} \(other\) +\d{{4}}-", text, re.MULTILINE)


def test_predictions_in_dvcs_cache_count_where_they_are_there(tmp_path: Path) -> None:
    """`cache: true`, with which patients stay out of git."""
    folder = repository(tmp_path / "project")
    dvc(folder, "init", "--quiet")
    (folder / "dvc.yaml").write_text(PIPELINE.replace("cache: false", "cache: true"))
    for seed in (1, 2, 3):
        predictions.write(folder / "model.csv", model(seed))
        dvc(folder, "repro", "--quiet")
        commit(folder, "a run")
    (folder / "note").touch()
    commit(folder, "the same run")
    found = content(folder)
    assert (found["number"], found["unreadable"], found["current"]["commit"]) == (3, 0, found["models"][2]["commit"])
    shutil.rmtree(folder / ".dvc/cache")
    found = content(folder)
    assert (found["number"], found["unreadable"]) == (1, 3)  # the workspace has its own


# Luck


def resampled(tables: Sequence[Sequence[Prediction]], bootstrap: Bootstrap) -> tuple[list[np.ndarray], int]:
    """Resampled AUCs of the models, and the number of patients that they depend on."""
    cases = []
    for rows in tables:
        columns = zip(*((row.label, row.probability, row.patient) for row in rows), strict=True)
        cases.append(Cases(*columns))
    return [resampled_auc(one, bootstrap).resamples for one in cases], cases[0].support()


def test_luck_is_the_mean_of_the_largest_deviation_on_the_same_resamples() -> None:
    tables = [sorted(model(seed)) for seed in (1, 2, 3)]
    bootstrap, (aucs, support) = Bootstrap(7, 100), resampled(tables, Bootstrap(7, 100))
    patients = sorted({row.patient for row in tables[0]})
    cancer = np.array([int(patient) % 2 == 1 for patient in patients])
    drawn = np.concatenate(list(bootstrap.counts(cancer, 80)))
    by_hand = np.empty((3, len(drawn)))
    for which, rows in enumerate(tables):
        for number, counts in enumerate(drawn):
            weights = dict(zip(patients, counts, strict=True))
            again = [row for row in rows for _ in range(int(weights[row.patient]))]
            by_hand[which, number] = roc_auc_score([row.label for row in again], [row.probability for row in again])
    deviations = by_hand - by_hand.mean(axis=1)[:, None]
    assert support == 20
    assert ledger.luck(aucs, support) == pytest.approx(deviations.max(axis=0).mean() * (20 / 19) ** 0.5)


def test_models_that_order_alike_leave_nothing_to_luck_and_more_models_leave_more() -> None:
    rows = model(1)
    squared = [row._replace(probability=row.probability**2) for row in rows]
    alike, support = resampled([rows, squared], Bootstrap(1, 400))
    assert ledger.luck(alike, support) == pytest.approx(0, abs=1e-12)
    aucs, support = resampled([model(seed) for seed in range(10)], Bootstrap(1, 400))
    grown = [ledger.luck(aucs[:number], support) for number in (1, 2, 5, 10)]
    assert grown == sorted(grown) and grown[0] == 0 and grown[1] > 0.01


def test_with_fewer_than_two_patients_of_a_kind_luck_is_not_estimated(tmp_path: Path) -> None:
    folder = repository(tmp_path / "project")
    for seed in (1, 2):
        committed(folder, [row for row in model(seed) if row.label == 0 or row.patient == "1"])
    assert content(folder)["luck"] is None
    assert "with fewer than two patients of a kind it cannot be said" in told(folder, "ledger").splitlines()[-1]


def simulated(images: int, shared: float) -> tuple[list[float], list[float]]:
    """What picking the best of 2, 5 and 20 equal models gains, and what the ledger says of it.

    The facts of commit 7251e32: 151 patients, 76 with cancer, about as many images, true AUC 0.625. A share `shared` of
    the variance is the same for all models.
    """
    random = np.random.default_rng(images)
    patient = np.repeat(np.arange(151), images)
    labels = (patient < 76).astype(int)
    within = 0.4
    distance = stats.norm.ppf(0.625) * (2 * (1 + within**2)) ** 0.5

    def noise(models: int) -> np.ndarray:
        return within * random.normal(size=(models, 151))[:, patient] + random.normal(size=(models, len(labels)))

    def scores() -> np.ndarray:
        return distance * labels + shared**0.5 * noise(1) + (1 - shared) ** 0.5 * noise(20)

    gained, said = [], []
    positive = labels.sum()
    for _ in range(1500):
        ranks = stats.rankdata(scores(), axis=1)
        wins = ranks[:, labels == 1].sum(axis=1) - positive * (positive + 1) / 2
        aucs = wins / (positive * (len(labels) - positive))
        gained.append([aucs[:number].max() - aucs.mean() for number in (2, 5, 20)])
    for _ in range(8):
        cases = [Cases(labels, stats.norm.cdf(one), patient) for one in scores()]
        drawn = [resampled_auc(one, Bootstrap(1)).resamples for one in cases]
        said.append([ledger.luck(drawn[:number], cases[0].support()) for number in (2, 5, 20)])
    return np.mean(gained, axis=0).tolist(), np.mean(said, axis=0).tolist()


@pytest.mark.proof
@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_the_ledgers_luck_is_what_picking_the_best_gains(shared: float) -> None:
    """The gain is measured from the mean of all 20, whose expectation is the true AUC."""
    gained, said = simulated(3, shared)
    print(f"shared {shared}: gained {np.round(gained, 4)}, the ledger says {np.round(said, 4)}")
    assert said == pytest.approx(gained, rel=0.1)
    if not shared:  # measured before: 0.015, 0.032 and 0.054
        assert gained == pytest.approx([0.015, 0.032, 0.054], abs=0.004)


# Quoted


def test_compare_quotes_the_ledger_in_every_form(with_dvc: Path) -> None:
    found = content(with_dvc)
    expected = f"Ledger, test images of other: {found['sentence']}"
    assert found["sentence"].startswith("2 models have been scored on the same 80 test images: the best ROC AUC is ")
    for form in ([], ["--markdown"]):
        assert told(with_dvc, "compare", "main", "other", *form).splitlines()[-1] == expected
    quoted = json.loads(told(with_dvc, "compare", "main", "other", "--json"))["ledger"]
    assert quoted == {
        "models": 2,
        "luck": found["luck"],
        "shallow": False,
        "tries": 0,
        "sentence": found["sentence"],
    }


def test_compare_quotes_nothing_for_tables_that_the_history_does_not_know(project: Path, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    for seed, name in enumerate(names):
        predictions.write(Path(name), model(seed, first=200))
    for folder in (project, tmp_path):  # the second is no repository
        assert "Ledger" not in told(folder, "compare", *names)
        assert json.loads(told(folder, "compare", *names, "--json"))["ledger"] is None


def test_compare_goes_on_where_the_history_cannot_be_read(project: Path, tmp_path: Path) -> None:
    (project / "cv").mkdir()
    (project / "cv/tried.csv").write_text("variant\n")
    text = told(project, "compare", str(TABLE), str(TABLE))
    assert "not read: cv/tried.csv lacks the column images" in text.splitlines()[-1]


def test_report_quotes_the_ledger_in_the_terminal_and_on_the_page_of_a_revision(with_dvc: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(with_dvc, tmp_path / "project", symlinks=True))
    stage = "  report:\n    cmd: mkdir -p report && cp page report/report.html\n    deps: [page]\n"
    (folder / "page").write_text("<p>notice</p><header></header>")
    with (folder / "dvc.yaml").open("a") as file:
        file.write(f"{stage}    outs: [report/report.html]\n")
    dvc(folder, "repro", "--quiet")
    commit(folder, "with a report")
    expected = f"Ledger: {content(folder)['sentence']}"
    assert told(folder, "report").splitlines()[1:] == ["It is up to date.", expected]
    assert told(folder, "report", "--revision", "main").splitlines()[1:] == [expected]
    assert f'<p class="notice research">{expected}</p>' in (folder / "report-main.html").read_text()
    assert (folder / "report/report.html").read_text() == (folder / "page").read_text()


# Tries of cross-validation


def a_try(variant: str, said: str, auc: float = 0.6, note: str = "") -> Try:
    return Try("0123", variant, "abcd", said, auc, note)


def test_a_try_is_added_once_and_its_note_stays(tmp_path: Path) -> None:
    first, second = a_try("one", "11"), a_try("two", "22", 0.7)
    path, other = tmp_path / "tried.csv", tmp_path / "other.csv"
    tried.add(path, [first._replace(note="by hand")])
    tried.add(path, [second, first])
    tried.add(other, [second])
    tried.add(other, [first._replace(note="by hand")])
    assert tried.read(path) == [first._replace(note="by hand"), second]
    assert path.read_bytes() == other.read_bytes()
    before = path.stat().st_mtime_ns
    tried.add(path, [first, second])
    assert path.stat().st_mtime_ns == before


def test_a_merge_of_two_branches_keeps_the_tries_of_both_and_counts_each_once(project: Path) -> None:
    shutil.copy(ROOT / ".gitattributes", project)
    (project / "cv").mkdir()
    tried.add(tried.TRIED, [a_try("start", "00")])
    commit(project, "tries")
    git(project, "branch", "other")
    tried.add(tried.TRIED, [a_try("both", "11"), a_try("here", "22", 0.65)])
    commit(project, "here")
    git(project, "checkout", "--quiet", "other")
    tried.add(tried.TRIED, [a_try("both", "11"), a_try("there", "33")])
    commit(project, "there")
    git(project, "merge", "--quiet", "--no-edit", "main")
    assert {one.variant for one in tried.read(tried.TRIED)} == {"start", "both", "here", "there"}
    assert content(project)["cross_validation"] == [{"images": "0123", "tries": 4, "best": "here", "roc_auc": 0.65}]
    line = "Cross-validation (cv/tried.csv): 4 tries on images 0123, the best here with ROC AUC 0.650."
    assert line in told(project, "ledger").splitlines()


def test_a_malformed_table_of_tries_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "tried.csv"
    tried.add(path, [a_try("one", "11")])
    path.write_text(path.read_text().replace("0.6", "good"))
    with pytest.raises(UserError, match=r"tried.csv, line 2: roc_auc is 'good'; allowed is a number from 0 to 1"):
        tried.read(path)
    assert tried.read(tmp_path / "none.csv") == []


def test_every_committed_row_of_cross_validation_is_in_the_table() -> None:
    known = {(one.images, one.predictions): one for one in tried.read(ROOT / tried.TRIED)}
    rows = files.read_json(ROOT / "cv/metrics/cv.json")["rows"]
    for name in set(rows) - {"shortcut"}:
        table = predictions.read(ROOT / f"cv/plots/{name}.csv")
        one = known[predictions.images_digest(table), predictions.probabilities_digest(table)]
        assert (one.variant, one.roc_auc) == (name, rows[name]["roc_auc"]["value"])
    images = predictions.images_digest(predictions.read(ROOT / "cv/plots/shortcut.csv"))
    number = sum(tried_on == images for tried_on, _ in known)
    quoted = told(ROOT, "compare", "cv/plots/shortcut.csv", "cv/plots/ensemble.csv").splitlines()[-1]
    assert f"Cross-validation has tried {number} models on these images (cv/tried.csv)." in quoted


# The page


def test_the_page_of_the_ledger_shows_its_commands(history_of_five: Path) -> None:
    output = shell(history_of_five, SHOWN)
    assert output.startswith("5 distinct models on 80 test images of 40 patients\n")
    assert '"number": 5' in output


def test_versions_are_told_with_the_first_commit_that_holds_them(project: Path) -> None:
    found = list(history.versions(TABLE))
    assert len(found) == 4
    assert history.of_head(TABLE) == found[0].content
    assert history.of_head(Path("missing.csv")) is None

"""The arguments of the command `mammo`."""

import argparse
from pathlib import Path
from typing import Any, get_args

from mammo.core.rules import ThresholdRule
from mammo.core.stage import HEADLINE

RULES = get_args(ThresholdRule)
LOOKS = Path("metrics/explanation.json")
REPORT = Path("report/report.html")
TABLE_HELP = (
    "a revision, or anyone's table FILE.csv with image, label, probability and, if known, patient, breast, exam and "
    "predicted; "
    "FILE.csv:COLUMN takes the probabilities from that column"
)
EXIT_CODES = "exit codes: 0 success; 1 error, or worse with --fail-if-worse; 2 wrong usage"
UNREADABLE_CODES = "exit codes: 0 success; 1 error; 2 wrong usage; 3 some files or folders unreadable, the others done"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mammo", description="Scores, comparisons and predictions of this project.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        _add_scores,
        _add_report,
        _add_plots,
        _add_phantoms,
        _add_canonical,
        _add_compare,
        _add_ledger,
        _add_predict,
        _add_explain,
        _add_serve,
        _add_validate,
        _add_distribute,
        _add_export,
        _add_set,
        _add_recipe,
    ):
        add(commands)
    return parser


def _add_scores(commands: Any) -> None:
    command = commands.add_parser(
        "scores", help="the test scores of the last run, as a table", description=f"Show {HEADLINE} as a table."
    )
    command.set_defaults(run="scores")


def _add_report(commands: Any) -> None:
    command = commands.add_parser(
        "report",
        help="the report of the workspace or of a revision",
        description=f"Without REV: print the path of the workspace's report ({REPORT}) and whether it is up to date. "
        "With REV: write the report of that revision, with its commit and date.",
    )
    command.add_argument("--revision", metavar="REV", help="a branch, tag or commit")
    command.add_argument("--out", type=Path, metavar="FILE.html", help="with REV; default: report-REV.html")
    command.set_defaults(run="report", misused=command.error)


def _add_plots(commands: Any) -> None:
    command = commands.add_parser(
        "plots",
        help="the page of plots of the workspace or of revisions",
        description="Write the page of `dvc plots show` or, with REV, of `dvc plots diff`, with the commit and date of "
        "each revision. One REV is compared with the workspace.",
    )
    command.add_argument("revisions", nargs="*", metavar="REV", help="a branch, tag or commit")
    command.add_argument("--out", type=Path, default=Path("dvc_plots"), metavar="FOLDER", help="default: %(default)s")
    command.set_defaults(run="plots")


def _add_phantoms(commands: Any) -> None:
    command = commands.add_parser(
        "phantoms",
        help="a contact sheet of the synthetic set",
        description="Draw examples of the phantoms that params.yaml describes.",
    )
    command.add_argument("picture", type=Path, metavar="FILE.png")
    command.set_defaults(run="phantoms")


def _add_canonical(commands: Any) -> None:
    command = commands.add_parser(
        "canonical",
        help="a contact sheet of images before and after they are made canonical",
        description="Draw the 40 images that are hardest for preprocess.canonical, before and after all of its steps.",
    )
    command.add_argument("picture", type=Path, metavar="FILE.png")
    command.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder (at any depth) or a pattern")
    command.set_defaults(run="canonical")


def _add_compare(commands: Any) -> None:
    command = commands.add_parser(
        "compare",
        help="a paired comparison of two models",
        description="Compare the test predictions of two models image by image, with patient-clustered intervals. "
        "Without arguments: the last commit (A) against the workspace (B).",
        epilog=EXIT_CODES,
    )
    command.add_argument("a", nargs="?", default="HEAD", metavar="A", help=TABLE_HELP)
    command.add_argument("b", nargs="?", default="workspace", metavar="B", help="the same; default: the workspace")
    command.add_argument("--common", action="store_true", help="if the test sets differ, compare the shared images")
    command.add_argument(
        "--unit", choices=("image", "breast", "exam"), default="image", help="what is one case; default: %(default)s"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown, for a pull request")
    command.add_argument("--picture", type=Path, metavar="FILE.png", help="draw both ROC curves with their bands")
    command.add_argument(
        "--fail-if-worse",
        action="store_true",
        help="exit code 1 if B's ROC AUC is significantly lower (p < 0.05), or if B leaks or cannot be checked "
        "while A does not",
    )
    command.set_defaults(run="compare")


def _add_ledger(commands: Any) -> None:
    command = commands.add_parser(
        "ledger",
        help="how many models were scored on the same test images, and what luck that allows",
        description="Read all branches, tags and experiments: how many distinct models were scored on the test images "
        "of the workspace, the best of them, and how good luck alone would make the best of so many look.",
    )
    command.add_argument("--json", action="store_true", help="print JSON, with all the models")
    command.set_defaults(run="ledger")


def _add_predict(commands: Any) -> None:
    command = commands.add_parser(
        "predict",
        help="the probability of cancer for new images or DICOM files",
        description="Score images (JPEG, PNG, PGM, TIFF) and DICOM files with a trained model. For research only.",
        epilog=UNREADABLE_CODES,
    )
    command.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder (at any depth) or a pattern")
    _model_options(command)
    _threshold_option(command)
    command.add_argument("--csv", type=Path, metavar="FILE", help="write the predictions to a file")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument(
        "--heatmaps", type=Path, metavar="FOLDER", help="write a heat map of each image to this folder"
    )
    command.set_defaults(run="predict")


def _add_explain(commands: Any) -> None:
    command = commands.add_parser(
        "explain",
        help="heat maps, and how often they peak in lesions",
        description="With PATH: the same as `mammo predict PATH --heatmaps FOLDER`. "
        f"Without: show {LOOKS}, the scores of the last run's heat maps, as a table.",
        epilog=UNREADABLE_CODES,
    )
    command.add_argument("paths", nargs="*", metavar="PATH", help="a file, a folder (at any depth) or a pattern")
    command.add_argument("--out", type=Path, dest="heatmaps", metavar="FOLDER", help="new folder for the heat maps")
    _model_options(command)
    command.set_defaults(run="explain", misused=command.error, threshold=RULES[0], csv=None, json=False)


def _add_serve(commands: Any) -> None:
    command = commands.add_parser(
        "serve",
        help="a page to drop scans on, and the same as JSON",
        description="Serve a page that scores images and DICOM files with a trained model, and the endpoint /predict, "
        "which answers as `mammo predict --json` does. Nothing is kept. For research only.",
    )
    command.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="default: %(default)s, which this machine alone reaches"
    )
    command.add_argument("--port", type=int, metavar="NUMBER", help="default: the first that is free from 8470")
    _model_options(command)
    _threshold_option(command)
    command.set_defaults(run="serve")


def _add_validate(commands: Any) -> None:
    command = commands.add_parser(
        "validate",
        help="a frozen model on another set",
        description="Score a frozen model, with its locked thresholds and calibration, on another set: a folder with "
        "labels.csv or the folders 0 (healthy) and 1 (cancer), or a table of predictions that the model made elsewhere "
        "(image, label, probability and, if known, patient).",
    )
    command.add_argument(
        "source", nargs="+", metavar="[NAME] FOLDER|PREDICTIONS.csv", help="NAME: one that `mammo set list` shows"
    )
    command.add_argument("--revision", metavar="REV", help="the model of a branch, tag or commit; default: data/model")
    command.add_argument(
        "--out",
        type=Path,
        default=Path("validation"),
        metavar="FOLDER",
        help="for page and tables; default: %(default)s",
    )
    command.add_argument(
        "--despite-phantoms", action="store_true", help="use the model even if it was trained only on synthetic images"
    )
    command.set_defaults(run="validate", misused=command.error)


def _add_distribute(commands: Any) -> None:
    command = commands.add_parser(
        "distribute",
        help="cross-validation's folds, or queued experiments, side by side",
        description="In cv/: run the folds side by side, with the results and the dvc.lock of `dvc repro`. In the "
        "project's folder: run the queued experiments by `dvc exp run --run-all`. Where the environment variable "
        "DASK_SCHEDULER_ADDRESS names a scheduler, its workers train.",
    )
    command.add_argument(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help="how many at a time; default: as many as there are workers, or as the cores allow",
    )
    command.set_defaults(run="distribute")


def _add_export(commands: Any) -> None:
    command = commands.add_parser(
        "export",
        help="a model as a file for other programs",
        description="Write a trained model, with scaling inside, as a file for another runtime, and metadata.json, "
        "which says what goes in and comes out; compare its probabilities with those of the file that was scored.",
    )
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--format", choices=("onnx", "litert", "savedmodel"), help="format of the file")
    what.add_argument("--check", type=Path, metavar="FOLDER", help="check an export against its metadata.json")
    command.add_argument("out", nargs="?", type=Path, metavar="OUT", help="new folder; default: exported/FORMAT")
    _model_options(command)
    command.set_defaults(run="export", misused=command.error)


def _add_set(commands: Any) -> None:
    command = commands.add_parser(
        "set",
        help="described data sets, and what a folder holds before anything runs",
        description="List the data sets that data/sets describes, or read the tables and headers of one in a folder: "
        "rows as understood, numbers of images, patients, breasts, labels and groups, and all that does not fit.",
        epilog="exit codes: 0 success; 1 error, or something does not fit; 2 wrong usage",
    )
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="the described data sets").set_defaults(run="set_list")
    check = actions.add_parser("check", help="read the tables and headers of a set")
    check.add_argument("name", metavar="NAME", help="one that `mammo set list` shows")
    check.add_argument("folder", type=Path, metavar="PATH", help="the folder that holds the tables of the set")
    check.set_defaults(run="set_check")


def _add_recipe(commands: Any) -> None:
    command = commands.add_parser(
        "recipe",
        help="named settings that were cross-validated, and how to train with them",
        description="List the recipes, show how they scored, or write the settings of one into params.yaml.",
    )
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="the recipes, with score, time and reason").set_defaults(run="recipe_list")
    actions.add_parser(
        "table", help="the table of cross-validation in Markdown, corrected for the number of tries"
    ).set_defaults(run="recipe_table")
    apply = actions.add_parser(
        "apply",
        help="write the settings of a recipe into params.yaml",
        description="Write the settings of a recipe into params.yaml, and take back those of another one; comments and "
        "all other settings stay. `dvc repro` then trains it.",
    )
    apply.add_argument(
        "name", metavar="NAME", help="one that `mammo recipe list` shows; best: the shipped one; default: undo"
    )
    apply.set_defaults(run="recipe_apply")


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, default=Path("data/model"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument(
        "--despite-phantoms", action="store_true", help="use the model even if it was trained only on synthetic images"
    )


def _threshold_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold",
        default=RULES[0],
        metavar="RULE",
        help=f"rule of the threshold, chosen on validation: {', '.join(RULES)}; default: %(default)s",
    )

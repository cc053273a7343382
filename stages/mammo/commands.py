"""The command `mammo`. Each subcommand imports its modules when it runs, so that --help is fast."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from mammo.command_line import LOOKS, REPORT, parser
from mammo.core.errors import UserError, lack_of_memory
from mammo.core.stage import HEADLINE
from mammo.core.wording import counted, markdown, shown

SCORES = Path("plots/scores.csv")  # contains the description of the data
UNITS = Path("metrics/units.json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mammo` with `argv` (default: the command line) and return the exit code.

    0: success; 1: error, with a message on standard error, or worse with `--fail-if-worse`; 2: wrong usage; 3: some
    files or folders of `predict` are unreadable.
    """
    options = parser().parse_args(argv)
    try:
        return RUN[options.run](options)
    except UserError as error:
        print(f"mammo {options.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the pipe, e.g. `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"mammo {options.command}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if line := lack_of_memory(error):
            print(f"mammo {options.command}: {line}", file=sys.stderr)
            return 1
        raise


def _compare(options: argparse.Namespace) -> int:
    from mammo.scoring import comparison, ledger

    if options.picture and options.picture.suffix != ".png":
        raise UserError(f"--picture {options.picture}: the name must end in .png")
    a, b = comparison.read(options.a), comparison.read(options.b)
    paired = comparison.pair(a, b, options.common, options.unit)
    compared = comparison.compare(paired)
    if options.picture:
        _draw(paired, compared, options.picture)
    quoted = ledger.quote(list(b.predictions.values()))
    if options.json:
        content = comparison.as_json(compared) | {"ledger": quoted}
        print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(comparison.as_markdown(compared) if options.markdown else comparison.as_text(compared))
        if quoted:
            line = f"Ledger, test images of {b.name}: {quoted['sentence']}"
            print(f"\n{markdown(line) if options.markdown else line}")
    return 1 if options.fail_if_worse and comparison.worse(compared) else 0


def _ledger(options: argparse.Namespace) -> int:
    from mammo.scoring import comparison, ledger

    if not Path("dvc.yaml").is_file():
        raise UserError("there is no dvc.yaml here: run from the top folder of the project")
    found = ledger.read()
    if found is None:
        raise UserError(f"no commit, experiment or workspace here holds a readable {comparison.PREDICTIONS}")
    if options.json:
        print(json.dumps(ledger.as_json(found), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(ledger.as_text(found))
    return 0


def _draw(paired: Any, compared: Any, picture: Path) -> None:
    from mammo.reporting import figures
    from mammo.scoring import Bootstrap, comparison, roc_curve

    import numpy as np

    judged = compared.changes[comparison.JUDGED]
    curves = [np.array(roc_curve(cases, Bootstrap(comparison.SEED)).rows) for cases in paired.cases]
    aucs = judged.a, judged.b
    figures.two_rocs(picture, curves, comparison.titles(compared, "\n"), aucs, comparison.warnings(compared))


def _predict(options: argparse.Namespace) -> int:
    # With one thread NumPy loads in half the time; nothing here multiplies large matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from mammo.imaging import decoder

    started = decoder.start_early(options.paths)  # loads its libraries while this process loads its own
    try:
        return _predicted(options, started)
    finally:
        if started is not None:
            started.close()


def _predicted(options: argparse.Namespace, started: Any) -> int:
    from mammo.imaging.readers import Readers
    from mammo.predicting import answers, request, scans
    from mammo.predicting.predict import Predictor

    info = request.read_model(options.model, options.threshold, options.despite_phantoms)
    found = scans.find(options.paths)
    if options.heatmaps:
        request.new_folder(options.heatmaps)
    readers = Readers(started=started)
    readers.start_for(found.paths)
    predictor = Predictor(options.model, info, info.thresholds[options.threshold], options.heatmaps)
    predicted = chain(map(answers.of_missed, found.missed), predictor.predict(found.paths, readers))
    about = request.about(info, options.threshold)
    if info.audit.sentence:
        answers.warn(info.audit.sentence)
    if found.others:
        answers.warn(f"{counted(len(found.others), 'file')} skipped: no image suffix")
    for again, before in found.repeated:
        answers.warn(f"{shown(again)} is the same folder as {shown(before)}; its files are read once")
    if options.csv:
        answers.write_csv(predicted, options.csv, about)
    elif options.json:
        answers.print_json(predicted, {"notice": answers.NOTICE, "model": about})
    else:
        names = [*(miss.path for miss in found.missed), *found.paths]
        answers.print_table(predicted, about, names, bool(options.heatmaps))
    return 3 if predictor.unreadable or found.missed else 0


def _explain(options: argparse.Namespace) -> int:
    if bool(options.paths) != bool(options.heatmaps):
        options.misused("PATH and --out FOLDER go together")
    if options.paths:
        return _predict(options)
    _print_last_run(LOOKS)
    return 0


def _serve(options: argparse.Namespace) -> int:
    from mammo.predicting import request

    info = request.read_model(options.model, options.threshold, options.despite_phantoms)
    for package in ("fastapi", "uvicorn", "python_multipart"):
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            raise UserError(
                f"the package {error.name} is missing: `pip install -e '.[serve]'` in the project's folder installs it"
            ) from error
    from mammo.predicting import server

    server.run(options.model, info, options.threshold, options.host, options.port)
    return 0


def _validate(options: argparse.Namespace) -> int:
    from mammo.core import set_description, settings
    from mammo.predicting import validation

    if not Path("dvc.yaml").is_file():
        raise UserError("there is no dvc.yaml here: run from the top folder of the project")
    *name, source = options.source
    if len(name) > 1 or (name and name[0] not in set_description.names()):
        known = ", ".join(set_description.names())
        options.misused(f"{' '.join(options.source)!r} is not [NAME] FOLDER; NAME is one of {known}")
    print(
        validation.run(
            Path(source), "".join(name), options.out, options.revision, options.despite_phantoms, settings.read()
        )
    )
    return 0


def _scores(options: argparse.Namespace) -> int:
    from mammo.core import files

    if SCORES.is_file() and HEADLINE.is_file():
        print(files.read_csv(SCORES, ("data",))[0]["data"], end="\n\n")
    _print_last_run(HEADLINE)
    if change := files.read_json(HEADLINE).get("against_shortcut"):
        from mammo.scoring import Interval, against_shortcut

        print(f"\n{against_shortcut(Interval(**change['roc_auc_change']), change['p'])}")
    if UNITS.is_file():
        from mammo.scoring import units

        for remark in units.remarks(files.read_json(UNITS).get("per_patient", {})):
            print(f"\n{remark}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from mammo.core import files, revisions
    from mammo.scoring import ledger

    if not Path("dvc.yaml").is_file():
        raise UserError("there is no dvc.yaml here: run from the top folder of the project")
    if options.revision is None:
        if options.out:
            options.misused("--out goes with --revision")
        if not REPORT.is_file():
            raise UserError(f"{REPORT} does not exist: run `dvc repro`, or `dvc pull`")
        print(REPORT, flush=True)
        revisions.refuse_if_out_of_date(last_stage="report")
        print("It is up to date.")
        if quoted := ledger.quote():
            print(f"Ledger: {quoted['sentence']}")
        return 0
    from mammo.reporting import pages

    out = options.out or Path(f"report-{options.revision.replace('/', '-')}.html")
    if out.suffix != ".html" or revisions.is_output(out):
        raise UserError(f"--out {out}: the name must end in .html and not be an output of the pipeline")
    commit = revisions.commit_of(options.revision)
    page = revisions.read(REPORT, options.revision).decode()
    quoted = ledger.quote_revision(options.revision)
    line = f"Ledger: {quoted['sentence']}" if quoted else ""
    files.write_text(out, pages.of_revision(page, options.revision, commit.sha, commit.date, line))
    print(f"{out}: the report of {options.revision}, {commit.in_words}")
    if line:
        print(line)
    return 0


def _plots(options: argparse.Namespace) -> int:
    from mammo.core import revisions
    from mammo.reporting import plots_page

    if not Path("dvc.yaml").is_file():
        raise UserError("there is no dvc.yaml here: run from the top folder of the project")
    if revisions.is_output(options.out):
        raise UserError(f"--out {options.out}: this is an output of the pipeline; name another folder")
    print(plots_page.write(options.revisions, options.out))
    return 0


def _export(options: argparse.Namespace) -> int:
    from mammo.predicting import exporting, request

    if options.check:
        if options.out:
            options.misused("OUT goes with --format")
        print(exporting.check(options.check))
        return 0
    info = request.read_model(options.model, "half", options.despite_phantoms)
    out = options.out or Path("exported", options.format)
    print(exporting.write(options.format, out, options.model, info))
    return 0


def _print_last_run(path: Path) -> None:
    """Print a metrics file of the last run as a table.

    Raises:
        UserError: the file does not exist, is empty, or is out of date.

    """
    from mammo.core import files

    if not path.is_file():
        raise UserError(f"{path} does not exist: no run has finished here; run `dvc repro`")
    if Path("dvc.yaml").is_file():
        from mammo.core.revisions import refuse_if_out_of_date

        refuse_if_out_of_date(absent_is_fine=True)
    rows = _rows(files.read_json(path))
    if not rows:
        raise UserError(f"{path} holds no scores: run `dvc repro`")
    width = max(len(name) for name, _, _ in rows)
    for name, value, interval in rows:
        print(f"{name:<{width}}  {value:>8}  {interval}".rstrip())


def _rows(content: Mapping[str, Any], group: str = "") -> list[tuple[str, str, str]]:
    """Return name, value and interval of each score in the order of the file; groups are prefixes of the names."""
    from mammo.scoring import TITLES, p_value

    rows = []
    for key, entry in content.items():
        name = group + TITLES.get(key, key.replace("_", " "))
        if isinstance(entry, Mapping) and "value" not in entry:
            rows += _rows(entry, f"{name}: ")
        elif isinstance(entry, Mapping):
            known = "low" in entry and "high" in entry
            interval = f"95 % {_number(entry['low'])} to {_number(entry['high'])}" if known else ""
            rows.append((name, _number(entry["value"]), interval))
        else:
            rows.append((name, p_value(entry) if key == "p" else _number(entry), ""))
    return rows


def _number(value: Any) -> str:
    from mammo.scoring import rounded

    return rounded(value) if isinstance(value, float) else str(value)


def _phantoms(options: argparse.Namespace) -> int:
    from mammo.core import settings
    from mammo.reporting import contact_sheets

    contact_sheets.draw_phantoms(settings.read().data.phantom, options.picture)
    return 0


def _canonical(options: argparse.Namespace) -> int:
    from mammo.predicting.scans import find
    from mammo.reporting import contact_sheets

    found = find(options.paths)
    for path, reason in found.missed:
        print(f"mammo canonical: {shown(path)} {reason}", file=sys.stderr)
    number, inverted, without = contact_sheets.draw_before_and_after(found.paths, options.picture)
    print(
        f"{number} of {counted(len(found.paths), 'image')} read: {inverted} inverted, {without} without a breast. "
        f"The hardest are drawn in {options.picture}."
    )
    return 3 if found.missed else 0


def _distribute(options: argparse.Namespace) -> int:
    from mammo.core import distribution

    distribution.main(options.jobs)
    return 0


def _set_list(options: argparse.Namespace) -> int:
    from mammo.sources.described.account import listing

    print(listing())
    return 0


def _set_check(options: argparse.Namespace) -> int:
    from mammo.sources.described.account import account

    text, fits = account(options.name, options.folder)
    print(text)
    return 0 if fits else 1


def _recipe_list(options: argparse.Namespace) -> int:
    from mammo.core import recipes

    best, applied = recipes.shipped(), recipes.applied()
    for name in recipes.names():
        recipe = recipes.read(name)
        said = [word for word, holds in (("best", name == best), ("applied", name == applied)) if holds]
        marks = f" ({', '.join(said)})" if said else ""
        print(f"{name}{marks}: {recipe.reason}")
        print(f"    score: {recipe.score}")
        print(f"    time: {recipe.time}")
    if not applied:
        print("params.yaml has the settings of none of them")
    return 0


def _recipe_table(options: argparse.Namespace) -> int:
    from mammo.scoring import recipe_table

    print(recipe_table.table())
    return 0


def _recipe_apply(options: argparse.Namespace) -> int:
    from mammo.core import recipes, settings

    changed = recipes.apply(options.name)
    name = recipes.shipped() if options.name == recipes.BEST else options.name
    for key, before, now in changed:
        print(f"{key}: {before} → {now}")
    if changed:
        print(f"{settings.PARAMS} has the recipe {name}; `dvc repro` trains it")
    else:
        print(f"{settings.PARAMS} had the recipe {name} already")
    return 0


RUN: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "scores": _scores,
    "report": _report,
    "plots": _plots,
    "phantoms": _phantoms,
    "canonical": _canonical,
    "compare": _compare,
    "ledger": _ledger,
    "predict": _predict,
    "explain": _explain,
    "serve": _serve,
    "validate": _validate,
    "distribute": _distribute,
    "export": _export,
    "set_list": _set_list,
    "set_check": _set_check,
    "recipe_list": _recipe_list,
    "recipe_table": _recipe_table,
    "recipe_apply": _recipe_apply,
}
"""What each subcommand does, by the name that its parser sets."""

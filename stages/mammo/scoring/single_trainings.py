"""The remark of a comparison that two trainings, not two recipes, are compared."""

from collections.abc import Iterator

SEED_DEVIATION = 0.022
"""Standard deviation of the difference of two ROC AUCs that another seed alone makes, measured on real mammograms."""


def remark(seeds: tuple[int | None, int | None]) -> Iterator[str]:
    """Yield one line unless both sides are means over several seeds.

    Args:
        seeds: number of trainings with different seeds that A and B are the mean of; None if a table does not say.

    """
    if any(number is None or number < 2 for number in seeds):
        sides = ", ".join(f"{side} {_in_words(number)}" for side, number in zip("AB", seeds, strict=True))
        yield (
            f"single trainings are compared, not recipes ({sides}): on real mammograms another seed alone changed a "
            f"difference of ROC AUCs by {SEED_DEVIATION} (standard deviation), which interval and p leave out"
        )


def _in_words(number: int | None) -> str:
    if number is None:
        return "does not say over how many seeds it is averaged"
    return "is one training" if number == 1 else f"is the mean over {number} seeds"

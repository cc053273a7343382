"""Numbers as people read them: one rounding for page, figures, model card and terminal. Files keep full precision."""

from decimal import ROUND_HALF_UP, Decimal

NO_BREAK = "\N{NO-BREAK SPACE}"


def rounded(value: float, decimals: int = 3) -> str:
    """Return `value` with `decimals` places; a tie is rounded away from 0, as JavaScript does on the page of plots.

    Python's own formatting rounds a tie to the even digit: 1 of 8 images would be 12 % here and 13 % there.
    """
    return str(Decimal(value).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))


def percent(share: float) -> str:
    """Return a share in percent with at most one decimal, e.g. `12.5 %`; no line breaks before the unit."""
    return f"{rounded(100 * share, 1).removesuffix('.0')}{NO_BREAK}%"


def with_interval(value: float, low: float, high: float) -> str:
    """Return a score with its 95 % interval, e.g. `0.933 (0.860–0.988)`."""
    return f"{rounded(value)} ({rounded(low)}–{rounded(high)})"

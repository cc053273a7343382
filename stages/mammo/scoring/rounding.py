"""Formatting of numbers in pages, figures, model card and terminal. Data files keep full precision."""

from decimal import ROUND_HALF_UP, Decimal

NO_BREAK = "\N{NO-BREAK SPACE}"


def rounded(value: float, decimals: int = 3) -> str:
    """Format `value` with `decimals` places; ties are rounded away from 0, as JavaScript does on the plots page.

    Python's own formatting rounds ties to the even digit: 1 of 8 images would be 12 % instead of 13 %.
    """
    return str(Decimal(value).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))


def percent(share: float) -> str:
    """Format a share in percent with at most one decimal and a no-break space, e.g. `12.5 %`."""
    return f"{rounded(100 * share, 1).removesuffix('.0')}{NO_BREAK}%"


def p_value(p: float) -> str:
    """Format a p, e.g. `0.034` or `<0.001`."""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def with_interval(value: float, low: float, high: float) -> str:
    """Format a score with its 95 % interval, e.g. `0.933 (0.860–0.988)` or `-0.120 (-0.250 to 0.010)`."""
    return f"{rounded(value)} ({rounded(low)}{'–' if low >= 0 else ' to '}{rounded(high)})"

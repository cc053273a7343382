"""The verdict on a network: whether it sees more than brightness."""

from mammo.scoring.intervals import Interval
from mammo.scoring.rounding import p_value


def against_shortcut(change: Interval, p: float) -> str:
    """Return the verdict in words.

    Args:
        change: ROC AUC of the network minus that of the brightness baseline on the same test images, by
            `paired_bootstrap`.
        p: of that change.

    """
    if change.low > 0:
        verdict = "the network sees more than brightness"
    elif change.high < 0:
        verdict = "the network is worse than brightness alone"
    else:
        verdict = "this run does not show that the network sees more than brightness"
    return (
        f"Network minus brightness baseline, paired on the same test images: {change.value:+.3f} "
        f"({change.low:+.3f} to {change.high:+.3f}), p {p_value(p)}: {verdict}."
    )

"""Scores with patient-clustered intervals, curves, calibration, and paired comparisons of two classifiers."""

from mammo.scoring.bootstrap import RESAMPLES, Bootstrap
from mammo.scoring.calibration import agreement, calibration, learned_recalibration, reliability
from mammo.scoring.cases import Cases
from mammo.scoring.curves import net_benefit, pr_curve, roc_curve
from mammo.scoring.delong import clustered_interval, delong_interval, delong_test
from mammo.scoring.intervals import NORMAL, Interval, Table, as_json
from mammo.scoring.measures import COMPARED, TITLES, image_scores, resampled_auc, scores, share
from mammo.scoring.paired import Change, against_chance, holm, mcnemar, paired_bootstrap
from mammo.scoring.prevalence import at_prevalence
from mammo.scoring.rounding import p_value, percent, rounded, with_interval
from mammo.scoring.selection import Selection, corrected, over_seeds
from mammo.scoring.subgroups import Subgroups, in_subgroups
from mammo.scoring.thresholds import AtThreshold, at_thresholds, locked_thresholds, operating_points
from mammo.scoring.units import UNITS, InUnits, Unit, in_units, numbers_by_class, refuse_unscorable, unit_scores
from mammo.scoring.verdicts import against_shortcut

__all__ = [
    "COMPARED",
    "NORMAL",
    "RESAMPLES",
    "TITLES",
    "UNITS",
    "AtThreshold",
    "Bootstrap",
    "Cases",
    "Change",
    "InUnits",
    "Interval",
    "Selection",
    "Subgroups",
    "Table",
    "Unit",
    "against_chance",
    "against_shortcut",
    "agreement",
    "as_json",
    "at_prevalence",
    "at_thresholds",
    "calibration",
    "clustered_interval",
    "corrected",
    "delong_interval",
    "delong_test",
    "holm",
    "image_scores",
    "in_subgroups",
    "in_units",
    "learned_recalibration",
    "locked_thresholds",
    "mcnemar",
    "net_benefit",
    "numbers_by_class",
    "operating_points",
    "over_seeds",
    "p_value",
    "paired_bootstrap",
    "percent",
    "pr_curve",
    "refuse_unscorable",
    "reliability",
    "resampled_auc",
    "roc_curve",
    "rounded",
    "scores",
    "share",
    "unit_scores",
    "with_interval",
]

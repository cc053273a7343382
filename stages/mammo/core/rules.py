"""The rules of thresholds, apart from `settings`, which takes longer to load than the command `mammo` may take."""

from typing import Literal

ThresholdRule = Literal["balanced_accuracy", "half", "specificity_90", "specificity_95", "sensitivity_90"]
"""Rules for choosing a threshold on validation, described in `scoring.thresholds`."""

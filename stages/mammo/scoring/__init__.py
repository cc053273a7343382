"""Scores with intervals over patients, curves, calibration, and paired comparisons."""

"""Predictions for new images, and where the network looks."""

"""Predictions for new images, and heat maps."""

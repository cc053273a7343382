"""Data sets that data/sets/NAME.yaml describes: tables, joins, images and labels become entries of the index."""

from mammo.sources.described.delivery import left_in_place, read

__all__ = ["left_in_place", "read"]

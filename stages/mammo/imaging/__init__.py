"""Bytes to pixels: image files, DICOM, canonical geometry, appearance."""

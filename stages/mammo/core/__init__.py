"""Shared foundations: files, settings, randomness, parallel work, running a stage."""

"""What every room builds on: files, settings, randomness, parallel work, how a stage runs."""

"""Scores, calibration, decisions and tests of class probabilities: pure functions on arrays."""

"""Sweeps: the search space, its trials, and Ray Tune."""

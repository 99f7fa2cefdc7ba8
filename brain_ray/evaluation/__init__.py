"""Scores, plots and the report."""

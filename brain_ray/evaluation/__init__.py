"""Evaluation of a bundle: scores, charts and the report."""

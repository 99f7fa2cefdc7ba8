"""Comparison of a sweep's models, and the choice among them."""

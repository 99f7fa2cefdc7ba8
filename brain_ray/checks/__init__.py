"""Checks before a job runs."""

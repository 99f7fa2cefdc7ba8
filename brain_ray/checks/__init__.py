"""Checks that run before a job."""

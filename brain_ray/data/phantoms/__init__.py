"""Drawn heads and tumours, and phantom data sets on disk."""

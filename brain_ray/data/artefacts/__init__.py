"""Artefacts of MR images at five fixed severities: those of the scanner, and those of its pictures."""

"""Canary images: drawn images in every bundle, as samples and to check that a model computes as it did."""

"""The old path of `Predictor`, which the cards of bundles of format 2 name."""

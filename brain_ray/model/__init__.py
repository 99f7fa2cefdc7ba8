"""Networks, the exported bundle and the predictor that runs it."""

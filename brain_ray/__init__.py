"""Train, compare and serve brain-tumour MR image classifiers on a Ray cluster."""

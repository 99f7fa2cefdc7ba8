"""Train, compare and serve brain-tumour MR image classifiers on a Ray cluster."""

__version__ = "0.1.0"

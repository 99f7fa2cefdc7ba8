"""Make a scored, exported model from a folder of MR images: prepare, train, export, evaluate."""

from _start import start

if __name__ == "__main__":
    start("pipeline")

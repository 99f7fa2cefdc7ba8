"""From a folder of MR images to a scored, exported model: prepare, train, export, evaluate."""

from _start import start

if __name__ == "__main__":
    start("pipeline")

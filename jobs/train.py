"""Train a network on a prepared data set: train/ of a run."""

from _start import start

if __name__ == "__main__":
    start("train")

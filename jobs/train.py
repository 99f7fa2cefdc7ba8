"""Train a network on a prepared data set; writes train/ of a run."""

from _start import start

if __name__ == "__main__":
    start("train")

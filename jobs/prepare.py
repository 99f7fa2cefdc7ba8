"""Turn folders of MR images into an audited, split data set: dataset/ of a run."""

from _start import start

if __name__ == "__main__":
    start("prepare")

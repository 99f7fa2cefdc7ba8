"""Make an audited, split data set from folders of MR images; writes dataset/ of a run."""

from _start import start

if __name__ == "__main__":
    start("prepare")

"""Score the bundle on the test split; writes report/ of a run."""

from _start import start

if __name__ == "__main__":
    start("evaluate")

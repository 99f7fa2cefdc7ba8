"""Train many settings, choose the best model, show how certain that is; writes sweep/ of a run."""

from _start import start

if __name__ == "__main__":
    start("tune")

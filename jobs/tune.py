"""Train many settings, choose the best model and say how sure that is: sweep/ of a run."""

from _start import start

if __name__ == "__main__":
    start("tune")

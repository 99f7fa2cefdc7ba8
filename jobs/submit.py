"""Run a job on a Ray cluster with this checkout's code."""

from _start import start

if __name__ == "__main__":
    start("submit")

"""Score the bundle on the test split and write the report: report/ of a run."""

from _start import start

if __name__ == "__main__":
    start("evaluate")

"""Check machine, cluster, storage and data before a job runs."""

from _start import start

if __name__ == "__main__":
    start("doctor")

"""Say something to a training that runs."""

from _start import start

if __name__ == "__main__":
    start("control")

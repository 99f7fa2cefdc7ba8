"""Send a command to a running training."""

from _start import start

if __name__ == "__main__":
    start("control")

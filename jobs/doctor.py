"""Say what is wrong before work is begun."""

from _start import start

if __name__ == "__main__":
    start("doctor")

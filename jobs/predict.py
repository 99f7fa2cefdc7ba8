"""Classify images, by an endpoint or with a bundle."""

from _start import start

if __name__ == "__main__":
    start("predict")

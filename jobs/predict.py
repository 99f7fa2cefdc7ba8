"""Classify images with an endpoint or a bundle."""

from _start import start

if __name__ == "__main__":
    start("predict")

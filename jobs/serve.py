"""Serve a bundle over HTTP, with a web page."""

from _start import start

if __name__ == "__main__":
    start("serve")

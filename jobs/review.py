"""Write what an endpoint kept for review as a manifest for labelling."""

from _start import start

if __name__ == "__main__":
    start("review")

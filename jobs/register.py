"""Register a bundle in MLflow's model registry."""

from _start import start

if __name__ == "__main__":
    start("register")

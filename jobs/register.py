"""Register a bundle in MLflow's model registry, or write it for the Hugging Face hub."""

from _start import start

if __name__ == "__main__":
    start("register")

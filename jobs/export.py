"""Export the best weights as a checked bundle, Keras and ONNX: bundle/ of a run."""

from _start import start

if __name__ == "__main__":
    start("export")

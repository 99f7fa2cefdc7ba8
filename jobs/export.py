"""Export the best weights as a checked Keras and ONNX bundle; writes bundle/ of a run."""

from _start import start

if __name__ == "__main__":
    start("export")

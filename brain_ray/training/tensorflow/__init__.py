"""TensorFlow as the framework of a training."""

"""What is recorded of a run while it goes: history, TensorBoard, MLflow, Prometheus, progress."""

"""Records of a run while it trains: history.csv, TensorBoard, MLflow, Prometheus, progress bar."""

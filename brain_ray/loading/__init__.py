"""Data loading: the batches of each worker, from a prepared data set."""

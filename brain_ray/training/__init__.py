"""The training loop and its home on Ray Train."""

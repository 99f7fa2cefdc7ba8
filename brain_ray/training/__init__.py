"""Training: the loop, its place on Ray Train, and what a training leaves."""

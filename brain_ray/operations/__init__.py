"""What stands around the stages: checks before them, and the way of a job to a cluster."""

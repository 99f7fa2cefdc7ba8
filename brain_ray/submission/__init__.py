"""The way of a job to a cluster."""

"""The Ray cluster: connection, capacity, autoscaling, waiting for nodes, and lost nodes."""

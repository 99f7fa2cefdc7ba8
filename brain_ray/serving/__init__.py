"""HTTP endpoint."""

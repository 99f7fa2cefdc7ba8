"""Ray as a place: joining it, what fits on it, how it grows, waiting for it, and what it loses."""

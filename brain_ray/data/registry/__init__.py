"""Known data sets: fingerprints of their images, with patients and labels, and the recognition of copies."""

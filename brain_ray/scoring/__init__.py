"""Numbers about answers: arrays in, numbers out; no Ray, no framework, no files."""

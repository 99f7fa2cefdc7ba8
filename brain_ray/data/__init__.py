"""Image data: sources, decoding, cropping, duplicates, phantoms, the prepared data set."""

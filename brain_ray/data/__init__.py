"""Images in: decoding, cropping, phantoms, the audit for copies, the prepared data set."""

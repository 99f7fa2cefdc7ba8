"""Shortcuts: what tells the classes of a data set without a look at the brain, and how well.

`views` describes an image by its size, its file and the pixels around the head; `table` draws the images that
are compared, and stores their views; `preparation` measures how well a small model tells the classes by each
view."""

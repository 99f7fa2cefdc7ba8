"""Checks of encoded images: reduce a file to the parts that its pixels need, and refuse what costs a decoder
seconds or gigabytes.

A file of some hundred bytes can keep a decoder busy for a minute, make it allocate gigabytes, or crash its
process: libpng reads every frame and text of a PNG, libjpeg goes over all pixels once for each scan, libtiff
allocates a tile as large as its tag says, and Pillow reads each value of each tag. None of them has a limit.
So parts that no pixel needs never reach a decoder, and one module per format bounds the rest. The worst files
found since, of 20 MB and 40 million pixels, took 1.8 s of CPU and 390 MB.
"""

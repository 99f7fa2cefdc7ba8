"""Classify images: python jobs/predict.py (--url URL | --bundle BUNDLE) FILES...

FILES are images, folders (searched for jpg, jpeg, png, bmp, tif, tiff and webp files, sorted), or - for a
list of such paths, one a line, on standard input. Rows are printed as they come, in the order of the files.

The exit code is 0 when every image got an answer, 1 when one could not be used or the job came to an early
end, 2 after a wrong command line. The key of an endpoint that wants one is read from --api-key-file, or from
BRAIN_RAY_API_KEY.
"""

import sys

from brain_ray.serving.predict import run

if __name__ == "__main__":
    sys.exit(run(str(__doc__)))

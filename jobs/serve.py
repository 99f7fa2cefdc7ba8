"""Serve a bundle over HTTP, with a page: python jobs/serve.py --bundle PATH_OR_URI (and --help)."""

import sys

from brain_ray.errors import RunError, printable
from brain_ray.serving.serve import main

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        print("error: interrupted before it was on the air", file=sys.stderr)
        sys.exit(1)
    except RunError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)

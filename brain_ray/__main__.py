"""`python -m brain_ray JOB`: the same as `brain-ray JOB`."""

import sys

from brain_ray.jobs import main

if __name__ == "__main__":
    sys.exit(main())

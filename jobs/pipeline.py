"""From a folder of MR images to a scored, exported model: prepare, train, export, evaluate."""

import sys

from brain_ray.cli import run_job
from brain_ray.pipeline import run_stages

if __name__ == "__main__":
    sys.exit(run_job("pipeline.py", str(__doc__), run_stages))

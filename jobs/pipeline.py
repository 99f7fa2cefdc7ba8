"""From a folder of MR images to a scored, exported model: prepare, train, export, evaluate.

--tune puts a sweep in place of the training: many settings are trained, and the winner is exported.
"""

import sys

from brain_ray.cli import run_job
from brain_ray.pipeline import TUNED, run_stages

if __name__ == "__main__":
    tune = {"--tune": lambda config: run_stages(config, TUNED)}
    sys.exit(run_job("pipeline.py", str(__doc__), run_stages, tune))

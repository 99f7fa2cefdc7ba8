"""Train many settings, choose the best model and say how sure that is: sweep/ of a run, and its bundle/."""

import sys

from brain_ray.cli import run_job
from brain_ray.pipeline import COMPARED, run_stages

if __name__ == "__main__":
    sys.exit(run_job("tune.py", str(__doc__), lambda config: run_stages(config, COMPARED)))

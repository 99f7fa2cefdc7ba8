"""Turn folders of MR images into an audited, split data set: dataset/ of a run."""

import sys

from brain_ray.cli import run_job
from brain_ray.pipeline import run_stages

if __name__ == "__main__":
    sys.exit(run_job("prepare.py", str(__doc__), lambda config: run_stages(config, ["prepare"])))

"""Say what is wrong before work is begun: python jobs/doctor.py [RECIPE] [--address ADDRESS] [--json].

It looks at this machine, at the Ray cluster (of --address or RAY_ADDRESS, else one that is started for the
while) and at what the recipe and its settings need: versions, token, nodes, CPUs, GPUs, memory, disk,
storage, data and weights, from each node. One line each: ok, warning or error, with what to do about it.
ADDRESS is that of Ray itself, HEAD:6379, on a machine of the cluster. Of an http(s):// address, where jobs
are submitted, it checks the way there; `python jobs/submit.py doctor RECIPE --address URL` does the rest.

The exit code is 0, 1 after an error, 2 for a wrong command line.
"""

import sys

from brain_ray.checks.doctor import main

if __name__ == "__main__":
    sys.exit(main(str(__doc__), sys.argv[1:]))

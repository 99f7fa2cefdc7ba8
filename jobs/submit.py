"""Run a job on a Ray cluster with this checkout's code: python jobs/submit.py JOB WORDS... [options].

JOB    prepare, train, tune, export, evaluate, pipeline, doctor, control or predict; WORDS are its own.
--address URL      the cluster's dashboard; else RAY_API_SERVER_ADDRESS, RAY_ADDRESS if it is http(s)://,
                   or http://127.0.0.1:8265
--environment E    where its packages come from: image (the cluster has them), pip or uv (Ray installs them
                   by constraints.txt), auto (pip where the image does not have them; the default)
--id NAME          the job's id on the cluster
--detach           print the id, and do not wait
--follow ID        take up a job that was submitted before, instead of JOB
--debug            show the trace of an error, here and in the job
Options stand anywhere; what follows -- is the job's. Ctrl-C asks whether to stop the job as well.

Standard output is the job's log, standard error the rest. The exit code is the job's own, 130 if it was
stopped or is no longer followed, 1 if it could not be run, 2 for a wrong command line.
"""

import sys

from brain_ray.submission.submit import main

if __name__ == "__main__":
    sys.exit(main(str(__doc__), sys.argv[1:]))

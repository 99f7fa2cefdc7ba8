"""Say something to a training that runs: python jobs/control.py RUN WORD.

RUN   the run's name, or its whole path or URI; on the cluster of RAY_ADDRESS, else the one on this machine
WORD  status       the last epoch, and what was said so far
      halt         end with the best weights
      extend N     N more epochs
      rate X       this learning rate from the next epoch on
      ask-every N  end after N epochs without improvement (0: never)
A word is heard at the end of the epoch and stands in history.csv; nothing waits for one.
"""

import argparse
import sys

from brain_ray.cluster import connection
from brain_ray.errors import RunError, printable
from brain_ray.storage import refuse_keys_in
from brain_ray.training.control import tell

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="control.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("word", metavar="WORD", nargs="+")
    given = parser.parse_args()
    try:
        refuse_keys_in(sys.argv[1:])
        connection.join()
        print(tell(given.run, given.word))
    except RunError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)

"""The endpoint attacked by 64 clients: how long a good client's images take, over how long they take at rest.

    python benchmarks/attack.py                            # EfficientNet-B0 at 224 px
    python benchmarks/attack.py --bundle runs/b0/bundle

The attackers send, from an address each, the largest, slowest and strangest that the limits allow
(tests/support/attackers.py). They compute only where nothing else wants the processor, as if they had
machines of their own. The good client, at an address of its own too, sends one small image after the other.
Needs Linux. Prints a line for each of three turns, ten seconds at rest and forty beside the attackers; as its
last line one JSON object:

- median_ratio: the median of the answers beside the attackers over that at rest; the median of the turns;
- nine_of_ten_ratio: the same of the time within which nine of ten have come;
- refused: the share of the good client's requests that were not answered, in all turns;
- processors: what all but the attackers took, which is the endpoint; the median of the turns;
- more_mb: the replica's memory at most, beyond that before the first attack, in 10^6 bytes.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))  # also in the processes that are spawned

from support.attackers import BEGIN_S, CLIENTS, attack, step_back, taken_beside  # noqa: E402
from support.endpoint import Running, ask_on, picture, start, stop  # noqa: E402

TURNS = 3
REST_S = 10.0
ATTACK_S = 40.0


@dataclass(frozen=True)
class Turn:
    """What the good client saw at rest, and beside the attackers; times in s."""

    rest: list[float]
    beside: list[float]
    refused: int
    processors: float
    bytes: int
    """The replica's memory at most."""
    attacks: int
    """Number of the attackers' requests."""
    answered: int
    """Number of those that were answered."""

    def ratio(self, share: float) -> float:
        """Return the time within which this share of the answers came, over that at rest."""
        return float(np.quantile(self.beside, share) / np.quantile(self.rest, share))


def measure(endpoint: Running, good: Executor) -> Turn:
    """Measure at rest, then beside attackers."""
    rest, _ = good.submit(ask_on, endpoint.url, picture(), REST_S, "127.0.0.2").result()
    spawn = get_context("spawn")
    over = spawn.Event()
    with ProcessPoolExecutor(1, spawn, step_back, (over,)) as bad:
        attackers = bad.submit(os.getpid).result()
        attacked = bad.submit(attack, endpoint.url)
        time.sleep(BEGIN_S)
        asked = good.submit(ask_on, endpoint.url, picture(), ATTACK_S, "127.0.0.2")
        spent, most = taken_beside(attackers), 0
        while not asked.done():
            most = max(most, endpoint.memory())
            time.sleep(0.1)
        spent = taken_beside(attackers) - spent
        over.set()
        endings = attacked.result().values()
    beside, statuses = asked.result()
    return Turn(
        rest=rest,
        beside=beside,
        refused=statuses.total() - statuses[200],
        processors=spent / ATTACK_S,
        bytes=most,
        attacks=sum(each.total() for each in endings),
        answered=sum(each["200"] for each in endings),
    )


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--bundle", type=Path, help="a bundle's folder (default: a B0 that has learnt nothing)"
    )
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(1, get_context("spawn")) as good:
        folder = Path(name)
        if words.bundle is None:
            from serving import make_bundle

            words.bundle = make_bundle(folder)
        endpoint = start(words.bundle, folder, "--cpus-per-replica", str(os.cpu_count() or 1))
        good.submit(ask_on, endpoint.url, picture(), 3).result()  # what comes first takes longer
        before = endpoint.memory()
        print(f"{CLIENTS} attackers   at rest   beside            nine of ten        the endpoint   answered")
        turns = []
        for number in range(1, TURNS + 1):
            turn = measure(endpoint, good)
            turns.append(turn)
            rest, beside = 1e3 * statistics.median(turn.rest), 1e3 * statistics.median(turn.beside)
            late = 1e3 * float(np.quantile(turn.beside, 0.9))
            print(
                f"turn {number}        {rest:4.1f} ms   {beside:5.1f} ms ({turn.ratio(0.5):4.2f} x)  "
                f"{late:5.0f} ms ({turn.ratio(0.9):4.1f} x)  {turn.processors:4.2f} of {os.cpu_count()} CPUs"
                f"   {turn.answered} of {turn.attacks}",
                flush=True,
            )
        stop(endpoint)
    asked = sum(len(turn.beside) + turn.refused for turn in turns)
    found = {
        "median_ratio": statistics.median(turn.ratio(0.5) for turn in turns),
        "nine_of_ten_ratio": statistics.median(turn.ratio(0.9) for turn in turns),
        "refused": sum(turn.refused for turn in turns) / asked,
        "processors": statistics.median(turn.processors for turn in turns),
        "more_mb": (max(turn.bytes for turn in turns) - before) / 1e6,
    }
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    main()

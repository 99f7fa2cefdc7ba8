"""Sixty-four clients, each at its own address, send the largest, slowest and strangest that is allowed.

ATTACK_S says for how many seconds, and ATTACK_KIND names the only kind of `kinds_of_attack` that is sent.
"""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
from support.attackers import BEGIN_S, attack, step_back, taken_beside
from support.endpoint import Running, ask_on, picture

SECONDS = float(os.environ.get("ATTACK_S", "120"))
REST_S = 30
"""Seconds after the attack until the memory is looked at once more."""

LONGEST_S = 5
"""Seconds that a good image may take in the median."""


@pytest.mark.slow
@pytest.mark.thorough
def test_sixty_four_clients_cost_no_replica_and_a_bounded_memory(endpoint: Running) -> None:
    spawn = get_context("spawn")
    over = spawn.Event()
    with (  # each in a process of its own: what the good client measures is no waiting for other threads
        ProcessPoolExecutor(1, spawn) as good,
        ProcessPoolExecutor(1, spawn, step_back, (over,)) as bad,
    ):
        ask_well = partial(good.submit, ask_on, endpoint.url, picture(), address="127.0.0.2")
        alone, _ = ask_well(5).result()
        before = most = endpoint.memory()
        replicas = sorted(endpoint.pids)
        attackers = bad.submit(os.getpid).result()
        attacked = bad.submit(attack, endpoint.url, os.environ.get("ATTACK_KIND", ""))
        time.sleep(BEGIN_S)
        asked, spent = ask_well(SECONDS), taken_beside(attackers)
        while not asked.done():
            most = max(most, endpoint.memory())
            time.sleep(0.1)
        spent = (taken_beside(attackers) - spent) / SECONDS
        over.set()
        found = attacked.result()
        beside, statuses = asked.result()
    for name, endings in found.items():
        print(f"{name}: {dict(endings.most_common())}")
    for kind, waits in (("alone", alone), ("beside", beside)):
        print(
            f"good images {kind}: {len(waits)}, median {np.median(waits):.4f} s, "
            f"nine of ten {np.quantile(waits, 0.9):.3f} s, longest {max(waits):.2f} s"
        )
    print(f"all but the attackers took {spent:.2f} of {os.cpu_count()} processors")
    print(f"statuses {dict(statuses)}; memory {before / 1e6:.0f} MB, at most {most / 1e6:.0f} MB")
    assert sorted(endpoint.pids) == replicas
    assert statuses[200] > 0.8 * statuses.total(), "few small images are refused"
    assert not statuses[504]
    assert np.median(beside) < LONGEST_S
    assert most - before < 800e6
    time.sleep(REST_S)
    print(f"{REST_S} s later: {endpoint.memory() / 1e6:.0f} MB")
    assert endpoint.memory() - before < 500e6

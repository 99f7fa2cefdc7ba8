"""Why rows are not decoded on the node of the worker that wants them: Ray Data (2.60) cannot be told the
node of a single task.

`ray_remote_args_fn`, the one way to give an operator's tasks different arguments, is deprecated, is not told
which task it is called for, and is not called once for each. This prints how often it is called for 16.

    python tests/support/placing_tasks.py
"""

import warnings
from typing import Any

import ray
import ray.data

TASKS = 16


def main() -> None:
    """Print how often the function is called for so many tasks, and what Ray says of it."""
    ray.init(num_cpus=2, logging_level="ERROR", log_to_driver=False, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    calls = 0

    def arguments() -> dict[str, Any]:
        nonlocal calls
        calls += 1
        return {"num_cpus": 0.5}

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        blocks = ray.data.range(TASKS, override_num_blocks=TASKS)
        done = blocks.map_batches(lambda batch: batch, ray_remote_args_fn=arguments).materialize()
    print(f"{calls} calls for {done.num_blocks()} tasks")
    for one in caught:
        if "ray_remote_args_fn" in str(one.message):
            print(f"{type(one.message).__name__}: {str(one.message).splitlines()[0]}")


if __name__ == "__main__":
    main()

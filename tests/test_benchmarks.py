"""A benchmark that lacks a program says so before it does anything."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_benchmark_of_serving_says_at_once_that_it_lacks_wrk(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"try: runpy.run_path({str(ROOT / 'benchmarks' / 'serving.py')!r}, run_name='__main__')\n"
        "finally: print(sorted({'numpy', 'cv2', 'brain_ray'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("wrk is missing: install it (Debian and Ubuntu: apt-get install wrk")
    assert done.stdout == "[]\n", "nothing slow was imported before"

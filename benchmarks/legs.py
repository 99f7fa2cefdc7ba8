"""Legs of a benchmark, each in a process of its own."""

import json
import subprocess
import sys
from typing import Any


def run_leg(script: str, leg: str, *words: object) -> dict[str, Any]:
    """Run a benchmark's script with some words; return the JSON of its last line, or end with its error."""
    command = [sys.executable, script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{leg}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found

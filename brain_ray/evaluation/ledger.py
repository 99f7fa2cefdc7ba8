"""Ledger of a test split: a line for each scoring, in `test_ledger.jsonl` of a run's folder.

The file lies beside dataset/, and no stage clears it. A run's ledger also takes up the lines that the other
runs of its storage have about its split, so that models of several runs are counted together.
"""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from brain_ray.errors import RunError
from brain_ray.fingerprints import digest
from brain_ray.logs import log
from brain_ray.runs import Run
from brain_ray.scoring.scores import Scores
from brain_ray.scoring.selection import LEDGER_FILE, sum_up_choice
from brain_ray.storage import filesystem, refuse_keys_in, storage_errors, subfolders
from brain_ray.storage_retries import retry_known

READERS = 16
"""Number of other runs' ledgers that are read at a time."""


def record_scoring(
    run: Run, split: str, bundle: Mapping[str, Any], settings: object, scores: Scores
) -> dict[str, Any]:
    """Adds a scoring to a run's ledger; returns `sum_up_choice` of all that are known of the split.

    What gives the same scores again is no other scoring: the same model with the same thresholds and settings
    on the same split, as when an evaluation was killed after its scores were there and is done again.

    Args:
        run: the run.
        split: digest of the test split, `sha256.test` of audit.json.
        bundle: bundle.json of the model.
        settings: those of the evaluation on which scores depend, as JSON.
        scores: scores on all images of the split.

    Raises:
        RunError: the run's ledger cannot be read or written, or a line is not one of a ledger.
    """
    model = bundle["files"]["model.onnx"]
    # A field that an earlier version's bundle lacks is null once its scores were added by this one.
    decision = {name: value for name, value in bundle["decision"].items() if value is not None}
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "split": split,
        "images": scores.images,
        "model": model,
        "scoring": digest([split, model, bundle["temperature"], decision, settings]),
        "accuracy": scores.accuracy,
        "run": run.uri(),
        "command": _command(),
    }
    lines = read_ledger(run)
    known = {one["scoring"] for one in lines}
    others = [one for one in _lines_of_others(run) if one["split"] == split]
    for one in [*sorted(others, key=lambda other: str(other["time"])), line]:
        if one["scoring"] not in known:
            known.add(one["scoring"])
            lines.append(dict(one))
    content = "".join(json.dumps(one, allow_nan=False) + "\n" for one in lines)
    run.write_bytes(content.encode(), LEDGER_FILE)  # a bucket has no other way to append
    same = [one for one in lines if one["split"] == split]
    models = len({one["model"] for one in same})
    return sum_up_choice(models, len(same), scores.accuracy_low, scores.accuracy_high)


def read_ledger(run: Run) -> list[dict[str, Any]]:
    """Returns the lines of a run's ledger, the oldest first; none if it has no ledger.

    Raises:
        RunError: the storage refuses, or a line is not one of a ledger.
    """
    try:
        text = run.read_bytes(LEDGER_FILE).decode()
        lines: list[dict[str, Any]] = [json.loads(row) for row in text.splitlines() if row.strip()]
        _ = [[one[name] for name in ("time", "split", "model", "scoring")] for one in lines]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run.uri(LEDGER_FILE)} is no ledger of scorings ({type(error).__name__}: {error}): mend the "
            "line, or move the file away, with which its count begins anew"
        ) from error
    return lines


def _lines_of_others(run: Run) -> Sequence[Mapping[str, Any]]:
    """Returns the lines of all other ledgers in the run's storage; logs which cannot be read."""

    def read(name: str) -> list[dict[str, Any]]:
        try:
            return read_ledger(Run(run.storage, name))
        except RunError as error:
            log.warning(f"its scorings are not counted: {error}")
            return []

    try:
        with storage_errors(f"read {run.storage}"):
            names = retry_known(run.storage, partial(subfolders, *filesystem(run.storage)))
    except RunError as error:
        log.warning(f"scorings of other runs are not counted: {error}")
        return []
    with ThreadPoolExecutor(READERS) as pool:
        return [
            one for lines in pool.map(read, (name for name in names if name != run.name)) for one in lines
        ]


def _command() -> str:
    """Returns the command line of this process, without its words if they may hold a key."""
    program, *words = sys.argv
    try:
        refuse_keys_in(words)
    except RunError:
        words = []
    return shlex.join([Path(program).name, *words])

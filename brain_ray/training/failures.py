"""Errors of workers: which end a training at once, which are retried, and the line for people."""

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import brain_ray
from brain_ray.errors import RunError, last_line, short_line
from brain_ray.runs import TRAIN, Run
from brain_ray.storage import describe_os_error
from brain_ray.storage_retries import delete_file

RETRIED = {
    "tensorflow": {
        "AbortedError",
        "CancelledError",
        "DeadlineExceededError",
        "InternalError",
        "UnavailableError",
        "UnknownError",
    },
    "ray": {"RayError", "CollectiveTimeoutError"},
}
"""Errors, by package, whose cause is a lost process, node or connection: another attempt may succeed."""


PACKAGE = Path(brain_ray.__file__).parent


class WorkerLostError(RuntimeError):
    """A worker cannot go on because something that it needs is lost; its text is one line."""


def classify_error(error: Exception) -> RunError | WorkerLostError:
    """Returns the error that Ray Train is given for what ended a worker, with the trace as a note.

    A `RunError` ends the training at once; after a `WorkerLostError` it is resumed. Both can be unpickled in
    a process without TensorFlow.
    """
    found = unwrapped(error)
    judged: RunError | WorkerLostError
    if isinstance(found, RunError):
        judged = RunError(str(found))
    elif _is_infrastructure_error(found):
        judged = WorkerLostError(f"{type(found).__name__}: {_first_words(found)}")
    else:
        judged = RunError(f"training failed{_where(error)}: {type(found).__name__}: {_first_words(found)}")
    judged.add_note("".join(traceback.format_exception(error)))
    return judged


def fatal_error(errors: Mapping[int, BaseException]) -> RunError | None:
    """Returns the error that ends a training, out of a group's errors by rank; None: try again.

    Where a worker died without an error of its own, the others may fail in any way because of it.
    """
    if any(not isinstance(error, RunError | WorkerLostError) for error in errors.values()):
        return None
    return next((error for error in errors.values() if isinstance(error, RunError)), None)


def describe_lost_worker(errors: Mapping[int, BaseException]) -> str:
    """Returns a line on the loss that ended a group: a worker's death rather than the errors it caused."""
    rank, error = min(errors.items(), key=lambda item: isinstance(item[1], WorkerLostError))
    return f"worker {rank} ended with: {last_line(error)}"


def to_run_error(error: BaseException, run: Run, max_failures: int) -> RunError:
    """Returns the error for people, of one line, for what Ray Train gave up with."""
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", {})
    if failures:
        return RunError(
            f"training failed and was resumed {max_failures} times; then {describe_lost_worker(failures)}"
        )
    cause = getattr(error, "controller_failure", error)
    if isinstance(cause, RunError):
        return cause
    if isinstance(cause, OSError):  # Ray Train's own list of checkpoints
        return RunError(_refusal(run.uri(TRAIN), describe_os_error(cause)))
    return RunError(f"training failed: {type(cause).__name__}: {last_line(cause)}")


@contextmanager
def naming_storage(place: str) -> Iterator[None]:
    """Names a path or URI in the error where a storage refuses to be written to.

    Raises:
        RunError: it refuses, or is gone.
    """
    try:
        yield
    except OSError as error:
        raise RunError(_refusal(place, describe_os_error(error))) from error
    except RuntimeError as error:
        if not str(error).startswith("Unable to set up cluster storage"):  # by Ray, before each upload
            raise
        raise RunError(
            _refusal(place, "it is gone, or not there on this node; all nodes need the same storage")
        ) from error


def check_writable(run: Run) -> None:
    """Writes a file and deletes it, so that a storage that cannot be written to is found before work begins.

    Raises:
        RunError: it refuses.
    """
    name = "probe"
    run.write_bytes(bytes(4096), TRAIN, name)
    with naming_storage(run.uri(TRAIN, name)):
        delete_file(run.fs, run.path(TRAIN, name))


def _refusal(place: str, cause: object) -> str:
    return f"cannot write {place}: {cause}; mend the storage, and the same command goes on from there"


def unwrapped(error: BaseException) -> BaseException:
    """Returns the error of a Ray task, which Ray wraps in one of its own."""
    while "RayTaskError" in {kind.__name__ for kind in type(error).__mro__}:
        cause = getattr(error, "cause", None)
        if not isinstance(cause, BaseException) or cause is error:
            return error
        error = cause
    return error


def _is_infrastructure_error(error: BaseException) -> bool:
    return any(
        kind.__name__ in RETRIED.get(kind.__module__.partition(".")[0], ()) for kind in type(error).__mro__
    )


def _where(error: BaseException) -> str:
    """Returns ` at file:line` of this package's innermost frame, or nothing."""
    frames = [
        (Path(frame.filename), frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(PACKAGE)
    ]
    if not frames:
        return ""
    file, line = frames[-1]
    return f" at {file.relative_to(PACKAGE.parent)}:{line}"


def _first_words(error: BaseException) -> str:
    """Returns the first line; of an error in a graph that after the graph's own trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    trace = [i for i, line in enumerate(lines) if line.startswith(('File "', "Detected at node", "<stack"))]
    return short_line((lines[max(trace, default=-1) + 1 :] or lines)[0])

"""Job submit: submits a job with this checkout's code, follows it, and ends with its exit code."""

import os
import secrets
import shlex
import sys
from collections.abc import Iterable, Sequence

from brain_ray import logs
from brain_ray.checks.dashboard import check_dashboard
from brain_ray.checks.finding import Finding, refuse_errors
from brain_ray.checks.packages import ROOT
from brain_ray.checks.upload_size import check_upload
from brain_ray.cli import complain
from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.logs import log
from brain_ray.storage import refuse_keys_in
from brain_ray.submission import runtime_env
from brain_ray.submission.command import Order, check_paths, goes_on, read_order, read_settings
from brain_ray.submission.jobs_api import FAILURES, JobsClient, explain, find_address, open_client
from brain_ray.submission.log_follower import STOPPED, Follower, tell_end
from brain_ray.usage import UsageError


def main(purpose: str, argv: Sequence[str]) -> int:
    """Runs a command line of submit; everything but the job's log and id goes to standard error.

    Returns the exit code: the job's own, 130 if it was stopped, 1 if it could not be run or followed, 2 for a
    wrong command line.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(purpose)
        return 0 if argv else 2
    try:
        refuse_keys_in(argv)
        order = read_order(argv)
        config = read_settings(order)
    except (UsageError, RunError) as error:
        complain(error)
        return 2
    with logs.to_console(all_on_stderr=True):
        try:
            return _obey(order, config)
        except KeyboardInterrupt:
            log.error("interrupted; no job was submitted")
            return STOPPED
        except FAILURES as error:  # RunError is one of them
            if order.debug:
                raise
            log.error(str(error) if isinstance(error, RunError) else explain(error))
            return 1


def _obey(order: Order, config: Config | None) -> int:
    address = find_address(order.own.get("--address"))
    if "--follow" in order.own:
        _report(check_dashboard(address))
        client, job = open_client(address), order.own["--follow"]
        client.get_job_info(job)  # which raises, where there is none
        return _follow(client, address, job)
    if not (ROOT / "jobs").is_dir():
        raise RunError(f"brain_ray is imported from {ROOT}, which is no checkout: pip install -e . in one")
    _report([check_upload(ROOT)])
    _report(check_dashboard(address))
    _report(check_paths(config) if config else [])
    client = open_client(address)
    job = order.own.get("--id") or _make_id(order, config)
    _submit(client, address, job, order, config)
    if order.detach:
        print(job, flush=True)
        log.info(f"to follow it: {_how(job, address)}\nto stop it:   {_how_to_stop(job, address)}")
        return 0
    return _follow(client, address, job)


def _report(findings: Iterable[Finding]) -> None:
    """Prints warnings; raises `RunError` for errors."""
    found = list(findings)
    for each in found:
        if each.level == "warning":
            log.info(each.line())
    refuse_errors(found)


def _submit(client: JobsClient, address: str, job: str, order: Order, config: Config | None) -> None:
    _refuse_known(client, address, job)
    working_dir = {"working_dir": str(ROOT)}
    packages = runtime_env.decide(
        client,
        working_dir,
        ROOT,
        order.own.get("--environment", "auto"),
        runtime_env.extras_of(config),
        job,
    )
    try:
        client.submit_job(
            submission_id=job,
            entrypoint=entrypoint(order),
            runtime_env={**working_dir, **packages},
            metadata=describe(order, config),
        )
    except KeyboardInterrupt:
        raise RunError(f"interrupted while job {job} was submitted; see {_how(job, address)}") from None
    except FAILURES as error:
        raise RunError(f"cannot submit job {job} to {address}: {explain(error)}") from error
    log.info(f"job {job}: submitted to {address}")


def _refuse_known(client: JobsClient, address: str, job: str) -> None:
    try:
        status = str(client.get_job_info(job).status).lower()
    except RuntimeError as error:
        if "does not exist" in str(error):
            return
        raise
    raise RunError(f"there is a job {job} ({status}): give another --id, or follow it: {_how(job, address)}")


def entrypoint(order: Order) -> str:
    """Returns the shell command that runs the job with its words as they were given."""
    return shlex.join(["python", f"jobs/{order.job}.py", *order.words])


def describe(order: Order, config: Config | None) -> dict[str, str]:
    """Returns the job's metadata for the dashboard."""
    if config is None:
        return {"job": order.job}
    return {
        "job": order.job,
        "run": config.name,
        "recipe": "as stored with the run" if goes_on(order) else config.recipe,
    }


def _make_id(order: Order, config: Config | None) -> str:
    words = [order.job, *([config.name] if config else []), secrets.token_hex(3)]
    return "-".join(
        "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in w) for w in words
    )


def _follow(client: JobsClient, address: str, job: str) -> int:
    """Prints a job's log until its end, or until Ctrl-C; returns the exit code."""
    follower = Follower(client, job, _how(job, address))
    try:
        info = follower.follow()
    except KeyboardInterrupt:
        try:
            if not _wants_stop():
                raise
            client.stop_job(job)
            info = follower.follow()
        except KeyboardInterrupt:
            log.info(f"\njob {job}: goes on; to follow it: {_how(job, address)}")
            return STOPPED
    line, code = tell_end(job, info)
    log.info(line)
    return code


def _wants_stop() -> bool:
    if not sys.stdin.isatty():
        return False
    print("\nstop the job as well? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _how(job: str, address: str) -> str:
    return f"python jobs/submit.py --follow {job} --address {address}"


def _how_to_stop(job: str, address: str) -> str:
    mode = "RAY_AUTH_MODE=token " if os.environ.get("RAY_AUTH_MODE") == "token" else ""
    return f"{mode}ray job stop {job} --address {address}"

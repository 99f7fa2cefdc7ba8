"""Log follower: prints a submitted job's log without gaps or repeats, until the job ends."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import aiohttp

from brain_ray.errors import RunError
from brain_ray.logs import log
from brain_ray.submission.jobs_api import FAILURES, explain

STOPPED = 130
"""Exit code of a job that was stopped, and after Ctrl-C."""

SILENCE_S = 120.0
"""Seconds of silence after which the stream is opened again: a silent stream may be a dead one."""

GIVE_UP_S = 300.0
"""Seconds for which a cluster may be unreachable before its job is no longer followed."""

PAUSES_S = (1.0, 2.0, 4.0, 8.0, 10.0)
"""Seconds to wait before each attempt to reconnect; the last value repeats."""


class Printer:
    """Printer of a text that is sent from its beginning after each break; prints each character once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.printed = self._skip = 0

    def restart(self) -> None:
        """Marks the next text as the beginning."""
        self._skip = self.printed

    def take(self, text: str) -> None:
        """Prints the part of the text that has not been printed."""
        new = text[self._skip :]
        self._skip = max(0, self._skip - len(text))
        self.printed += len(new)
        if not new:
            return
        try:
            self._out.write(new)
            self._out.flush()
        except BrokenPipeError as error:
            with Path(os.devnull).open("w") as nothing:  # where the interpreter may flush at its exit
                os.dup2(nothing.fileno(), self._out.fileno())
            raise RunError("nobody reads the log any more; the job goes on") from error


class Follower:
    """Follower of one job: prints its log until its end, over as many connections as necessary."""

    def __init__(
        self,
        client: Any,
        job: str,
        how_again: str,
        out: TextIO | None = None,
        sleep: Callable[[float], None] = time.sleep,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._client, self._job, self._how_again = client, job, how_again
        self._printer = Printer(out or sys.stdout)
        self._sleep, self._silence_s = sleep, silence_s

    def follow(self) -> Any:
        """Prints the log until the job has ended; returns its `JobDetails`.

        Raises:
            RunError: the cluster no longer knows the job, or cannot be reached for `GIVE_UP_S`.
        """
        attempt = 0
        while True:
            before = self._printer.printed
            broken = asyncio.run(self._stream())
            attempt = 0 if self._printer.printed > before else attempt
            if broken and attempt == 0:
                log.info(f"the connection to the log broke ({broken}); trying again")
            info = self._job_details()
            if info.status.is_terminal() or broken is not None:
                self._catch_up()
            if info.status.is_terminal():
                return info
            if broken is not None:
                self._sleep(_pause(attempt))
                attempt += 1

    async def _stream(self) -> str | None:
        """Prints the text of one connection; returns the reason if it broke, "" at the log's end, None after
        silence."""
        self._printer.restart()
        chunks = self._client.tail_job_logs(self._job)
        try:
            while True:
                # Not wait_for, which forgets a Ctrl-C that comes together with a text (python/cpython 86296).
                async with asyncio.timeout(self._silence_s):
                    text = await anext(chunks, None)
                if text is None:
                    break
                self._printer.take(text)
        except RunError:  # of the printer
            raise
        except aiohttp.ClientError as error:  # some of them are time-outs too
            return explain(error)
        except TimeoutError:
            return None
        except FAILURES as error:
            return explain(error)
        finally:
            await chunks.aclose()
        return ""

    def _job_details(self) -> Any:
        """Returns the job's `JobDetails`, as soon as the cluster can be reached."""
        waited, attempt = 0.0, 0
        while True:
            try:
                return self._client.get_job_info(self._job)
            except FAILURES as error:
                reason = explain(error)
                if "does not exist" in reason:
                    raise RunError(
                        f"the cluster no longer knows job {self._job}: it was deleted, or the head node was "
                        "started anew"
                    ) from error
            if waited >= GIVE_UP_S:
                raise RunError(
                    f"the cluster has not answered for {waited:.0f} s ({reason}): job {self._job} ends with "
                    f"its head node; if it was the connection: {self._how_again}"
                )
            self._sleep(_pause(attempt))
            waited, attempt = waited + _pause(attempt), attempt + 1

    def _catch_up(self) -> None:
        """Prints the rest of the log so far without a stream: some proxies do not pass streams."""
        try:
            text = self._client.get_job_logs(self._job)
        except FAILURES as error:
            log.info(f"the rest of the log cannot be read: {explain(error)}")
            return
        self._printer.restart()
        self._printer.take(text)


def _pause(attempt: int) -> float:
    return PAUSES_S[min(attempt, len(PAUSES_S) - 1)]


def tell_end(job: str, info: Any) -> tuple[str, int]:
    """Returns a line about how a job ended, and the exit code."""
    seconds = ((info.end_time or info.start_time or 0) - (info.start_time or 0)) / 1000
    if info.status == "SUCCEEDED":
        return f"job {job}: succeeded after {seconds:.0f} s", 0
    if info.status == "STOPPED":
        return f"job {job}: stopped after {seconds:.0f} s", STOPPED
    code = info.driver_exit_code
    if code is None:
        return f"job {job}: failed after {seconds:.0f} s: {cause(str(info.message))}", 1
    code = code if code > 0 else 128 - code  # a negative one is the signal that killed the job
    return f"job {job}: failed with exit code {code} after {seconds:.0f} s", code


def cause(message: str) -> str:
    """Returns the line of Ray's message that says why a job could not be started."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = [line for line in lines if line.lower().startswith(("error:", "cause:"))]
    return (telling or lines or ["Ray does not say why"])[-1]

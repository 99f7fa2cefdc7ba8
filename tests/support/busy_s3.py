"""moto's S3 server, too busy for every so-many-th call; counts calls. `busy_s3.py PORT EVERY FIRST`.

A call is what Arrow asks for once. AWS' library in it tries three times by itself; a call that is refused is
so each time. The first call by each name that matches the pattern FIRST is refused too. What is to be deleted
is deleted before that is refused, as where an answer is lost.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

CALLS = "/busy/calls"
"""Path at which the calls are told: a list of names, and whether each was refused."""

AGAIN = "/busy/again"
"""Path that is asked for to have the first calls refused once more."""

WAITS_S = 0.002
"""Seconds that each request waits."""

REFUSAL = b"<Error><Code>ServiceUnavailable</Code><Message>Please try again.</Message></Error>"


class Busy:
    """A server's application, and before it what counts and refuses."""

    def __init__(self, inner: Callable[..., Iterable[bytes]], every: int, first: str) -> None:
        self._inner, self._every, self._first = inner, every, re.compile(first)
        self._calls: dict[str, tuple[str, bool]] = {}
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == CALLS:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(list(self._calls.values())).encode()]
        if environ["PATH_INFO"] == AGAIN:
            self._names.clear()
            start_response("204 No Content", [])
            return []
        name, number = _name(environ), environ.get("HTTP_AMZ_SDK_INVOCATION_ID")
        if number is None or not self._is_refused(number, name):  # a test's own requests have no number
            return self._inner(environ, start_response)
        if name.startswith("DELETE"):
            list(self._inner(environ, lambda *_: print))
        headers = [("Content-Type", "application/xml"), ("Connection", "close")]
        start_response("503 Service Unavailable", headers)
        return [REFUSAL]

    def _is_refused(self, number: str, name: str) -> bool:
        time.sleep(WAITS_S)
        with self._lock:
            if number not in self._calls:
                is_first = name not in self._names and self._first.search(name) is not None
                is_due = self._every > 0 and (len(self._calls) + 1) % self._every == 0
                self._names.add(name)
                self._calls[number] = name, is_first or is_due
            return self._calls[number][1]


def _name(environ: dict[str, Any]) -> str:
    """Returns a call's name: its method, bucket and key; of a listing, LIST and what is listed."""
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if "list-type" in query:
        # By a listing of one name, Arrow asks whether there is a folder.
        method = "HEAD" if query.get("max-keys") == ["1"] else "LIST"
        path = f"{path.rstrip('/')}/{query.get('prefix', [''])[0]}"
    return f"{'DELETE' if 'delete' in query else method} {path}"


def main(port: str, every: str, first: str) -> None:
    from moto.moto_server import werkzeug_app as moto
    from werkzeug.serving import run_simple

    app = Busy(moto.DomainDispatcherApplication(moto.create_backend_app), int(every), first)
    run_simple("127.0.0.1", int(port), app, threaded=True, request_handler=moto.MotoRequestHandler)


if __name__ == "__main__":
    main(*sys.argv[1:])

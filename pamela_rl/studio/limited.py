"""What strangers send is read in a process that can do little: bounded memory and time, no files written, nothing inherited.

The parent writes a request a line of JSON with so many bytes behind it, and reads as much back. A process that dies or
takes too long costs the one request it was at.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import IO, Any

SECONDS = 20  # of computing, for one request
PATIENCE = 90  # seconds by the clock: the machine may be busy with a training

Answer = Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]


class Gone(Exception):
    """The process ended, or was ended, before it had answered."""


class LimitedProcess:
    """A process of a module that calls :func:`answer_all`; started when it is first asked, and again after it has gone.

    Args:
        module: Its name.
        seconds: By the clock, for one request.
    """

    def __init__(self, module: str, seconds: float = PATIENCE):
        self.module, self.seconds = module, seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LimitedProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, request: dict[str, Any], data: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Return what the process answers.

        Raises:
            Gone: It did not.
        """
        if self._process is None:
            kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env={**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            )  # fmt: skip
        asked, answered = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answered is not None
        watch = threading.Timer(self.seconds, self._process.kill)
        watch.start()
        try:
            _write(asked, request, data)
            return _read(answered)
        except (OSError, ValueError) as error:
            self._end()
            raise Gone from error
        finally:
            watch.cancel()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def answer_all(answer: Answer, megabytes: int, seconds: int = SECONDS) -> None:
    """Answer requests from standard input until it ends, within limits; what the module needs is imported before.

    Args:
        answer: From a request and its bytes to an answer and its bytes.
        megabytes: Of memory, all together.
        seconds: Of computing, for one request.
    """
    for limit, value in (
        (resource.RLIMIT_AS, megabytes * 2**20),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # macOS has no limit of addresses
            resource.setrlimit(limit, (value, value))
    asked, answered = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints
    while True:
        try:
            request, data = _read(asked)
        except ValueError:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        until = int(used.ru_utime + used.ru_stime) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        _write(answered, *answer(request, data))


def _write(stream: IO[bytes], head: dict[str, Any], data: bytes) -> None:
    stream.write(json.dumps({**head, "bytes": len(data)}).encode() + b"\n")
    stream.write(data)
    stream.flush()


def _read(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Return a message; a ValueError says that there is no whole one."""
    head = json.loads(stream.readline())
    data = stream.read(head["bytes"])
    if len(data) < head["bytes"]:
        raise ValueError("it ends early")
    return head, data

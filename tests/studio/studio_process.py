"""A studio in a process of its own, as people start it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "recipes" / "studio.py"


class StudioProcess:
    """The recipe, running.

    Attributes:
        address: Where it serves.
    """

    def __init__(self, folder: Path, *flags: str):
        self._process = subprocess.Popen(
            [sys.executable, str(RECIPE), "--folder", str(folder), "--port", "0", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("The studio is at "):
            raise AssertionError(line + self._process.communicate()[1])
        self.address = line.split()[-1].rstrip("/")

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._process.kill()
        self._process.communicate()

    def stop(self) -> int:
        """Ask it to stop, and return its exit status."""
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=60)
        return self._process.returncode


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[StudioProcess]:
    """Give a studio, killed at the block's end if it still runs."""
    studio = StudioProcess(folder, *flags)
    try:
        yield studio
    finally:
        studio.kill()

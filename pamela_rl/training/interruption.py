"""Stop requests: SIGTERM from a scheduler and Ctrl-C, handled at once or when a write has finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, ClassVar

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequested(BaseException):
    """Raised where the signal found the program; not an ``Exception``, so that nothing swallows it by mistake.

    Attributes:
        signal: Its name.
    """

    def __init__(self, signal: str):
        super().__init__(signal)
        self.signal = signal


class StopRequests:
    """While entered, turns the first SIGTERM or Ctrl-C into ``StopRequested``; a second kills as usual.

    Signals reach the main thread alone; entered in another, it receives none, nor inside one that only notes them.

    Args:
        noted: Only note the signal, for whoever asks ``pending``.

    Attributes:
        requested: Name of the signal that came, or None.
    """

    _noting: ClassVar[bool] = False

    def __init__(self, noted: bool = False) -> None:
        self._noted = noted
        self.requested: str | None = None
        self._held = noted
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequests:
        if threading.current_thread() is threading.main_thread() and not StopRequests._noting:
            StopRequests._noting = self._noted
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if self._noted:
            StopRequests._noting = False

    def pending(self) -> StopRequested | None:
        """Return what would have been raised."""
        return StopRequested(self.requested) if self.requested else None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Defer a stop request inside the block to its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.requested:
            raise StopRequested(self.requested)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name
        self._restore()
        if not self._held:
            raise StopRequested(self.requested)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

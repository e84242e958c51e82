"""How often somebody may ask: each has so much at once, and gets so much back a second."""

from __future__ import annotations

import threading
import time

# most at once, and how many come back a second
RATES = {
    "request": (600, 100.0),  # of an address
    "change": (120, 10.0),  # of a person
    "heavy": (20, 0.2),  # of a person: uploads, imports, exports
    "sign-in": (10, 1 / 6),  # of an address, and of the person a token claims to be of
}
MOST_KEPT = 10_000


class Rates:
    """Who has asked how much lately; of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, kind: str, who: str) -> float:
        """Take one; return 0, or how many seconds to wait where there is none.

        Args:
            kind: One of ``RATES``.
            who: An address or a person.
        """
        most, refill = RATES[kind]
        at = time.monotonic()
        with self._lock:
            left, since = self._left.get((kind, who), (float(most), at))
            left = min(most, left + (at - since) * refill)
            self._left[kind, who] = (left - 1 if left >= 1 else left, at)
            if len(self._left) > MOST_KEPT:
                self._forget(at)
        return 0.0 if left >= 1 else (1 - left) / refill

    def _forget(self, at: float) -> None:
        """Forget who has everything back, and where that is nobody, who asked longest ago."""
        for key, (left, since) in list(self._left.items()):
            most, refill = RATES[key[0]]
            if left + (at - since) * refill >= most:
                del self._left[key]
        for key in sorted(self._left, key=lambda key: self._left[key][1])[: max(0, len(self._left) - MOST_KEPT // 2)]:
            del self._left[key]

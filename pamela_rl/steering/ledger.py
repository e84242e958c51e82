"""What was bought of a service, on disk, so that a budget holds over restarts, threads and processes."""

from __future__ import annotations

import json
import math
import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pamela_rl.errors import BudgetError, ConfigError

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Budget:
    """The most that may be bought, over all runs that share a folder.

    Attributes:
        max_images: Pictures paid for, broken ones included.
        price_per_image: What one picture costs, in ``currency``.
        max_cost: In ``currency``.
        currency: For sentences and the record.
    """

    max_images: int
    price_per_image: float
    max_cost: float
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name in ("max_images", "price_per_image", "max_cost"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"budget.{name} is {value}; it must be a finite number of at least 0.")


@dataclass(frozen=True)
class Spent:
    """What was bought so far.

    Attributes:
        images: Pictures paid for.
        cost: Their prices when they were bought, added up.
    """

    images: int
    cost: float


class Ledger:
    """An append-only file of JSON lines: a picture is written down before it is asked for, and struck out if refused.

    A process that dies in between has written one picture too many, never one too few. A line that cannot be read,
    as a full disk leaves, counts as one picture at today's price.

    Args:
        path: The file; its folder must exist.
        budget: What must not be exceeded.
    """

    def __init__(self, path: Path, budget: Budget):
        self.path, self.budget = path, budget
        self._costs: dict[str, float] = {}
        self._position = 0
        self._thread_lock = threading.Lock()
        self._file_lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)

    @property
    def spent(self) -> Spent:
        """What was bought so far, by whatever process."""
        with self._thread_lock, self._file_lock:
            return self._read()

    def charge(self) -> Callable[[], None]:
        """Write down one picture, for good once this returns; calling the result strikes it out.

        Raises:
            BudgetError: It would exceed the budget; nothing is written.
        """
        with self._thread_lock, self._file_lock:
            spent, price = self._read(), self.budget.price_per_image
            if spent.images + 1 > self.budget.max_images or spent.cost + price > self.budget.max_cost + _ROUNDING:
                raise BudgetError(self._exceeded(spent))
            number = uuid.uuid4().hex
            self._append({"bought": number, "cost": price, "currency": self.budget.currency})
        return lambda: self._strike(number)

    def _strike(self, number: str) -> None:
        with self._thread_lock, self._file_lock:
            self._append({"struck": number})

    def _exceeded(self, spent: Spent) -> str:
        budget, currency = self.budget, self.budget.currency
        return (
            f"the budget is spent: {spent.images} pictures of {budget.max_images} and {spent.cost:g} {currency} of "
            f"{budget.max_cost:g} are used, and the next costs {budget.price_per_image:g} {currency}; raise "
            f"budget.max_images or budget.max_cost, or ask for pictures that are cached already ({self.path} counts)."
        )

    def _read(self) -> Spent:
        """Take in what was appended since, by this process or another."""
        if self.path.exists():
            with self.path.open("rb") as stream:
                stream.seek(self._position)
                for line in stream:
                    self._take(line, f"unreadable at {self._position}")
                    self._position += len(line)
        return Spent(len(self._costs), math.fsum(self._costs.values()))

    def _take(self, line: bytes, otherwise: str) -> None:
        if not line.strip():  # the end of a torn line, closed by another process
            return
        try:
            entry = json.loads(line)
            if "struck" in entry:
                self._costs.pop(entry["struck"], None)
            else:
                self._costs[str(entry["bought"])] = float(entry["cost"])
        except (ValueError, TypeError, KeyError):
            self._costs[otherwise] = self.budget.price_per_image

    def _append(self, entry: dict[str, object]) -> None:
        with self.path.open("a+b") as stream:
            stream.seek(0, os.SEEK_END)
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    stream.write(b"\n")
            stream.write(json.dumps(entry).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

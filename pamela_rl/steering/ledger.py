"""A ledger on disk of the images paid for, so that a budget holds over restarts, threads and processes."""

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
    """Limits on images and cost, over all runs that share a folder.

    Attributes:
        max_images: Images paid for, invalid ones included.
        price_per_image: In ``currency``.
        max_cost: In ``currency``.
        currency: For messages and the ledger.
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
    """Images and cost so far.

    Attributes:
        images: Images paid for.
        cost: Sum of their prices when they were charged.
    """

    images: int
    cost: float


class Ledger:
    """An append-only file of JSON lines: an image is charged before it is requested, and refunded if refused.

    A process that dies in between has charged one image too many, never one too few. A line that cannot be read, as a
    full disk leaves, counts as one image at the current price.

    Args:
        path: The file; its folder must exist.
        budget: Its limits.
    """

    def __init__(self, path: Path, budget: Budget):
        self.path, self.budget = path, budget
        self._costs: dict[str, float] = {}
        self._position = 0
        self._thread_lock = threading.Lock()
        self._file_lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)

    @property
    def spent(self) -> Spent:
        """Images and cost so far, over all processes."""
        with self._thread_lock, self._file_lock:
            return self._read()

    def charge(self) -> Callable[[], None]:
        """Charge one image, durably; calling the result refunds it.

        Raises:
            BudgetError: It would exceed the budget; nothing is written.
        """
        with self._thread_lock, self._file_lock:
            spent, price = self._read(), self.budget.price_per_image
            if spent.images + 1 > self.budget.max_images or spent.cost + price > self.budget.max_cost + _ROUNDING:
                raise BudgetError(self._over_budget_message(spent))
            charge_id = uuid.uuid4().hex
            self._append({"charged": charge_id, "cost": price, "currency": self.budget.currency})
        return lambda: self._refund(charge_id)

    def _refund(self, charge_id: str) -> None:
        with self._thread_lock, self._file_lock:
            self._append({"refunded": charge_id})

    def _over_budget_message(self, spent: Spent) -> str:
        budget, currency = self.budget, self.budget.currency
        return (
            f"the budget is spent: {spent.images} pictures of {budget.max_images} and {spent.cost:g} {currency} of "
            f"{budget.max_cost:g} are used, and the next costs {budget.price_per_image:g} {currency}; raise "
            f"budget.max_images or budget.max_cost, or ask for pictures that are cached already ({self.path} counts)."
        )

    def _read(self) -> Spent:
        """Read the lines appended since the last read, by any process."""
        if self.path.exists():
            with self.path.open("rb") as stream:
                stream.seek(self._position)
                for line in stream:
                    self._apply(line, f"unreadable at {self._position}")
                    self._position += len(line)
        return Spent(len(self._costs), math.fsum(self._costs.values()))

    def _apply(self, line: bytes, fallback_id: str) -> None:
        if not line.strip():  # the end of a torn line, closed by another process
            return
        try:
            entry = json.loads(line)
            if "refunded" in entry:
                self._costs.pop(entry["refunded"], None)
            else:
                self._costs[str(entry["charged"])] = float(entry["cost"])
        except (ValueError, TypeError, KeyError):
            self._costs[fallback_id] = self.budget.price_per_image

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

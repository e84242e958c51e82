"""The record of a run: one JSON line an iteration, and a progress bar with the main metrics."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from pamela_rl.storage import read_metrics, write_text, writing

_SHOWN = {
    "rollout/reward_mean": "reward",
    "rollout/judge_mean": "judge",
    "train/kl_to_reference": "KL",
    "time/images_per_second": "images/s",
}


class RunLog:
    """Writes a file of JSON lines; only the main process of a run writes."""

    def __init__(
        self,
        path: Path,
        done: int,
        enabled: bool,
        show: Callable[[Mapping[str, float], int], None] | None = None,
        shared_bar: Any = None,
    ):
        """Open the log of a run with ``done`` completed iterations; rows of later ones, not in the checkpoint, are dropped.

        Args:
            path: Of the file.
            done: Iterations.
            enabled: Whether this process writes.
            show: Also receives each iteration's metrics and number, e.g. for a tracker.
            shared_bar: A tqdm bar of several people's iterations, in place of a bar of its own.
        """
        self._path, self._enabled, self._show = path, enabled, show
        self._bar: Any = shared_bar
        self._shared = shared_bar is not None
        self._started = time.monotonic()
        self.rows = [row for row in read_metrics(path) if row["iteration"] < done]
        if enabled:
            with writing("the record", path):
                write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def iterations(self, first: int, count: int, title: str) -> Iterator[int]:
        """Yield iteration numbers under a progress bar."""
        numbers: Any = range(first, count)
        if not self._shared:
            numbers = self._bar = tqdm(
                numbers, initial=first, total=count, desc=title, unit="it", disable=not self._enabled
            )
        for iteration in numbers:
            self._started = time.monotonic()
            yield iteration
            if self._shared:
                self._bar.update()

    def say(self, text: str) -> None:
        """Print a line above the progress bar, on the main process."""
        if self._enabled:
            tqdm.write(text)

    def log(self, iteration: int, metrics: Mapping[str, float], num_images: int = 0) -> None:
        """Append one iteration's metrics; values that are not finite are written as null.

        Args:
            iteration: Its number.
            metrics: By name.
            num_images: Images sampled since the iteration began, for the throughput; 0 logs none.
        """
        if num_images:
            seconds = time.monotonic() - self._started
            metrics = {**metrics, "time/seconds": seconds, "time/images_per_second": num_images / seconds}
        row: dict[str, Any] = {"iteration": iteration}
        row |= {k: float(f"{v:.8g}") if math.isfinite(v) else None for k, v in metrics.items()}
        self.rows.append(row)
        if self._enabled:
            with writing("the record", self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if self._show is not None:
            self._show(metrics, iteration)
        if self._bar is not None and not self._shared:
            self._bar.set_postfix_str(
                " ".join(f"{label} {metrics[name]:.3g}" for name, label in _SHOWN.items() if name in metrics)
            )

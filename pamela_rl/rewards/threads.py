"""Threads by the work there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

MOST_THREADS = 4  # of a fit, whose operations are small: more threads wait for each other longer than they work


@contextmanager
def few_threads() -> Iterator[None]:
    """Use at most four threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, MOST_THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before)

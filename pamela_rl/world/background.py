"""Work of its own in a process of its own, while this one goes on."""

from __future__ import annotations

import atexit
import multiprocessing
import os
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import Any

import torch

from pamela_rl.rewards.threads import MOST_THREADS

LEAST_CORES = 2


def in_background(work: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    """Start work in a process beside this one; from now on each has half of the threads, and at most four.

    Small operations leave a second thread idle much of the time; a second process does not.

    Args:
        work: A function of a module; what it prints as progress is not shown.
        arguments: Its own.

    Returns:
        Waits for the end, and gives this process its threads back; if the other one failed, the work is done here.
    """
    threads = torch.get_num_threads()
    if threads < LEAST_CORES:
        return lambda: work(*arguments)
    each = min(threads // 2, MOST_THREADS)
    torch.set_num_threads(each)
    beside = multiprocessing.get_context("spawn").Process(target=_run, args=(each, work, arguments), daemon=True)
    beside.start()
    atexit.register(beside.kill)

    def wait() -> None:
        beside.join()
        torch.set_num_threads(threads)
        if beside.exitcode:
            work(*arguments)

    return wait


def _run(threads: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    with open(os.devnull, "w") as nobody, redirect_stderr(nobody):
        work(*arguments)

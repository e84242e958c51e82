"""People shared out over processes and machines: each worker takes the next who is free, from the run's own folder.

People share nothing, so no gradient travels; whoever has a person holds a lock on their folder, which ends with the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pamela_rl.errors import ConfigError, PamelaError

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Worker:
    """One of several processes that work through the same people.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1


ALONE = Worker()


def launched() -> Worker:
    """Return which of a launcher's processes this is: of ``accelerate launch`` or ``torchrun``; the only one without."""
    return Worker(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def part_from_the_others() -> Worker:
    """Make a launcher's process one of its own, with a card of its own, before torch or accelerate look for the others."""
    worker, local = launched(), int(os.environ.get("LOCAL_RANK", "0"))
    cards = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = cards.split(",") if cards else [str(card) for card in range(local + 1)]
    os.environ["CUDA_VISIBLE_DEVICES"] = known[local % len(known)] if cards != "" else ""
    for name in _LAUNCHED:
        os.environ.pop(name, None)
    return worker


def work_with_ray(address: str, work: Callable[[Worker], None]) -> None:
    """Let every card of a Ray cluster work through the people, or every core where there is no card; retried if one dies.

    Args:
        address: Of the cluster; "auto" takes the one that is running, or starts one on this machine.
        work: What each worker does; it and the run's folder must be there on every machine.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
        PamelaError: As ``work`` raises it.
    """
    try:
        import ray  # an extra
    except ImportError as error:
        raise ConfigError("ray is set, but Ray is not installed: pip install 'pamela_rl[ray]'.") from error
    try:
        _connect(ray, address)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address} ({error}); start one with: ray start --head."
        ) from error
    cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cards, cores = int(cluster.get("GPU", 0)), int(cluster.get("CPU", 1))
    count = cards or cores

    def people(rank: int) -> None:
        work(Worker(rank, count))

    # max_retries counts deaths of workers and nodes; an error of the work itself is raised here at once
    task = ray.remote(num_cpus=max(1, cores // count), num_gpus=1 if cards else 0, max_retries=-1)(people)
    try:
        ray.get([task.remote(rank) for rank in range(count)])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PamelaError):
            raise error.cause from error
        raise
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": True, "runtime_env": {"env_vars": {"TQDM_DISABLE": "1"}}}  # no bars of many at once
    try:
        ray.init(address=address, **quiet)
    except ConnectionError:
        if address != "auto":
            raise
        ray.init(include_dashboard=False, **quiet)  # none runs: one of its own

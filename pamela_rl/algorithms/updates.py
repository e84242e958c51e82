"""The optimizer steps of one iteration, for any loss: shuffled pairs, micro-batches, summed gradients, mean metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat

import torch
from accelerate import Accelerator
from torch import Tensor

from pamela_rl.algorithms.algorithm import Algorithm
from pamela_rl.algorithms.gradients import GradientSum, sum_dtype
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.minibatches import MicroBatch, micro_batches, shuffled_slots
from pamela_rl.errors import ConfigError

RATIO_ERROR = "ratio_error"
MISMATCH = "train/sampling_mismatch"  # largest distance of a ratio from 1 before the iteration's first update
KL_WEIGHT = "kl_weight"
PairLoss = Callable[[MicroBatch, bool], tuple[Tensor, Mapping[str, Tensor]]]


def take_updates(
    algorithm: Algorithm,
    learner: Learner,
    experience: Experience,
    loss: PairLoss,
    metrics: Sequence[str] = (),
    distance: str | None = None,
) -> dict[str, float]:
    """Take one iteration's optimizer steps on the adapter.

    An update whose gradient is not finite is skipped and counted. With a ``kl_target`` the weight of the distance to
    the reference is doubled after an iteration whose mean distance is above 1.5 times the target, and halved where it is
    below the target by as much (PPO, arXiv:1707.06347, section 4), but stays between ``kl_weight`` and a hundred times it: the
    distance is to the base model, so it begins at zero, and a weight that fell meanwhile would rise too late.

    Args:
        algorithm: Its settings.
        learner: Of the run.
        experience: Of the iteration.
        loss: Maps a micro-batch, and whether it is the update's first, to the loss of each of its rows, ``(n,)``, and to
            metrics of them, ``(n,)`` each, of which some may be left out and NaN does not count; rows outside the mask are
            left out here. ``ratio_error``, the distance of each ratio from 1, is one of them or absent. The loss itself
            adds the distance to the reference times ``kl_weight``.
        metrics: Their names.
        distance: Which of them is the distance to the reference; None for an algorithm that measures none.

    Returns:
        Means over the iteration, keyed ``train/…``; ``train/sampling_mismatch`` is before the first update.

    Raises:
        ConfigError: There is a ``kl_target`` but no distance.
    """
    config, accelerator, device = learner.config, learner.accelerator, learner.policy.device
    if algorithm.kl_target and distance is None:
        raise ConfigError(
            f"{algorithm.name}'s kl_target is {algorithm.kl_target}, but it computes no distance to the reference; leave it 0."
        )
    ids, names = experience.trajectory.image_ids, ("loss", *metrics)
    log, skipped = _Log(names, device), 0
    norms: list[Tensor] = []
    for inner_epoch in range(algorithm.num_inner_epochs):
        key = (config.seed, experience.iteration, inner_epoch)
        slots = shuffled_slots(ids, algorithm.pairs_per_image(config), *key)
        for update in range(algorithm.num_updates):
            gradients = GradientSum(learner.weights)
            log.begin()
            _accumulate(algorithm, learner, experience, slots, update, loss, log, gradients)
            gradients.reduce(accelerator)
            norm = torch.nn.utils.clip_grad_norm_(learner.weights, algorithm.max_grad_norm)
            rate = _set_rate(algorithm, learner, experience.iteration, len(norms))
            if norm.isfinite():  # the CPU waits here, once an update
                learner.optimizer.step()
            else:
                skipped += 1
            learner.optimizer.zero_grad(set_to_none=True)
            norms.append(norm)
    updates = len(norms)
    stats = log.means(accelerator) | {"train/grad_norm": float(torch.stack(norms).mean())}
    stats |= {} if rate is None else {"train/learning_rate": rate}
    if algorithm.kl_target:
        weight = stats[f"train/{KL_WEIGHT}"] = kl_weight(algorithm, learner)
        if skipped < updates:
            learner.scalars[KL_WEIGHT] = adapted_weight(algorithm, weight, stats[f"train/{distance}"])
    return stats | {"train/updates": float(updates), "train/skipped_updates": float(skipped)}


def _set_rate(algorithm: Algorithm, learner: Learner, iteration: int, update: int) -> float | None:
    """Set the learning rate of an update from its number in the run alone; return it, or None where it never changes."""
    settings, per_iteration = algorithm.optimizer_settings, algorithm.steps_per_iteration
    groups = learner.optimizer.param_groups
    if settings.changes_rate:
        steps = learner.config.num_iterations * per_iteration
        share = settings.rate_share(iteration * per_iteration + update, steps)
        for group in groups:
            group["lr"] = algorithm.learning_rate * share
    found = "d" in groups[0]  # Prodigy's own estimate
    return float(groups[0]["lr"] * groups[0].get("d", 1.0)) if settings.changes_rate or found else None


class _Log:
    """An iteration's metrics; they stay on the device until its end, so that nobody waits for them.

    Args:
        names: Of the metrics.
        device: Where they are computed.
    """

    def __init__(self, names: Sequence[str], device: torch.device):
        self._names, self._dtype, self._device = names, sum_dtype(device), device
        self._sums: list[Tensor] = []  # of each update: sums and counts, (names, 2)
        self._error = torch.full((), -1.0, device=device)  # of the first update alone

    def begin(self) -> None:
        """Begin an update."""
        self._sums.append(torch.zeros(len(self._names), 2, dtype=self._dtype, device=self._device))

    @torch.no_grad()
    def add(self, values: Mapping[str, Tensor], mask: Tensor) -> None:
        """Add a micro-batch's metrics, ``(n,)`` each, of the rows in its mask."""
        rows = []
        for name in self._names:
            value = (
                values[name].to(self._dtype) if name in values else mask.new_full((1,), torch.nan, dtype=self._dtype)
            )
            counts = mask & (~value.isnan() | (name == "loss"))
            rows.append(torch.stack([torch.where(counts, value, 0).sum(), counts.sum().to(self._dtype)]))
        self._sums[-1] += torch.stack(rows)
        if RATIO_ERROR in values and len(self._sums) == 1:
            self._error = torch.maximum(self._error, torch.where(mask, values[RATIO_ERROR], -1.0).max())

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Return each metric's mean over all processes' pairs, keyed ``train/…``, averaged over updates."""
        sums = accelerator.reduce(torch.stack(self._sums), reduction="sum")
        means = (sums[..., 0] / sums[..., 1].clamp(min=1)).mean(dim=0).tolist()
        worst = float(accelerator.gather(self._error.reshape(1)).max())
        found = {f"train/{name}": mean for name, mean in zip(self._names, means, strict=True)}
        return found if worst == -1.0 else found | {MISMATCH: worst}


def kl_weight(algorithm: Algorithm, learner: Learner) -> float:
    """Return the current weight of the distance to the reference."""
    return learner.scalars.get(KL_WEIGHT, algorithm.kl_weight)


def adapted_weight(algorithm: Algorithm, weight: float, distance: float) -> float:
    """Double or halve the weight where the distance is far from the target, within one and a hundredfold."""
    if distance > 1.5 * algorithm.kl_target:
        return min(2 * weight, 100 * algorithm.kl_weight)
    return max(weight / 2, algorithm.kl_weight) if distance < algorithm.kl_target / 1.5 else weight


def _accumulate(
    algorithm: Algorithm,
    learner: Learner,
    experience: Experience,
    slots: Tensor,
    update: int,
    loss: PairLoss,
    log: _Log,
    gradients: GradientSum,
) -> None:
    """Accumulate this process's part of one update's gradient."""
    config, policy = learner.config, learner.policy
    num_pairs = config.images_per_iteration * slots.shape[1] // algorithm.num_updates
    batches = micro_batches(
        experience.trajectory.image_ids, slots, config.images_per_iteration, update, algorithm.num_updates,
        min(config.batch_size, len(slots)), policy.device, policy.sharded,
    )  # fmt: skip
    for first, batch in zip(chain([True], repeat(False)), batches):
        losses, values = loss(batch, first)
        policy.backward(torch.where(batch.mask, losses, 0.0).sum() / num_pairs)
        gradients.add()
        log.add({"loss": losses.detach(), **values}, batch.mask)

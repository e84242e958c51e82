"""The optimizer steps of one iteration, for any loss: shuffled pairs, micro-batches, summed gradients, mean metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch
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
        loss: Maps a micro-batch, and whether it is the update's first, to the loss of each pair in its mask, ``(n,)``,
            and to metrics of them, ``(m,)`` each; ``ratio_error``, the distance of each ratio from 1, is one of them
            or absent. The loss itself adds the distance to the reference times ``kl_weight``.
        metrics: Their names.
        distance: Which of them is the distance to the reference; None for an algorithm that measures none.

    Returns:
        Means over the iteration, keyed ``train/…``; ``train/sampling_mismatch`` is before the first update.

    Raises:
        ConfigError: There is a ``kl_target`` but no distance.
    """
    weights, config = learner.weights, learner.config
    if algorithm.kl_target and distance is None:
        raise ConfigError(
            f"{algorithm.name}'s kl_target is {algorithm.kl_target}, but it computes no distance to the reference; leave it 0."
        )
    totals: dict[str, float] = defaultdict(float)
    updates = skipped = 0
    for inner_epoch in range(algorithm.num_inner_epochs):
        slots = shuffled_slots(
            experience.trajectory.image_ids,
            algorithm.pairs_per_image(config),
            config.seed,
            experience.iteration,
            inner_epoch,
        )
        for update in range(algorithm.num_updates):
            gradients = GradientSum(weights)
            means = _accumulate(algorithm, learner, experience, slots, update, loss, metrics, gradients)
            gradients.reduce(learner.accelerator)
            if updates == 0 and RATIO_ERROR in means:
                totals[MISMATCH] = means[RATIO_ERROR]
            norm = torch.nn.utils.clip_grad_norm_(weights, algorithm.max_grad_norm)
            if norm.isfinite():
                learner.optimizer.step()
            else:
                skipped += 1
            learner.optimizer.zero_grad(set_to_none=True)
            updates += 1
            for name in ("loss", *metrics):
                totals[f"train/{name}"] += means[name]
            totals["train/grad_norm"] += float(norm)
    stats = {k: v if k == MISMATCH else v / updates for k, v in totals.items()}
    if algorithm.kl_target:
        weight = stats[f"train/{KL_WEIGHT}"] = kl_weight(algorithm, learner)
        if skipped < updates:
            learner.scalars[KL_WEIGHT] = adapted_weight(algorithm, weight, stats[f"train/{distance}"])
    return stats | {"train/updates": float(updates), "train/skipped_updates": float(skipped)}


def kl_weight(algorithm: Algorithm, learner: Learner) -> float:
    """Return the current weight of the distance to the reference."""
    return learner.scalars.get(KL_WEIGHT, algorithm.kl_weight)


def uses_reference(algorithm: Algorithm, learner: Learner, first: bool) -> bool:
    """Tell whether to compute the reference: always where it has weight, else once an update as a metric."""
    return algorithm.kl_weight > 0 or learner.policy.sharded or first


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
    metrics: Sequence[str],
    gradients: GradientSum,
) -> dict[str, float]:
    """Accumulate this process's part of one update's gradient; return each metric's mean over all processes' pairs."""
    config, accelerator = learner.config, learner.accelerator
    rows = min(config.batch_size, len(slots))
    num_pairs = config.images_per_iteration * slots.shape[1] // algorithm.num_updates
    dtype = sum_dtype(slots.device)
    sums = torch.zeros(len(metrics) + 1, 2, dtype=dtype, device=slots.device)
    error = torch.full((), -1.0, device=slots.device)
    first = True
    for batch in micro_batches(
        experience.trajectory.image_ids, slots, config.images_per_iteration, update, algorithm.num_updates, rows,
        learner.policy.sharded,
    ):  # fmt: skip
        losses, values = loss(batch, first)
        learner.policy.backward(losses.sum() / num_pairs)
        gradients.add()
        first = False
        with torch.no_grad():
            logged = [losses, *(values[name] for name in metrics)]
            sums += torch.stack([torch.stack([v.to(dtype).sum(), v.new_tensor(len(v)).to(dtype)]) for v in logged])
            if RATIO_ERROR in values:
                error = torch.cat([error[None], values[RATIO_ERROR]]).max()
    sums = accelerator.reduce(sums, reduction="sum")
    means = dict(zip(("loss", *metrics), (sums[:, 0] / sums[:, 1].clamp(min=1)).tolist()))
    worst = float(accelerator.gather(error.reshape(1)).max())
    return means if worst == -1.0 else means | {RATIO_ERROR: worst}

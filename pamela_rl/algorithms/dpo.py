"""Diffusion-DPO: learn from pairs which image to make more likely than which, without a reward (arXiv:2311.12908)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

from pamela_rl.algorithms.algorithm import Algorithm, Footprint, LearnsFrom, require
from pamela_rl.algorithms.forward_process import NoisedImages
from pamela_rl.algorithms.learner import Experience, Learner
from pamela_rl.algorithms.minibatches import MicroBatch
from pamela_rl.algorithms.updates import take_updates
from pamela_rl.config import TrainConfig

_METRICS = ("accuracy", "reference_mse")


@dataclass(frozen=True)
class DPO(Algorithm):
    """Diffusion-DPO on pairs from choices or from ratings; no image is sampled and no reward is asked.

    Both images of a pair get the same noise at the same level, and how much better than the base the adapter predicts
    it on the preferred one is compared (equation 14). Images of a pair may have different prompts.

    Attributes:
        beta: Weight of the comparison, the paper's beta times T; larger stays nearer to the base.
    """

    needs_noise: ClassVar[bool] = False
    learns_from: ClassVar[LearnsFrom] = "pairs"
    takes_dropout: ClassVar[bool] = True

    learning_rate: float = 1e-5
    weight_decay: float = 1e-2
    num_updates: int = 1
    beta: float = 5000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, f"dpo's beta is {self.beta}; use a positive one, e.g. 2000 or 5000.")
        require(not self.kl_weight, f"dpo's kl_weight is {self.kl_weight}, but beta holds it at the base; leave it 0.")

    def check(self, config: TrainConfig) -> None:
        """Refuse a run it cannot learn from.

        Raises:
            ConfigError: Names what does not fit and what would.
        """
        super().check(config)
        for name in ("images_per_iteration", "batch_size"):
            value = getattr(config, name)
            require(
                value % 2 == 0,
                f"{name} is {value}, but dpo learns from pairs of images; use {value + 1}{f' or {value - 1}' if value > 1 else ''}.",
            )
        pairs = config.images_per_iteration // 2
        require(
            pairs % self.num_updates == 0,
            f"dpo's num_updates is {self.num_updates} but an iteration has {pairs} pairs, which do not divide; use 1.",
        )

    def pairs_per_image(self, config: TrainConfig) -> int:
        """An image is trained at one noise level."""
        return 1

    def footprint(self, config: TrainConfig) -> Footprint:
        """The clean latents are kept, their noise, and the base model's prediction."""
        return Footprint(latents_per_image=4, predictions_per_pair=1)

    def update(self, learner: Learner, experience: Experience) -> dict[str, float]:
        """Take the iteration's optimizer steps."""
        noised = NoisedImages.of(self, learner, experience, in_pairs=True)
        signs = experience.advantages.sign()  # 0 where a control experiment has none
        base = learner.predict_all(experience, noised.schedule, noised.latents, noised.levels, None)

        def loss(batch: MicroBatch, first: bool) -> tuple[Tensor, Mapping[str, Tensor]]:
            noisy, step, target = noised.rows(batch)
            reference = base[batch.image, batch.slot]
            now = learner.predict(experience, noised.schedule, noisy, step, batch.image)
            better = _mse(reference, target) - _mse(now, target)  # than the base, ``(n,)``
            margin = (signs[batch.image] * better).view(-1, 2).sum(dim=1)
            losses = -logsigmoid(0.5 * self.beta * margin).repeat_interleave(2)  # the half as in the paper's code
            right = (margin > 0).float().repeat_interleave(2)
            metrics = {"accuracy": right, "reference_mse": _mse(now, reference)}
            return losses, {name: values.detach() for name, values in metrics.items()}

        return take_updates(self, learner, experience, loss, _METRICS)


def _mse(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).mean(dim=1)

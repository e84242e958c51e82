"""The content judge: a classifier of what a picture shows, trained on scenes and never used as a reward."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pamela_rl.storage import WORLD_ASSETS, write_tensors
from pamela_rl.types import RewardOutput, Unit
from pamela_rl.world.captions import parse_prompt
from pamela_rl.world.corruptions import corrupt, soften, vary_tone
from pamela_rl.world.fitting import fit
from pamela_rl.world.scenes import ATTRIBUTES, SUBJECTS, Scene
from pamela_rl.world.settings import FitSettings

CHOICES: dict[str, tuple[str, ...]] = {"subject": SUBJECTS, **ATTRIBUTES, "condition": ("intact", "corrupted")}


class ContentJudge(nn.Module):
    """A small convolutional classifier of subject, attributes and condition (intact or corrupted)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = (3, 24, 48, 96, 128)
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, 128), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(128, len(values)) for name, values in CHOICES.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of every choice.

        Args:
            images: RGB in [0, 1], ``(b, 3, 64, 64)``.

        Returns:
            ``(b, number of values)`` under ``subject``, each attribute, and ``condition``.
        """
        hidden = self.trunk(images * 2 - 1)
        return {name: head(hidden) for name, head in self.heads.items()}

    @torch.no_grad()
    def classify(self, images: Tensor) -> dict[str, list[str]]:
        """Return the most probable value of every choice for each picture."""
        return {n: [CHOICES[n][int(i)] for i in logits.argmax(dim=1)] for n, logits in self(images).items()}

    def faithfulness(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return 1 where a picture shows everything its prompt names, else 0, ``(b,)``."""
        predicted = self.classify(images)
        faithful = [
            all(predicted[name][row] == value for name, value in parse_prompt(prompt).items())
            for row, prompt in enumerate(prompts)
        ]
        return torch.tensor(faithful, dtype=torch.float32)

    def probability_of_subject(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return the probability that each picture shows its prompt's subject, ``(b,)``; 1 where the prompt names none."""
        probabilities = self(images)["subject"].softmax(dim=1)
        subjects = [parse_prompt(prompt).get("subject") for prompt in prompts]
        return torch.stack(
            [
                probabilities[row, SUBJECTS.index(subject)] if subject else probabilities.new_ones(())
                for row, subject in enumerate(subjects)
            ]
        )

    def save(self, path: Path) -> None:
        """Write the weights as fp16 safetensors."""
        write_tensors(path, {k: v.half().contiguous() for k, v in self.state_dict().items()})

    @classmethod
    def load(cls, path: Path = WORLD_ASSETS / "judge.safetensors") -> ContentJudge:
        """Read the weights that ``save`` wrote; by default the shipped ones."""
        judge = cls()
        judge.load_state_dict({k: v.float() for k, v in load_file(str(path)).items()})
        return judge.eval().requires_grad_(False)


class Faithfulness:
    """The content judge as a ``Reward``: 1 where a picture shows everything its prompt names, else 0."""

    unit = Unit.SHARE

    def __init__(self, judge: ContentJudge):
        self.judge = judge

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Score pictures, ``(b,)``; the same for every user."""
        return RewardOutput(self.judge.faithfulness(images.cpu().float(), prompts).to(images.device))


def train_judge(
    drawings: Tensor, scenes: Sequence[Scene], settings: FitSettings, batch_size: int, folder: Path
) -> ContentJudge:
    """Train the judge on drawings, ``(n, 64, 64, 3)`` bytes, varied in tone, softened, and a quarter of them corrupted."""
    judge = ContentJudge()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    judge.to(device)
    labels = {
        name: torch.from_numpy(np.array([values.index(scene.attribute(name)) for scene in scenes]))
        for name, values in CHOICES.items()
        if name != "condition"
    }

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(drawings), (batch_size,), generator=generator)
        images = drawings[rows].permute(0, 3, 1, 2).float() / 255
        images = soften(vary_tone(images, generator) if step % 2 else images, generator)
        corrupted = torch.rand(batch_size, generator=generator) < 0.25
        images = torch.where(corrupted[:, None, None, None], corrupt(images, generator), images).to(device)
        logits = judge(images)
        intact = ~corrupted.to(device)
        total = cross_entropy(logits["condition"], corrupted.long().to(device))
        for name, values in labels.items():
            total = total + cross_entropy(logits[name][intact], values[rows].to(device)[intact])
        return total

    fit("judge", [judge], loss, settings, folder)
    return judge.cpu().requires_grad_(False)

"""The judge of content: what a picture shows, told by a classifier trained on scenes, apart from any reward."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pamela_rl.types import RewardOutput
from pamela_rl.world.captions import asked_for
from pamela_rl.world.corruptions import soften, spoil, vary_tone
from pamela_rl.world.fitting import FitSettings, fit
from pamela_rl.world.scenes import ATTRIBUTES, SUBJECTS, Scene

CHOICES: dict[str, tuple[str, ...]] = {"subject": SUBJECTS, **ATTRIBUTES, "condition": ("whole", "spoilt")}


class ContentJudge(nn.Module):
    """A small convolutional classifier of subject, attributes and condition (whole or spoilt)."""

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
    def see(self, images: Tensor) -> dict[str, list[str]]:
        """Name what each picture most probably shows: one value a picture under each choice."""
        return {n: [CHOICES[n][int(i)] for i in logits.argmax(dim=1)] for n, logits in self(images).items()}

    def faithfulness(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Tell whether each picture shows everything its prompt names: 1 or 0, ``(b,)``."""
        seen = self.see(images)
        asked = [asked_for(prompt) for prompt in prompts]
        shown = [all(seen[name][row] == value for name, value in wish.items()) for row, wish in enumerate(asked)]
        return torch.tensor(shown, dtype=torch.float32)

    def probability_of_subject(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return how probably each picture shows the subject its prompt names, ``(b,)``; 1 where it names none."""
        chances = self(images)["subject"].softmax(dim=1)
        subjects = [asked_for(prompt).get("subject") for prompt in prompts]
        column = [SUBJECTS.index(subject) if subject else -1 for subject in subjects]
        picked = [chances[row, place] if place >= 0 else chances.new_ones(()) for row, place in enumerate(column)]
        return torch.stack(picked)

    def save(self, path: Path) -> None:
        """Write the weights as fp16 safetensors."""
        save_file({k: v.half().contiguous() for k, v in self.state_dict().items()}, str(path))

    @classmethod
    def load(cls, path: Path) -> ContentJudge:
        """Read what ``save`` wrote."""
        judge = cls()
        judge.load_state_dict({k: v.float() for k, v in load_file(str(path)).items()})
        return judge.eval().requires_grad_(False)


class Faithfulness:
    """The judge of content as a ``Reward``: 1 where a picture shows everything its prompt names, else 0."""

    def __init__(self, judge: ContentJudge):
        self.judge = judge

    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> RewardOutput:
        """Judge pictures, ``(b,)``; the same for everyone."""
        return RewardOutput(self.judge.faithfulness(images.cpu().float(), prompts).to(images.device))


def train_judge(
    pictures: Tensor, scenes: Sequence[Scene], settings: FitSettings, batch_size: int, folder: Path
) -> ContentJudge:
    """Train the judge on drawings, ``(n, 64, 64, 3)`` bytes, varied in tone, softened, and some of them spoilt."""
    judge = ContentJudge()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    judge.to(device)
    labels = {
        name: torch.from_numpy(np.array([values.index(scene.attribute(name)) for scene in scenes]))
        for name, values in CHOICES.items()
        if name != "condition"
    }

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(pictures), (batch_size,), generator=generator)
        images = pictures[rows].permute(0, 3, 1, 2).float() / 255
        images = soften(vary_tone(images, generator) if step % 2 else images, generator)
        spoilt = torch.rand(batch_size, generator=generator) < 0.25
        images = torch.where(spoilt[:, None, None, None], spoil(images, generator), images).to(device)
        logits = judge(images)
        whole = ~spoilt.to(device)
        total = cross_entropy(logits["condition"], spoilt.long().to(device))
        for name, values in labels.items():
            total = total + cross_entropy(logits[name][whole], values[rows].to(device)[whole])
        return total

    fit("judge", [judge], loss, settings, folder)
    return judge.cpu().requires_grad_(False)

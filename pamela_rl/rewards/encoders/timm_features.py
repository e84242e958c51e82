"""Features of a frozen timm model: its end and statistics of its middle layers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.transforms.functional import to_tensor

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.preprocessing import Preprocessing

MAX_DIM = 2_500  # of the features; preference models get slower with more
MAX_WIDTH = 384  # of a block of features; wider ones are projected to it
CPU_CHUNK = 16  # images that a CPU encodes together: with more it is slower, since layers leave its cache
_EPS = 1e-6  # added to variances, whose root has no gradient at 0


class TimmEncoder:
    """Encodes images on the device, differentiable with respect to pixels; prompts have no features.

    The features are blocks side by side: of each middle stage the mean of every channel over the image and its standard
    deviation, and last the pooled end of the model. The end tells what an image shows; the stages tell colours,
    contrast and texture, which the end has mostly forgotten. A block wider than ``MAX_WIDTH`` goes through a fixed
    random projection, which keeps distances to a few percent. All blocks have the same length, and all features
    together the length ``sqrt(dim)``: with lengths by width, the end would decide distances between images alone, and a
    fit to sixty ratings foretold less (``benchmarks/features.py``).

    Images are squashed to the model's size, so nothing is cropped away, and files and tensors go through the same
    arithmetic: their features are equal.

    Args:
        model: A timm model without its classifier; it is frozen.
        name: What opens it again.
        fingerprint: Identifies its weights.

    Raises:
        ConfigError: The model does not give its middle layers.
    """

    reads_prompts = False

    def __init__(self, model: Any, name: str, fingerprint: str):
        self.model = model.eval().requires_grad_(False).float().to(memory_format=torch.channels_last)
        self.name = name
        config = model.pretrained_cfg
        interpolation = config["interpolation"] if config["interpolation"] == "bilinear" else "bicubic"
        self.preprocessing = Preprocessing(
            tuple(config["input_size"][-2:]), tuple(config["mean"]), tuple(config["std"]), interpolation, "squash"
        )
        self._projections: dict[int, Tensor] = {}
        self._stages: list[int] = self._choose_stages()
        facts = hashlib.sha256(str(self._stages).encode())
        for width in sorted(self._projections):
            facts.update(self._projections[width].cpu().numpy().tobytes())
        self.fingerprint = f"{fingerprint}-{facts.hexdigest()[:8]}"

    @property
    def recipe(self) -> object:
        """What determines features besides the fingerprint: nothing, since all is fixed by the model."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(iter(self.model.parameters())).device

    def from_pil(self, image: Image.Image) -> Tensor:
        """Preprocess an image, ``(3, *size)``, on the CPU."""
        return self.preprocessing(to_tensor(image)[None])[0]

    def encode(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return features, ``(b, dim)``, with gradient to ``images``, RGB in [0, 1], ``(b, 3, height, width)``."""
        return self.encode_pixels(self.preprocessing(images.to(self.device).float()))

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return features of preprocessed images, ``(b, 3, *size)``, as ``(b, dim)``, fp32."""
        pixels = pixels.to(self.device).float()
        chunks = pixels.split(CPU_CHUNK) if self.device.type == "cpu" else [pixels]
        with torch.autocast(self.device.type, enabled=False):
            return torch.cat([self._features(chunk) for chunk in chunks])

    def _features(self, pixels: Tensor) -> Tensor:
        end, stages = self.model.forward_intermediates(
            pixels.contiguous(memory_format=torch.channels_last), indices=self._stages or 1
        )
        blocks = [block for stage in stages for block in _statistics(stage)] if self._stages else []
        blocks.append(self.model.forward_head(end, pre_logits=True))
        features = torch.cat([normalize(self._project(block), dim=-1) for block in blocks], dim=-1)
        return features * (features.shape[-1] / len(blocks)) ** 0.5

    def _project(self, block: Tensor) -> Tensor:
        """Return a block as it is, ``(b, width)``, or what a normal random matrix makes of a wide one."""
        width = block.shape[-1]
        if width <= MAX_WIDTH:
            return block
        if width not in self._projections:
            matrix = torch.randn(width, MAX_WIDTH, generator=torch.Generator().manual_seed(0))
            self._projections[width] = matrix.to(block.device)
        return block @ self._projections[width]

    @torch.no_grad()
    def _choose_stages(self) -> list[int]:
        """Return the middle stages that fit into ``MAX_DIM`` together with the end, narrow ones first."""
        try:
            end, stages = self.model.forward_intermediates(torch.zeros(1, 3, *self.preprocessing.size).to(self.device))
        except (AttributeError, NotImplementedError) as error:
            raise ConfigError(
                f"the timm model {self.name!r} does not give its middle layers; take one that does, e.g. a ResNet, an "
                "EfficientNet or a ViT."
            ) from error
        left = MAX_DIM - self._project(self.model.forward_head(end, pre_logits=True)).shape[-1]
        chosen = []
        for index in sorted(range(len(stages)), key=lambda index: stages[index].shape[1]):
            if (width := sum(self._project(part).shape[1] for part in _statistics(stages[index]))) <= left:
                chosen.append(index)
                left -= width
        return sorted(chosen)


def _statistics(stage: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel over the image, ``(b, c)`` each, of ``(b, c, h, w)``."""
    variance, mean = torch.var_mean(stage.flatten(2), dim=2, correction=0)
    return mean, (variance + _EPS).sqrt()

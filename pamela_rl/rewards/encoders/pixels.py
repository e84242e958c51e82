"""Features of pixels, without any weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from pamela_rl.data.images import ImageStore
from pamela_rl.rewards.settings import PIXELS

SIZE = 16


class PixelEncoder:
    """A thumbnail of 16 by 16 pixels as features; prompts have none.

    Enough for a few hundred pictures of one kind. The features contain coarse colour and brightness, and nothing of the
    content of a picture; use an open_clip model if its weights are available.
    """

    def __init__(self) -> None:
        self.fingerprint = f"{PIXELS}-{SIZE}"

    def encode(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return features, ``(b, 768)``, with gradient to ``images``, RGB in [0, 1], ``(b, 3, height, width)``."""
        return adaptive_avg_pool2d(images.float(), SIZE).flatten(1)

    def encode_store(self, images: ImageStore, ids: Sequence[str]) -> Tensor:
        """Return features of pictures by id, ``(n, 768)``.

        Raises:
            DataError: A picture is missing or broken; names it.
        """
        features = {}
        for name in dict.fromkeys(ids):
            image = images.open(name)
            flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
            pixels = flat.view(1, image.height, image.width, 3).permute(0, 3, 1, 2).float() / 255
            features[name] = self.encode(pixels, [""])[0]
        return torch.stack([features[name] for name in ids])

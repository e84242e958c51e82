"""Features of pixels, without any weights."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.transforms.functional import to_tensor

from pamela_rl.rewards.settings import PIXELS

SIZE = 16


class PixelEncoder:
    """A thumbnail of 16 by 16 pixels as features; prompts have none.

    The features contain coarse colour and brightness, and nothing of the content of an image: enough for tests, too
    little for people's own images.
    """

    name = PIXELS
    fingerprint = f"{PIXELS}-{SIZE}"
    recipe: object = None
    reads_prompts = False

    def from_pil(self, image: Image.Image) -> Tensor:
        """Return the thumbnail of an image, ``(3, 16, 16)``, RGB in [0, 1]."""
        return adaptive_avg_pool2d(to_tensor(image), SIZE)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return features, ``(b, 768)``, of RGB in [0, 1], ``(b, 3, height, width)``."""
        return adaptive_avg_pool2d(pixels.float(), SIZE).flatten(1)

    def encode(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return features, ``(b, 768)``, with gradient to ``images``, RGB in [0, 1], ``(b, 3, height, width)``."""
        return self.encode_pixels(images)

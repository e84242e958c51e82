"""Preprocessing of pictures for open_clip models: open_clip's transform for files, a differentiable one for tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from pamela_rl.errors import ConfigError

_ALLOWED = {"resize_mode": ("shortest", "longest", "squash"), "interpolation": ("bicubic", "bilinear", "random")}


def resize(images: Tensor, height: int, width: int, mode: str = "bicubic") -> Tensor:
    """Resize as PIL does, except for rounding to bytes: one direction after the other, each clipped to [0, 1]."""
    for size in ((images.shape[-2], width), (height, width)):
        if tuple(images.shape[-2:]) != size:
            images = interpolate(images, size=size, mode=mode, antialias=True).clamp(0, 1)
    return images


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of pictures; the fields are open_clip's ``preprocess_cfg``.

    Calling it on tensors does the same as ``from_pil`` does through PIL, on their device and with gradient. The results
    differ only for resized pictures, because PIL rounds to bytes after each direction: for pictures of 20 to 500 pixels
    a side, by at most 1.1 / 255 per pixel before normalisation and .4 / 255 on average. Where bicubic interpolation
    overshoots black or white and Pillow (13) resizes the directions in the other order, a pixel can differ by more: up
    to 18 / 255 for pure noise in mode "squash", with the same average.

    Attributes:
        size: Height and width the model takes, in pixels.
        mean: Of red, green and blue in [0, 1], subtracted.
        std: What they are then divided by.
        interpolation: "bicubic" or "bilinear"; "random" is for training and means bicubic.
        resize_mode: "shortest" fills the size and crops, "longest" fits inside and pads with ``fill_color``, "squash"
            changes the aspect ratio.
        fill_color: From 0 to 255.

    Raises:
        ConfigError: The resize mode or the interpolation is unknown.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"the encoder's preprocess_cfg has {name} {getattr(self, name)!r}; open_clip knows "
                    f"{', '.join(allowed)}: correct its open_clip_config.json."
                )

    @classmethod
    def of(cls, model: Any, mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
        """Return the preprocessing of a model, with this mean and standard deviation."""
        model_config = dict(getattr(model.visual, "preprocess_cfg", {}))
        size = model_config.get("size", model.visual.image_size)
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        chosen = {
            key: model_config[key] for key in ("interpolation", "resize_mode", "fill_color") if key in model_config
        }
        return cls((int(height), int(width)), tuple(mean), tuple(std), **chosen)

    def __call__(self, images: Tensor) -> Tensor:
        """Resize, crop or pad, and normalise.

        Args:
            images: RGB in [0, 1], ``(b, 3, height, width)``.

        Returns:
            ``(b, 3, *size)``, with gradient to ``images``.
        """
        (height, width), (tall, wide) = self.size, self._resized(*images.shape[-2:])
        images = resize(images, tall, wide, self._mode)
        vertical_padding, horizontal_padding = max(height - tall, 0), max(width - wide, 0)
        edges = (
            horizontal_padding // 2,
            (horizontal_padding + 1) // 2,
            vertical_padding // 2,
            (vertical_padding + 1) // 2,
        )
        images = pad(images, edges, value=self.fill_color / 255)
        top, left = round(max(tall - height, 0) / 2), round(max(wide - width, 0) / 2)  # to even, as torchvision does
        images = images[..., top : top + height, left : left + width]
        mean, std = images.new_tensor(self.mean).view(3, 1, 1), images.new_tensor(self.std).view(3, 1, 1)
        return (images - mean) / std

    def from_pil(self, image: Image.Image) -> Tensor:
        """Preprocess a PIL image with open_clip's own transform, ``(3, *size)``, on the CPU."""
        return self._transform(image)

    @property
    def _crops(self) -> bool:
        return self.resize_mode == "shortest"

    @property
    def _mode(self) -> str:
        # open_clip ignores the interpolation if the mode is "shortest" and the size is not square
        if self.interpolation == "random" or (self._crops and self.size[0] != self.size[1]):
            return "bicubic"
        return self.interpolation

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width before cropping or padding, rounded like open_clip."""
        tall, wide = self.size
        if self.resize_mode == "squash":
            return self.size
        if self._crops and tall == wide:  # torchvision's Resize, which drops the fraction
            longer = int(tall * max(height, width) / min(height, width))
            return (longer, wide) if height > width else (tall, longer)
        ratio = (min if self._crops else max)(height / tall, width / wide)
        return round(height / ratio), round(width / ratio)

    @cached_property
    def _transform(self) -> Callable[[Image.Image], Tensor]:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        return image_transform_v2(PreprocessCfg(**asdict(self)), is_train=False)

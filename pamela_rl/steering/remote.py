"""Pictures from a service over HTTP, for models with no open weights: cached, budgeted, a few at a time."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pamela_rl.data.images import UNREADABLE, decode
from pamela_rl.errors import ConfigError, ServiceError
from pamela_rl.steering.answers import BrokenAnswer
from pamela_rl.steering.http import JsonClient, ServiceConfig
from pamela_rl.steering.image_cache import ImageCache
from pamela_rl.steering.ledger import Budget, Ledger, Spent
from pamela_rl.steering.services import ImageService, shown
from pamela_rl.storage import ensure_writable


class RemoteGenerator:
    """Draws with a remote service; an ``ImageGenerator``.

    Every picture is kept as it came, under the address, the whole request and the seed: asked again, at whatever
    ``height`` and ``width``, it costs nothing. Whether a service heeds seeds, its own docstring tells. Several
    processes may share a folder, and then share its budget; each keeps to ``requests_per_minute`` by itself.

    Args:
        service: The dialect, the model and its options.
        config: Where the service is, and how patient to be.
        budget: The most that may be bought, over all runs with this folder.
        folder: Where pictures and the ledger are kept.
        height: Of the pictures returned, pixels; larger ones are cut to its shape around their middle and resized.
        width: The same.
        concurrency: Requests under way at once.
        max_pixels: Pictures larger than this are refused before they are decoded.

    Raises:
        ConfigError: A size or number is not positive, or the folder cannot be written to.
    """

    def __init__(
        self,
        service: ImageService,
        config: ServiceConfig,
        budget: Budget,
        folder: Path,
        *,
        height: int,
        width: int,
        concurrency: int = 4,
        max_pixels: int = 64_000_000,
    ):
        for name, value in {"height": height, "width": width, "concurrency": concurrency}.items():
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1.")
        self.service, self.config, self.height, self.width = service, config, height, width
        self._concurrency, self._max_pixels = concurrency, max_pixels
        self._client = JsonClient(config, key_header=service.key_header, key_prefix=service.key_prefix)
        self._cache = ImageCache(ensure_writable(folder / "pictures"))
        self._ledger = Ledger(folder / "ledger.jsonl", budget)

    @property
    def spent(self) -> Spent:
        """What was bought so far, over all runs with this folder."""
        return self._ledger.spent

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return pictures in [0, 1], ``(b, 3, height, width)``, in the order of the prompts.

        At the first picture that fails no further one is asked for; those that were drawn stay cached.

        Raises:
            BudgetError: The next picture would exceed the budget; it was not asked for.
            ServiceError: The service refused a prompt, was not reached, or answered nonsense to the last.
            ConfigError: There is not one seed a prompt, or no key.
        """
        if len(prompts) != len(seeds):
            raise ConfigError(f"there are {len(prompts)} prompts but {len(seeds)} seeds; give one seed a prompt.")
        if not prompts:
            return torch.empty(0, 3, self.height, self.width)
        asked = [(prompt, int(seed)) for prompt, seed in zip(prompts, seeds)]
        drawn = _draw_all(self._picture, asked, self._concurrency)
        return torch.stack([drawn[key] for key in asked])

    def _picture(self, prompt: str, seed: int) -> Tensor:
        """Return one picture, ``(3, height, width)``."""
        body = self.service.body(prompt, seed)
        request = {
            "service": self.service.name,
            "base_url": self.config.base_url.rstrip("/"),
            "path": self.service.path,
            "body": body,
            "seed": seed,
        }
        picture = self._cache.get(request)
        if picture is None:
            picture = self._client.post(
                self.service.path,
                body,
                about=f"a picture of {shown(prompt)}",
                read=lambda answer: self._decoded(self.service.read(answer, prompt), prompt),
                charge=self._ledger.charge,
            )
            self._cache.put(request, picture)
        fitted = ImageOps.fit(picture, (self.width, self.height), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 255

    def _decoded(self, content: bytes, prompt: str) -> Image.Image:
        try:
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as picture:
                pixels = picture.width * picture.height
            if pixels <= self._max_pixels:
                return decode(io.BytesIO(content))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            pixels = self._max_pixels + 1
        except (*UNREADABLE, ValueError, SyntaxError) as error:
            raise BrokenAnswer(f"its picture cannot be opened: {error}") from None
        raise ServiceError(
            f"the picture of {shown(prompt)} has more than {self._max_pixels} pixels and was not decoded; "
            "ask the service for a smaller size, or raise max_pixels."
        )


def _draw_all(
    draw: Callable[[str, int], Tensor], asked: Sequence[tuple[str, int]], concurrency: int
) -> dict[tuple[str, int], Tensor]:
    """Draw each prompt and seed once, a few at a time; after a failure none is begun, and it is raised at the end."""
    stop = threading.Event()

    def draw_one(prompt: str, seed: int) -> Tensor:
        if stop.is_set():
            return torch.empty(0)  # seen by nobody: whatever stopped this is raised below
        try:
            return draw(prompt, seed)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(concurrency) as threads:
        try:
            pictures = {key: threads.submit(draw_one, *key) for key in dict.fromkeys(asked)}
            wait(pictures.values())
        finally:
            stop.set()
    return {key: picture.result() for key, picture in pictures.items()}

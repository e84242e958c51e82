"""Images from a service over HTTP, for models without open weights: cached, budgeted, concurrent."""

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

from pamela_rl.data.decoding import READ_FAILURES, decode
from pamela_rl.errors import ConfigError, ServiceError
from pamela_rl.steering.http import EndpointSettings, JsonClient
from pamela_rl.steering.image_cache import ImageCache
from pamela_rl.steering.ledger import Budget, Ledger, Spent
from pamela_rl.steering.responses import InvalidResponse
from pamela_rl.steering.services import ImageService, quoted
from pamela_rl.storage import ensure_writable


class RemoteGenerator:
    """Draws with a remote service; an ``ImageGenerator``.

    Every image is cached in its original size, by address, request and seed; a repeated request costs nothing, at any
    ``height`` and ``width``. The docstring of the service says whether it supports seeds. Processes that share a folder
    share its budget; ``requests_per_minute`` holds per process.

    Args:
        service: The protocol, the model and its options.
        config: Address, time-outs and limits.
        budget: Over all runs with this folder.
        folder: Of the image cache and the ledger.
        height: Of the returned images in pixels; images are centre-cropped to the shape and resized.
        width: Of the returned images in pixels.
        concurrency: Most requests at a time.
        max_pixels: Larger images are refused before decoding.

    Raises:
        ConfigError: A size or number is not positive, or the folder cannot be written to.
    """

    def __init__(
        self,
        service: ImageService,
        config: EndpointSettings,
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
        """Images and cost so far, over all runs with this folder."""
        return self._ledger.spent

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return pictures in [0, 1], ``(b, 3, height, width)``, in the order of the prompts.

        After the first failure no further image is requested; those already drawn stay cached.

        Raises:
            BudgetError: The next image would exceed the budget; it was not requested.
            ServiceError: The service refused a prompt, was not reached, or gave no valid response in all attempts.
            ConfigError: Prompts and seeds differ in number, or there is no key.
        """
        if len(prompts) != len(seeds):
            raise ConfigError(f"there are {len(prompts)} prompts but {len(seeds)} seeds; give one seed a prompt.")
        if not prompts:
            return torch.empty(0, 3, self.height, self.width)
        requests = [(prompt, int(seed)) for prompt, seed in zip(prompts, seeds)]
        images = _draw_concurrently(self._image, requests, self._concurrency)
        return torch.stack([images[key] for key in requests])

    def _image(self, prompt: str, seed: int) -> Tensor:
        """Return one picture, ``(3, height, width)``."""
        body = self.service.body(prompt, seed)
        request = {
            "service": self.service.name,
            "base_url": self.config.base_url.rstrip("/"),
            "path": self.service.path,
            "body": body,
            "seed": seed,
        }
        image = self._cache.get(request)
        if image is None:
            image = self._client.post(
                self.service.path,
                body,
                description=f"a picture of {quoted(prompt)}",
                read=lambda answer: self._decode(self.service.read(answer, prompt), prompt),
                charge=self._ledger.charge,
            )
            self._cache.put(request, image)
        fitted = ImageOps.fit(image, (self.width, self.height), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 255

    def _decode(self, content: bytes, prompt: str) -> Image.Image:
        try:
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as image:
                pixels = image.width * image.height
            if pixels <= self._max_pixels:
                return decode(io.BytesIO(content))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            pixels = self._max_pixels + 1
        except (*READ_FAILURES, ValueError, SyntaxError) as error:
            raise InvalidResponse(f"its picture cannot be opened: {error}") from None
        raise ServiceError(
            f"the picture of {quoted(prompt)} has more than {self._max_pixels} pixels and was not decoded; "
            "ask the service for a smaller size, or raise max_pixels."
        )


def _draw_concurrently(
    draw: Callable[[str, int], Tensor], requests: Sequence[tuple[str, int]], concurrency: int
) -> dict[tuple[str, int], Tensor]:
    """Draw each prompt and seed once, concurrently; after a failure no new request starts, and it is raised at the end."""
    stop = threading.Event()

    def draw_one(prompt: str, seed: int) -> Tensor:
        if stop.is_set():
            return torch.empty(0)  # never returned: the failure is raised below
        try:
            return draw(prompt, seed)
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(concurrency) as threads:
        try:
            futures = {key: threads.submit(draw_one, *key) for key in dict.fromkeys(requests)}
            wait(futures.values())
        finally:
            stop.set()
    return {key: future.result() for key, future in futures.items()}

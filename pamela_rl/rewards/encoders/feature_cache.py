"""Features of images and prompts, each computed once and cached on disk."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from pamela_rl.data.decoding import decode_errors
from pamela_rl.data.images import ImageStore
from pamela_rl.errors import ConfigError, DataError
from pamela_rl.rewards.encoders.feature_files import FeatureFiles
from pamela_rl.rewards.encoders.features import FeatureEncoder, combine
from pamela_rl.rewards.preference import Encoder

VERSION = 1  # of decoding, preprocessing and this module: increase it when features of the same image change
THREADS = 4  # that read and decode images for the encoder

Item = TypeVar("Item")
Result = TypeVar("Result")


class ImageEncoder(Encoder, Protocol):
    """An encoder that takes images from files as well; all that ``open_encoder`` returns are such."""

    @property
    def recipe(self) -> object:
        """What determines image features besides the fingerprint and the image, as plain JSON."""
        ...

    def from_pil(self, image: Image.Image) -> Tensor:
        """Preprocess an RGB image for ``encode_pixels``, on the CPU; all images get one shape."""
        ...

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Return features of preprocessed images, ``(b, dim)``, fp32."""
        ...


def encode_store(
    encoder: ImageEncoder,
    images: ImageStore,
    ids: Sequence[str],
    prompts: Sequence[str],
    cache: str | Path | None = None,
    *,
    batch_size: int = 64,
    progress: bool = True,
) -> Tensor:
    """Return what ``encoder.encode`` returns for images of a store and their prompts, ``(n, d)``, fp32, on the CPU.

    Args:
        encoder: Any encoder that ``open_encoder`` returns; one without a text tower ignores the prompts.
        images: Store of the images.
        ids: Ids of the images, in any order; duplicates are allowed.
        prompts: Prompt of each image, "" where none is known.
        cache: As in ``encode_images``.
        batch_size: Images per batch.
        progress: Show a bar if it takes longer than two seconds.

    Raises:
        DataError: An image is missing or broken, or changed during the call; earlier batches are saved.
        ConfigError: There is not one prompt for each image, or the features are not finite.
    """
    if len(prompts) != len(ids):
        raise ConfigError(f"there are {len(ids)} images and {len(prompts)} prompts; give one prompt for each image.")
    features = encode_images(encoder, images, ids, cache=cache, batch_size=batch_size, progress=progress)
    if not isinstance(encoder, FeatureEncoder):
        return features
    return combine(features, encode_texts(encoder, prompts, cache=cache, progress=progress))


def encode_images(
    encoder: ImageEncoder,
    images: ImageStore,
    ids: Sequence[str],
    *,
    cache: str | Path | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> Tensor:
    """Return features of images alone in the order of their ids, ``(n, dim)``, fp32, on the CPU.

    Each image is identified by the hash of its bytes and encoded once, even if it has several ids. The hash is
    computed in every call, so a replaced file is a new image. At most two batches of decoded images are in memory,
    at the model's size.

    Args:
        encoder: The encoder; it preprocesses the images.
        images: Store of the images.
        ids: Ids of the images, in any order; duplicates are allowed.
        cache: A folder for features of any number of encoders, safe for several processes. None disables caching. If
            the folder cannot be written to, a warning is logged once and nothing is cached.
        batch_size: Images per batch; every batch is saved.
        progress: Show a bar if it takes longer than two seconds.

    Raises:
        DataError: An image is missing or broken, or changed during the call; earlier batches are saved.
        ConfigError: The batch size is not positive, or the features are not finite.
    """
    names = list(dict.fromkeys(ids))
    bar = partial(tqdm, unit="image", delay=2, disable=not progress)
    digests = dict(zip(names, bar(_prefetch(images.digest, names, batch_size), total=len(names), desc="hashing")))
    name_of_digest = {digest: name for name, digest in reversed(digests.items())}  # the first id of each image

    def pixels(digest: str) -> Tensor:
        name = name_of_digest[digest]
        image = images.open(name)
        if images.digest(name) != digest:
            raise DataError(
                f"the image {name!r} changed while its features were being computed; "
                "run again when nothing writes to the images: what is done is kept."
            )
        with decode_errors(repr(name)):
            return encoder.from_pil(image)

    files = FeatureFiles(cache, _identity(encoder, encoder.recipe))
    inputs = partial(_prefetch, pixels, depth=batch_size)
    bar = partial(bar, desc="features of images")
    return _features(files, [digests[name] for name in ids], inputs, encoder.encode_pixels, batch_size, bar)


def encode_texts(
    encoder: FeatureEncoder,
    prompts: Sequence[str],
    *,
    cache: str | Path | None = None,
    batch_size: int = 256,
    progress: bool = True,
) -> Tensor:
    """Return unit-length features of prompts in their order, ``(n, dim)``, fp32, on the CPU; as ``encode_images``.

    A prompt is identified by its tokens, so the cache is never shared between tokenizers.
    """
    texts = list(dict.fromkeys(prompts))
    tokens: dict[str, Tensor] = {}
    keys: dict[str, str] = {}
    for first in range(0, len(texts), 1024):
        part = texts[first : first + 1024]
        for text, row in zip(part, encoder.tokenize(part)):
            keys[text] = hashlib.sha256(row.numpy().tobytes()).hexdigest()
            tokens[keys[text]] = row
    files = FeatureFiles(cache, _identity(encoder, [encoder.precision, "text"]))
    bar = partial(tqdm, unit="prompt", delay=2, disable=not progress, desc="features of prompts")
    inputs = partial(map, tokens.__getitem__)
    return _features(files, [keys[prompt] for prompt in prompts], inputs, encoder.encode_tokens, batch_size, bar)


def _identity(encoder: Encoder, kind: object) -> str:
    return json.dumps([VERSION, encoder.fingerprint, kind])


@torch.no_grad()
def _features(
    files: FeatureFiles,
    keys: Sequence[str],
    inputs: Callable[[Sequence[str]], Iterator[Tensor]],
    encode: Callable[[Tensor], Tensor],
    batch_size: int,
    bar: Callable[..., tqdm[Any]],
) -> Tensor:
    """Read cached features, and compute and save the others."""
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; take at least 1.")
    if not keys:
        raise DataError("there is nothing to encode; give at least one image or prompt.")
    features = files.find(set(keys))
    missing = [key for key in dict.fromkeys(keys) if key not in features]
    rows = inputs(missing)
    with bar(total=len(missing)) as progress_bar:
        for first in range(0, len(missing), batch_size):
            part = missing[first : first + batch_size]
            encoded = encode(torch.stack(list(islice(rows, len(part))))).cpu()
            if not encoded.isfinite().all():
                raise ConfigError("the encoder's features are not finite numbers; load it with precision='fp32'.")
            new = dict(zip(part, encoded))
            files.save(new)
            features.update(new)
            progress_bar.update(len(part))
    return torch.stack([features[key] for key in keys])


def _prefetch(function: Callable[[Item], Result], items: Iterable[Item], depth: int) -> Iterator[Result]:
    """Map in threads and in order, ``depth`` items ahead of the consumer."""
    queue: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(THREADS)
    try:
        for item in items:
            queue.append(pool.submit(function, item))
            if len(queue) > depth:
                yield queue.popleft().result()
        while queue:
            yield queue.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

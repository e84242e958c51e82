"""Detection of near-duplicate pictures by perceptual hashes and thumbnails."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pamela_rl.data.images import ImageStore

MAX_DISTANCE = 3  # bits of 64
MAX_DIFFERENCE = 0.06  # of 0 to 1
MIN_GRADIENT = 3  # of 255: in plain areas neighbouring values differ by less, mostly by compression noise


def near_duplicates(
    images: Iterable[str],
    store: ImageStore,
    max_distance: int = MAX_DISTANCE,
    max_difference: float = MAX_DIFFERENCE,
) -> dict[str, str]:
    """Group pictures that differ only by compression, size or a small change of brightness.

    Two pictures are near-duplicates if their hashes differ in few bits (dHash: whether each cell of an 8 x 8 grid is
    clearly brighter than its left neighbour) and their 8 x 8 colours are similar, since plain pictures of any colour
    have the same hash. Groups are transitive: if a is a near-duplicate of b and b of c, all three are one group.
    Pictures are opened one by one and not kept. The n² / 2 comparisons of 8 bytes take a minute for 100,000 pictures.

    Args:
        images: Ids of pictures; duplicates are allowed.
        store: Where the pictures are.
        max_distance: Bits of 64 in which the hashes may differ.
        max_difference: Largest mean difference of the 8 x 8 colours, 0 to 1.

    Returns:
        For every picture, the first picture of its group in the order of ``images``; itself if it has no duplicate.

    Raises:
        DataError: A picture is missing or broken.
    """
    names = list(dict.fromkeys(images))
    if not names:
        return {}
    fingerprints = [_hash_and_thumbnail(store.open(name)) for name in names]
    hashes, thumbnails = (
        np.array([code for code, _ in fingerprints], dtype=np.uint64),
        np.stack([colour for _, colour in fingerprints]),
    )
    parent = np.arange(len(names))
    for row in range(1, len(names)):
        close = np.flatnonzero(np.bitwise_count(hashes[:row] ^ hashes[row]) <= max_distance)
        alike = close[np.abs(thumbnails[close] - thumbnails[row]).mean(axis=1) <= max_difference]
        for other in alike:
            _union(parent, row, int(other))
    return {name: names[_root_of(parent, row)] for row, name in enumerate(names)}


def _hash_and_thumbnail(image: Image.Image) -> tuple[int, NDArray[np.float32]]:
    """Return the hash, and the colours at 8 x 8 in [0, 1], ``(192,)``."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    bits = np.packbits(grey[:, 1:] - grey[:, :-1] > MIN_GRADIENT)
    small = np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BOX), dtype=np.float32)
    return int.from_bytes(bits.tobytes(), "big"), small.ravel() / np.float32(255)


def _root_of(parent: NDArray[np.intp], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]  # path halving
        row = int(parent[row])
    return row


def _union(parent: NDArray[np.intp], first: int, second: int) -> None:
    one, other = sorted((_root_of(parent, first), _root_of(parent, second)))
    parent[other] = one

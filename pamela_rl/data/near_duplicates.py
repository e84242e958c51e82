"""Pictures that are one picture saved twice: found by what is left of them at the size of a stamp."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pamela_rl.data.images import ImageStore

MAX_DISTANCE = 3  # bits of 64
MAX_DIFFERENCE = 0.06  # of 0 to 1
DARKER = 3  # of 255: in plain areas neighbours differ by less, and by whatever compression made of them


def near_duplicates(
    images: Iterable[str],
    store: ImageStore,
    max_distance: int = MAX_DISTANCE,
    max_difference: float = MAX_DIFFERENCE,
) -> dict[str, str]:
    """Group pictures that differ by no more than compression, size or a touch of light.

    Two pictures are near-duplicates if their hashes differ in few bits (dHash: whether each of 8 x 8 places is clearly
    darker than its right neighbour) and their colours are alike as well, since plain pictures of any colour share a hash.
    Groups are closed: where a is a near-duplicate of b and b of c, all three are one group. Pictures are opened one
    after the other and not kept; comparing them takes n² / 2 comparisons of 8 bytes, a minute for 100,000.

    Args:
        images: Ids of pictures; again and again is ordinary.
        store: Where they lie.
        max_distance: Bits of 64 in which the hashes may differ.
        max_difference: Mean difference of colours at 8 x 8 that is still alike, 0 to 1.

    Returns:
        For every picture the first of its group in the order of ``images``, itself if it is alone.

    Raises:
        DataError: A picture is missing or broken.
    """
    names = list(dict.fromkeys(images))
    if not names:
        return {}
    seen = [_stamp(store.open(name)) for name in names]
    hashes, colours = np.array([code for code, _ in seen], dtype=np.uint64), np.stack([colour for _, colour in seen])
    leader = np.arange(len(names))
    for place in range(1, len(names)):
        close = np.flatnonzero(np.bitwise_count(hashes[:place] ^ hashes[place]) <= max_distance)
        alike = close[np.abs(colours[close] - colours[place]).mean(axis=1) <= max_difference]
        for other in alike:
            _unite(leader, place, int(other))
    return {name: names[_leader_of(leader, place)] for place, name in enumerate(names)}


def _stamp(picture: Image.Image) -> tuple[int, NDArray[np.float32]]:
    """Return the hash, and the colours at 8 x 8 in [0, 1], ``(192,)``."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    bits = np.packbits(grey[:, 1:] - grey[:, :-1] > DARKER)
    small = np.asarray(picture.convert("RGB").resize((8, 8), Image.Resampling.BOX), dtype=np.float32)
    return int.from_bytes(bits.tobytes(), "big"), small.ravel() / np.float32(255)


def _leader_of(leader: NDArray[np.intp], place: int) -> int:
    while leader[place] != place:
        leader[place] = leader[leader[place]]  # half the way for those who ask next
        place = int(leader[place])
    return place


def _unite(leader: NDArray[np.intp], first: int, second: int) -> None:
    one, other = sorted((_leader_of(leader, first), _leader_of(leader, second)))
    leader[other] = one

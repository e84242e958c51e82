"""Features of pictures in files: without a cache, filling it, and from it.

python benchmarks/features.py [pictures] [encoder]

The world's pictures, enlarged to 512 pixels as PNG, with the world's encoder unless another is named. Each way runs three
times, in turn; medians, and ratios to no cache within the same rounds. "one at a time" decodes and encodes each picture
before it looks at the next. Everything is in memory already: what reading from a disk costs comes on top.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torchvision.transforms.functional import to_pil_image

from pamela_rl.data.images import FolderImages
from pamela_rl.rewards.encoders.feature_cache import encode_images
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.storage import WORLD_ENCODER
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import make_raters
from pamela_rl.world.ratings import make_ratings

ROUNDS, SIDE = 3, 512


def timed_calls(
    encoder: FeatureEncoder, store: FolderImages, ids: list[str], cache: Path
) -> dict[str, Callable[[], object]]:
    """What is timed, in order: the last finds what the one before it left."""

    @torch.no_grad()
    def one_at_a_time() -> None:
        for name in ids:
            encoder.encode_pixels(encoder.preprocessing.from_pil(store.open(name))[None])

    def filling() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        encode_images(encoder, store, ids, cache=cache, progress=False)

    return {
        "no cache": lambda: encode_images(encoder, store, ids, progress=False),
        "one at a time": one_at_a_time,
        "filling the cache": filling,
        "from the cache": lambda: encode_images(encoder, store, ids, cache=cache, progress=False),
        "hashing alone": lambda: [store.digest(name) for name in ids],
    }


def main() -> None:
    """Print one row a way."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    encoder = FeatureEncoder.load(sys.argv[2] if len(sys.argv) > 2 else WORLD_ENCODER)
    images = make_ratings(make_raters(), ContentJudge.load(), num_images=count).images
    with tempfile.TemporaryDirectory() as folder:
        image_folder, cache = Path(folder) / "pictures", Path(folder) / "cache"
        image_folder.mkdir()
        ids = [f"{number}.png" for number in range(count)]
        for name, image in zip(ids, images, strict=True):
            to_pil_image(image).resize((SIDE, SIDE)).save(image_folder / name, compress_level=1)
        seconds: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for name, run in timed_calls(encoder, FolderImages(image_folder), ids, cache).items():
                clock = time.perf_counter()
                run()
                seconds.setdefault(name, []).append(time.perf_counter() - clock)
        sizes = [sum(file.stat().st_size for file in place.rglob("*.*")) / 2**20 for place in (image_folder, cache)]
    print(f"{count} pictures, {torch.get_num_threads()} threads, {encoder.device}, {encoder.precision}")
    print(f"{sizes[0]:.0f} MiB of pictures, {sizes[1]:.1f} MiB of cache")
    print(f"{'':20}{'seconds':>9}{'image_folder/s':>12}{'ratio':>8}")
    for name, mine in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(mine, seconds["no cache"], strict=True))
        print(f"{name:20}{statistics.median(mine):>9.2f}{count / statistics.median(mine):>12.0f}{ratio:>8.3f}")


if __name__ == "__main__":
    main()

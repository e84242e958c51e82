"""What encoders see of tastes, what they cost, and features of images in files with and without a cache.

python benchmarks/features.py world [images]           # simulated people: how well ratings are foretold, by encoder
python benchmarks/features.py people FOLDER [repeats]  # real people, FOLDER as in human_ratings.py
python benchmarks/features.py speed [images]           # seconds to encode images, and their ratio to thumbnails
python benchmarks/features.py cache [images] [encoder] # without a cache, filling it, and from it

"world": SROCC, means over people, of the taste basis on new images, of people whose ratings it was fitted to and of
people known by ten ratings; and of a ridge regression (penalty 1, one scale for all features) on sixty ratings of one
person alone with the true expected ratings of other images. "by width" gives every block of features a length by its
width, instead of the same to all.

"cache": the world's images, enlarged to 512 pixels as PNG, with the world's encoder unless another is named. Each way
runs three times, in turn; medians, and ratios to no cache within the same rounds. "one at a time" decodes and encodes
each image before it looks at the next. Everything is in memory already: what reading from a disk costs comes on top.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from human_ratings import Experiment, print_scores, unrated_images
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from pamela_rl.agreement.measure import personal_agreement
from pamela_rl.agreement.measures import srocc
from pamela_rl.agreement.study import with_newcomers
from pamela_rl.data.images import FolderImages
from pamela_rl.data.ratings import RatingScale
from pamela_rl.data.sources import read_folder
from pamela_rl.rewards.encoders.feature_cache import ImageEncoder, encode_images, encode_store
from pamela_rl.rewards.encoders.features import encode_all
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.settings import DEFAULT_ENCODER, JUDGE_ENCODER, PIXELS, WORLD
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.world.fitted_rewards import NEWCOMER_NUM_RATINGS, world_study
from pamela_rl.world.judge import ContentJudge
from pamela_rl.world.raters import Raters, make_raters
from pamela_rl.world.ratings import WorldRatings, make_ratings

ROUNDS, SIDE = 3, 512
STAGES, END = (16, 24, 40, 112, 320), 384  # widths of efficientnet_lite0; a stage has a mean and a deviation


def world(num_images: int) -> None:
    """Print how well each encoder's features foretell ratings in the world."""
    raters = make_raters()
    ratings = make_ratings(raters, ContentJudge.load(), num_images=num_images)
    print(
        f"{num_images} images; SROCC\n{'features':34}{'width':>6}{'known':>8}{'new':>8}{'60 ratings':>12}", flush=True
    )
    for name, features in world_features(ratings).items():
        study = world_study(ratings, raters, features)
        basis, cells = fit_taste_basis(study.data), []
        for split in ("test_seen", "test_unseen"):
            model = with_newcomers(study, basis, split, NEWCOMER_NUM_RATINGS)
            cells.append(personal_agreement(name, model, study.held_out[split], study.data.scale).srocc[0])
        cells.append(alone(features, ratings, raters))
        print(f"{name:34}{features.shape[1]:>6}{cells[0]:>8.3f}{cells[1]:>8.3f}{cells[2]:>12.3f}", flush=True)


def world_features(ratings: WorldRatings) -> dict[str, Tensor]:
    """Encode the world's images."""
    pixels, lite0, own = (
        encode_all(open_encoder(name, "cpu"), ratings.images, ratings.prompts)
        for name in (PIXELS, DEFAULT_ENCODER, WORLD)
    )
    widths = [width for width in STAGES for _ in ("mean", "deviation")] + [END]
    by_width = torch.cat([block * block.shape[1] ** 0.5 for block in lite0.split(widths, dim=1)], dim=1)
    return {
        "pixels": pixels,
        f"{DEFAULT_ENCODER}, end alone": lite0[:, -END:],
        f"{DEFAULT_ENCODER}, middle alone": lite0[:, :-END],
        f"{DEFAULT_ENCODER}, by width": by_width,
        DEFAULT_ENCODER: lite0,
        "the world's own": own,
    }


def alone(features: Tensor, ratings: WorldRatings, raters: Raters, num_users: int = 40, count: int = 60) -> float:
    """Return the mean SROCC over people of a ridge regression on ``count`` ratings of each alone."""
    rng, scores = np.random.default_rng(5), []
    for user in rng.choice(len(raters.user_ids), num_users, replace=False):
        order = torch.from_numpy(rng.permutation(len(features)))
        known, new = order[:count], order[count : count + 500]
        observed = torch.from_numpy(raters.rate(ratings.expected_ratings[known], np.full(count, user), rng)).double()
        rows = (features - features[known].mean(dim=0)).double()
        kernel = rows @ rows[known].T / rows[known].square().sum(dim=1).mean()
        weights = torch.linalg.solve(kernel[known] + torch.eye(count).double(), observed - observed.mean())
        scores.append(srocc((kernel[new] @ weights).numpy(), ratings.expected_ratings[new, user].numpy()))
    return float(np.nanmean(scores))


def people(folder: Path, repeats: int) -> None:
    """Print how well each encoder foretells real people's ratings of images that nobody rated."""
    rated = read_folder(folder / "ratings.csv", scale=RatingScale(0, 1), raters=folder / "raters.csv")
    images = sorted(rated.image_ids)
    for name in (PIXELS, DEFAULT_ENCODER, JUDGE_ENCODER):
        features = encode_store(open_encoder(name, "cpu"), rated.images, images, [""] * len(images))
        print_scores(f"Images that nobody rated, {name}", unrated_images(Experiment(rated, features), repeats))


def speed(count: int) -> None:
    """Print seconds to encode images in files, medians of three rounds."""
    encoders = {name: open_encoder(name, "cpu") for name in (PIXELS, DEFAULT_ENCODER, JUDGE_ENCODER)}
    print(f"{count} images, {torch.get_num_threads()} threads\n{'':20}{'pixels':>8}{'seconds':>9}{'ratio':>8}")
    for side in (256, 512):
        with tempfile.TemporaryDirectory() as folder:
            ids = save_images(make_ratings(make_raters(), ContentJudge.load(), num_images=count).images, folder, side)
            store, seconds = FolderImages(folder), {name: list[float]() for name in encoders}
            for _ in range(ROUNDS):
                for name, encoder in encoders.items():
                    clock = time.perf_counter()
                    encode_store(encoder, store, ids, [""] * count, progress=False)
                    seconds[name].append(time.perf_counter() - clock)
        for name, mine in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(mine, seconds[PIXELS], strict=True))
            print(f"{name:20}{side:>8}{statistics.median(mine):>9.2f}{ratio:>8.1f}", flush=True)


def save_images(images: Tensor, folder: str | Path, side: int) -> list[str]:
    """Write images as PNG of ``side`` by ``side`` pixels; returns their names."""
    names = [f"{number}.png" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        to_pil_image(image).resize((side, side)).save(Path(folder) / name, compress_level=1)
    return names


def timed_calls(
    encoder: ImageEncoder, store: FolderImages, ids: list[str], cache: Path
) -> dict[str, Callable[[], object]]:
    """What is timed, in order: the last finds what the one before it left."""

    @torch.no_grad()
    def one_at_a_time() -> None:
        for name in ids:
            encoder.encode_pixels(encoder.from_pil(store.open(name))[None])

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


def cache(count: int, name: str) -> None:
    """Print one row a way."""
    encoder = open_encoder(name, "cpu")
    images = make_ratings(make_raters(), ContentJudge.load(), num_images=count).images
    with tempfile.TemporaryDirectory() as folder:
        image_folder, cache_folder = Path(folder) / "images", Path(folder) / "cache"
        image_folder.mkdir()
        ids = save_images(images, image_folder, SIDE)
        seconds: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for way, run in timed_calls(encoder, FolderImages(image_folder), ids, cache_folder).items():
                clock = time.perf_counter()
                run()
                seconds.setdefault(way, []).append(time.perf_counter() - clock)
        sizes = [sum(f.stat().st_size for f in place.rglob("*.*")) / 2**20 for place in (image_folder, cache_folder)]
    print(f"{count} images, {torch.get_num_threads()} threads, {encoder.name}")
    print(f"{sizes[0]:.0f} MiB of images, {sizes[1]:.1f} MiB of cache")
    print(f"{'':20}{'seconds':>9}{'images/s':>12}{'ratio':>8}")
    for way, mine in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(mine, seconds["no cache"], strict=True))
        print(f"{way:20}{statistics.median(mine):>9.2f}{count / statistics.median(mine):>12.0f}{ratio:>8.3f}")


def main() -> None:
    """Run the part that is named first."""
    part, *given = sys.argv[1:] or [""]
    number = int(given[-1]) if given and given[-1].isdigit() else 0
    if part == "world":
        world(number or 5000)
    elif part == "people" and given:
        people(Path(given[0]), number or 2)
    elif part == "speed":
        speed(number or 60)
    elif part == "cache":
        cache(int(given[0]) if given else 1000, given[1] if len(given) > 1 else WORLD)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()

"""What the personal reward costs: fitting at PAMELA's size, scoring for many people, learning from a newcomer.

python benchmarks/personal_reward.py

Fitting: files of PAMELA's size and layout (69,904 ratings of 5,077 pictures by 199 people, made up) are read, and a
taste basis is fitted to the 50,222 training ratings on features of SigLIP2's width (3 x 1152), made up too, with tastes
to find; in a process of its own, whose memory is the most it ever held. Everything else: medians of 50 calls, the
newcomer on one thread.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from ratings import peak
from torch import Tensor

from pamela_rl.agreement.measure import personal_agreement
from pamela_rl.agreement.study import make_study
from pamela_rl.data.sources import read_pamela
from pamela_rl.rewards.demographics import DemographicsCoding
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.rewards.taste.newcomer import add_rating, fit_newcomer, next_image
from pamela_rl.rewards.taste.noise import Noise
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.rewards.taste.taste_features import TasteFeatures

SIZES = {"train": 50_222, "val_seen": 6_551, "test_seen": 9_735, "val_unseen": 926, "test_unseen": 2_470}
SHARES = {"train": (0.0, 0.7), "val_seen": (0.7, 0.82), "test_seen": (0.82, 1.0)}  # of the pictures
NUM_IMAGES, SEEN, UNSEEN, WIDTH, TASTES = 5_077, 156, 43, 1152, 6


def make_features(seed: int = 0) -> tuple[Tensor, np.ndarray]:
    """Make up features that hide a few dimensions of taste, and what people think of every picture."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((NUM_IMAGES, TASTES))
    mixed = np.tanh(hidden @ rng.standard_normal((TASTES, 3 * WIDTH)) / 2) + rng.standard_normal(
        (NUM_IMAGES, 3 * WIDTH)
    )
    tastes = rng.standard_normal((SEEN + UNSEEN, TASTES)) * 0.4
    return torch.from_numpy(mixed).float(), 3 + 0.5 * hidden[:, :1] + hidden @ tastes.T


def make_files(folder: Path, true_ratings: np.ndarray) -> None:
    """Write annotations and pictures as PAMELA lays them out."""
    rng = np.random.default_rng(1)
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    for image in range(NUM_IMAGES):
        Image.new("RGB", (1, 1), (image % 256, image // 256, 0)).save(folder / "images" / f"{image}.png")
    for split, size in SIZES.items():
        low, high = SHARES[split.replace("unseen", "seen")]
        users = np.arange(SEEN) if not split.endswith("unseen") else SEEN + np.arange(UNSEEN)
        places = rng.integers(int(low * NUM_IMAGES), int(high * NUM_IMAGES), size), rng.choice(users, size)
        given = np.clip(np.rint(true_ratings[places] + 0.7 * rng.standard_normal(size)), 1, 5)
        entries = [
            {
                "participant_id": f"p{user}", "image_id": int(image), "image_path": f"./images/{image}.png",
                "original_score": int(rating),
                "image_metadata": {"prompt": "a dog", "group": "animal", "style": None, "type": "photorealism"},
                "user_demographics": {"age": 20 + int(user) % 40, "gender": "female", "nationality": "belgian"},
            }
            for image, user, rating in zip(*places, given)
        ]  # fmt: skip
        (folder / "annotations" / f"pamela_{split}.json").write_text(json.dumps(entries))


def fit(folder: Path) -> None:
    """Read, fit and measure in this process."""
    features, _ = make_features()
    before, start = peak(), time.perf_counter()
    rated = read_pamela(folder)
    read_seconds = time.perf_counter() - start
    images = [f"images/{image}.png" for image in range(NUM_IMAGES)]
    study = make_study(rated.table, features, images, metadata=("group", "style", "type"))
    start = time.perf_counter()
    model = fit_taste_basis(study.data)
    fit_seconds = time.perf_counter() - start
    held = personal_agreement("", model, study.held_out["test_seen"], study.data.scale)
    count = len(rated.table.rows)
    print(f"{count:,} ratings read in {read_seconds:.1f} s; {len(study.data.train):,} fitted in {fit_seconds:.0f} s")
    print(f"memory at the peak {peak():,.0f} MiB ({before:,.0f} before reading); test_seen SROCC {held.srocc[0]:.3f}")


def random_basis(num_people: int, taste_dim: int) -> TasteBasis:
    """Return a basis of SigLIP2's width with random numbers."""
    torch.manual_seed(0)
    network = TasteFeatures(3 * WIDTH, taste_dim).eval().requires_grad_(False)
    size = taste_dim + 1
    prior = torch.eye(size, dtype=torch.float64)
    noise = Noise(torch.full((num_people,), 0.5, dtype=torch.float64), 0.05, -0.7, 0.4, 1 / 12)
    means = torch.randn(num_people, size, dtype=torch.float64)
    coding = DemographicsCoding({}, {})
    names = tuple(f"p{number}" for number in range(num_people))
    effects = torch.zeros(size, 1, dtype=torch.float64)
    return TasteBasis(network, coding, effects, prior, noise, names, means, prior.repeat(num_people, 1, 1))


def milliseconds(call: Callable[[], object], repeats: int = 50) -> float:
    """Return the median time of a call."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    """Measure everything."""
    os.environ["TQDM_DISABLE"] = "1"
    if len(sys.argv) == 2:
        fit(Path(sys.argv[1]))
        return
    thousand = random_basis(1000, 16)
    images = ImageFeatures(torch.randn(64, 3 * WIDTH))
    print(
        f"64 pictures for 1,000 people after encoding: {milliseconds(lambda: thousand.predict_all_users(images)):.1f} ms"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    basis = random_basis(1, 64)
    rated, ratings, pool = (
        ImageFeatures(torch.randn(100, 3 * WIDTH)),
        1 + 4 * torch.rand(100),
        torch.randn(600, 3 * WIDTH),
    )
    posterior = fit_newcomer(basis, rated, ratings)
    calls = {
        "100 ratings to a newcomer's taste": lambda: fit_newcomer(basis, rated, ratings),
        "one more rating": lambda: add_rating(basis, posterior, rated[torch.tensor([0])], ratings[:1]),
        "the next picture out of 600": lambda: next_image(basis, posterior, ImageFeatures(pool)),
    }
    for name, call in calls.items():
        print(f"{name}, 64 dimensions, one thread: {milliseconds(call):.1f} ms")
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder) / "PAMELA", make_features()[1])
        subprocess.run([sys.executable, __file__, f"{folder}/PAMELA"], check=True)


if __name__ == "__main__":
    main()

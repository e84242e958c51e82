"""Encodes a folder of pictures into a cache, once a file says go; run by tests/rewards/encoders/test_feature_cache.py."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from pamela_rl.data.images import FolderImages
from pamela_rl.rewards.encoders.feature_cache import encode_images
from pamela_rl.rewards.encoders.features import FeatureEncoder
from pamela_rl.storage import WORLD_ENCODER


def main(pictures: Path, cache: Path, name: str) -> None:
    torch.set_num_threads(1)
    ids = sorted(file.name for file in pictures.iterdir())
    random.Random(name).shuffle(ids)
    encoder = FeatureEncoder.load(WORLD_ENCODER)
    cache.with_name(f"{name}.ready").touch()
    while not cache.with_name("go").exists() and cache.parent.exists():  # the test's folder may go before its word
        time.sleep(0.01)
    features = encode_images(encoder, FolderImages(pictures), ids, cache=cache, batch_size=1, progress=False)
    save_file(dict(zip(ids, features.unbind())), cache.with_name(f"{name}.safetensors"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save
from torch import Tensor

from pamela_rl.data.images import FolderImages, ImageStore, ZipImages
from pamela_rl.data.sources.hf_datasets import DatasetImages
from pamela_rl.errors import ConfigError, DataError
from pamela_rl.rewards.encoders.feature_cache import encode_images, encode_store, encode_texts
from pamela_rl.rewards.encoders.feature_files import FeatureFiles
from pamela_rl.rewards.encoders.features import FeatureEncoder, combine
from pamela_rl.storage import WORLD_ENCODER

resource = pytest.importorskip("resource", reason="limits of a process are POSIX")

SCRIPT = Path(__file__).parents[2] / "processes" / "encode_folder.py"
IDS = [f"{number}.png" for number in range(12)]
PROMPTS = ["a boat, at night", "a tree", "a boat, at night", "a house"]


def paint(file: Path, seed: int, size: tuple[int, int] = (64, 64)) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, compress_level=0)


def as_tensor(file: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None].float() / 255


def shards(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.safetensors"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures, most of them not of the encoder's size and not square."""
    (tmp_path / "pictures").mkdir()
    for number, name in enumerate(IDS):
        paint(tmp_path / "pictures" / name, number, (64 + 13 * (number % 4), 64 + 9 * (number % 3)))
    return tmp_path / "pictures"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def encoded(encoder: FeatureEncoder) -> Iterator[list[int]]:
    """How many pictures the encoder was given, batch after batch."""
    counts: list[int] = []
    hook = encoder.model.visual.register_forward_hook(lambda module, inputs, output: counts.append(len(inputs[0])))
    yield counts
    hook.remove()


def in_zip(folder: Path) -> ImageStore:
    return ZipImages(shutil.make_archive(str(folder), "zip", folder))


def in_dataset(folder: Path) -> ImageStore:
    library = pytest.importorskip("datasets", reason="needs the extra 'datasets'")
    content = [{"bytes": (folder / name).read_bytes(), "path": None} for name in IDS]
    rows = library.Dataset.from_dict({"image": content}).cast_column("image", library.Image(decode=False))
    store = DatasetImages("the dataset")
    store.put_column(rows, "image", list(IDS))
    return store


def test_features_of_files_are_those_of_the_samplers_tensors(
    encoder: FeatureEncoder, folder: Path, cache: Path
) -> None:
    tensors = torch.cat([encoder.encode_images(as_tensor(folder / name)) for name in IDS])
    both = torch.cat([encoder.encode(as_tensor(folder / name), ["a boat"]) for name in IDS])
    for _ in ("computed", "from the cache"):
        seen = encode_images(encoder, FolderImages(folder), IDS, cache=cache, batch_size=5)
        assert seen.dtype == torch.float32
        torch.testing.assert_close(seen.norm(dim=1), torch.ones(12))
        torch.testing.assert_close(seen, tensors, atol=2.5e-3, rtol=0)
        assert (seen * tensors).sum(dim=1).min() > 0.9999
        requested = encode_texts(encoder, ["a boat"] * 12, cache=cache)
        # entries of combined features are about 1 and those of the product up to 5
        torch.testing.assert_close(combine(seen, requested), both, atol=0.05, rtol=0)
        whole = encode_store(encoder, FolderImages(folder), IDS, ["a boat"] * 12, cache)
        torch.testing.assert_close(whole, both, atol=0.05, rtol=0)


@pytest.mark.parametrize("make", [FolderImages, in_zip, in_dataset])
def test_every_content_is_encoded_once_and_the_second_time_not_at_all(
    make: Callable[[Path], ImageStore], encoder: FeatureEncoder, folder: Path, cache: Path, encoded: list[int]
) -> None:
    shutil.copy(folder / "3.png", folder / "7.png")
    store = make(folder)
    ids = [*IDS[6:], *IDS, *IDS[:3]]
    plain = encode_images(encoder, store, ids, batch_size=5)
    assert encoded == [5, 5, 1]
    first = encode_images(encoder, store, ids, cache=cache, batch_size=5)
    second = encode_images(encoder, store, ids[::-1], cache=cache).flip(0)
    assert encoded == [5, 5, 1] * 2
    assert torch.equal(first, plain)
    assert torch.equal(second, first)
    assert torch.equal(first[1], first[9])
    alone = torch.cat([encode_images(encoder, store, [name]) for name in ids])
    torch.testing.assert_close(first, alone, atol=1e-5, rtol=0)


def test_a_cache_that_holds_some_is_asked_for_those_alone(
    encoder: FeatureEncoder, folder: Path, cache: Path, encoded: list[int]
) -> None:
    encode_images(encoder, FolderImages(folder), IDS[:7], cache=cache)
    encode_images(encoder, FolderImages(folder), IDS, cache=cache)
    assert encoded == [7, 5]


def test_a_picture_replaced_by_another_of_the_same_name_size_and_time_is_no_hit(
    encoder: FeatureEncoder, folder: Path, cache: Path
) -> None:
    before, facts = encode_images(encoder, FolderImages(folder), IDS, cache=cache), (folder / "0.png").stat()
    paint(folder / "0.png", 99)
    os.utime(folder / "0.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (folder / "0.png").stat().st_size == facts.st_size
    after = encode_images(encoder, FolderImages(folder), IDS, cache=cache)
    assert torch.equal(after[1:], before[1:])
    torch.testing.assert_close(after[:1], encoder.encode_images(as_tensor(folder / "0.png")), atol=1e-5, rtol=0)
    assert (after[0] - before[0]).abs().max() > 0.01


def test_another_encoder_precision_or_preprocessing_is_no_hit(
    encoder: FeatureEncoder, folder: Path, cache: Path, encoded: list[int]
) -> None:
    model, tokenizer, mean, std = encoder.model, encoder._tokenizer, (0.5,) * 3, (0.25,) * 3
    others = [
        encoder,
        FeatureEncoder(model, tokenizer, mean, std, "another"),
        FeatureEncoder(model, tokenizer, mean, std, encoder.fingerprint, "bf16"),
        FeatureEncoder(model, tokenizer, mean, (0.5,) * 3, encoder.fingerprint),
    ]
    for other in [*others, *others]:
        found = encode_images(other, FolderImages(folder), IDS, cache=cache)
        assert torch.equal(found, encode_images(other, FolderImages(folder), IDS))
    assert len(encoded) == 4 + 8


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    if how in ("features swapped", "keys swapped"):
        entries, part = load_file(file), how.split(" ")[0]
        entries[part][:2] = entries[part][:2].flip(0)
        content = bytearray(save(entries))
    elif how == "cut short":
        content = content[: len(content) // 2]
    elif how == "empty":
        content.clear()
    elif how == "no such format":
        content = bytearray(b"<html>504</html>")
    elif how == "another type of number":
        content = content.replace(b'"dtype":"F32"', b'"dtype":"I32"')
    assert content != file.read_bytes()
    file.write_bytes(content)


@pytest.mark.parametrize(
    "how", ["cut short", "empty", "no such format", "another type of number", "features swapped", "keys swapped"]
)
def test_a_damaged_file_is_computed_again_and_replaced(
    how: str, encoder: FeatureEncoder, folder: Path, cache: Path, encoded: list[int]
) -> None:
    right = encode_images(encoder, FolderImages(folder), IDS, cache=cache, batch_size=6)
    file = shards(cache)[0]
    damage(file, how)
    broken = file.rename(file.with_name("any.safetensors"))
    for _ in ("computed again", "from the cache"):
        found = encode_images(encoder, FolderImages(folder), IDS, cache=cache)
        torch.testing.assert_close(found, right, atol=1e-6, rtol=0)
    assert encoded == [6, 6, 2 if "swapped" in how else 6]
    assert not broken.exists()


def test_whatever_byte_is_damaged_features_are_right_and_at_most_a_file_is_computed_again(
    encoder: FeatureEncoder, folder: Path, cache: Path, encoded: list[int]
) -> None:
    right = encode_images(encoder, FolderImages(folder), IDS[:3], cache=cache)
    whole = shards(cache)[0].read_bytes()
    places = {*range(0, 330, 7), *np.random.default_rng(0).integers(0, len(whole), 60).tolist()}
    for place in places:
        for file in shards(cache):
            file.unlink()
        broken = bytearray(whole)
        broken[place] ^= 1 << (place % 8)
        (next(cache.iterdir()) / "any.safetensors").write_bytes(broken)
        found = encode_images(encoder, FolderImages(folder), IDS[:3], cache=cache)
        torch.testing.assert_close(found, right, atol=1e-6, rtol=0)
    assert len(encoded) > len(places) / 2


def test_features_of_another_encoder_put_into_this_ones_folder_are_not_taken(
    encoder: FeatureEncoder, folder: Path, cache: Path, encoded: list[int]
) -> None:
    other = FeatureEncoder(encoder.model, None, (0.1,) * 3, (0.25,) * 3, encoder.fingerprint)
    encode_images(other, FolderImages(folder), IDS, cache=cache)
    wrong = shards(cache)[0]
    right = encode_images(encoder, FolderImages(folder), IDS, cache=cache)
    mine = next(file for file in shards(cache) if file.parent != wrong.parent)
    shutil.copy(wrong, mine)
    assert torch.equal(encode_images(encoder, FolderImages(folder), IDS, cache=cache), right)
    assert len(encoded) == 3


def start(folder: Path, cache: Path, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, SCRIPT, folder, cache, name], stderr=subprocess.PIPE)


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the other processes are not ready"
        time.sleep(0.005)


@pytest.mark.slow
def test_two_processes_fill_the_same_cache_at_the_same_time(
    encoder: FeatureEncoder, folder: Path, cache: Path, encoded: list[int]
) -> None:
    for number in range(60):
        paint(folder / f"more-{number}.png", 1000 + number)
    ids = sorted(file.name for file in folder.iterdir())
    with start(folder, cache, "one") as first, start(folder, cache, "two") as second:
        wait_for(lambda: all(cache.with_name(f"{name}.ready").exists() for name in ("one", "two")))
        cache.with_name("go").touch()
        for process in (first, second):
            assert process.communicate(timeout=120)[1] == b""
            assert process.returncode == 0
    right = encode_images(encoder, FolderImages(folder), ids, batch_size=1)
    one, two = (load_file(cache.with_name(f"{name}.safetensors")) for name in ("one", "two"))
    for name, row in zip(ids, right):
        torch.testing.assert_close(one[name], row, atol=1e-5, rtol=0)
        torch.testing.assert_close(two[name], row, atol=1e-5, rtol=0)
    encoded.clear()
    encode_images(encoder, FolderImages(folder), ids, cache=cache)
    assert not encoded
    assert len(shards(cache)) == len(ids)  # both wrote under the same names
    assert not list(cache.rglob("*.partial"))


WRITER = """
import resource, signal, sys, torch
from pamela_rl.rewards.encoders.feature_files import FeatureFiles

files = FeatureFiles(sys.argv[1], "encoder")
files.save({"aa" * 32: torch.ones(128)})
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
files.save({f"{number:064x}": torch.ones(128) for number in range(100)})
"""


def test_a_process_killed_in_the_middle_of_a_write_leaves_a_cache_that_can_be_used(cache: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", WRITER, cache], capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGXFSZ, killed.stderr.decode()
    (half,) = cache.rglob("*.partial")
    assert half.stat().st_size == 2000
    assert len(shards(cache)) == 1
    files, later = FeatureFiles(cache, "encoder"), {f"{number:064x}": torch.zeros(128) for number in range(100)}
    assert set(files.find({"aa" * 32, *later})) == {"aa" * 32}
    files.save(later)
    assert len(FeatureFiles(cache, "encoder").find({"aa" * 32, *later})) == 101


def test_what_a_killed_process_did_not_finish_is_tidied_up_when_it_is_old(
    encoder: FeatureEncoder, folder: Path, cache: Path
) -> None:
    right = encode_images(encoder, FolderImages(folder), IDS, cache=cache)
    old, new = (shards(cache)[0].with_name(f".{name}.partial") for name in ("old", "new"))
    for partial in (old, new):
        partial.write_bytes(shards(cache)[0].read_bytes()[:1000])
    os.utime(old, (time.time() - 7200,) * 2)
    assert torch.equal(encode_images(encoder, FolderImages(folder), IDS, cache=cache), right)
    assert not old.exists()
    assert new.exists()


def test_a_full_disk_is_warned_about_once_and_done_without(
    encoder: FeatureEncoder, folder: Path, cache: Path, caplog: pytest.LogCaptureFixture, encoded: list[int]
) -> None:
    encode_images(encoder, FolderImages(folder), IDS[:4], cache=cache)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        found = encode_images(encoder, FolderImages(folder), IDS, cache=cache, batch_size=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert encoded == [4, 2, 2, 2, 2]  # what was there is used
    torch.testing.assert_close(found, encode_images(encoder, FolderImages(folder), IDS), atol=1e-5, rtol=0)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "features cannot be kept in" in record.getMessage()
    assert "File too large" in record.getMessage()
    assert "Free the disk, or give another folder" in record.getMessage()
    assert [file.suffix for file in cache.rglob("*") if file.is_file()] == [".safetensors"]  # of the four


def test_a_cache_that_cannot_be_made_is_warned_about_once_and_done_without(
    encoder: FeatureEncoder, folder: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    found = encode_images(encoder, FolderImages(folder), IDS, cache=cache / "features", batch_size=2)
    assert torch.equal(found, encode_images(encoder, FolderImages(folder), IDS, batch_size=2))
    assert [record.getMessage()[:26] for record in caplog.records] == ["features cannot be kept in"]


def test_a_broken_picture_is_named_and_what_was_done_before_it_is_kept(
    encoder: FeatureEncoder, folder: Path, cache: Path, encoded: list[int]
) -> None:
    whole = (folder / "9.png").read_bytes()
    (folder / "9.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"the image .*9\.png cannot be opened \(.*\); replace or remove it"):
        encode_images(encoder, FolderImages(folder), IDS, cache=cache, batch_size=4)
    assert encoded == [4, 4]
    (folder / "9.png").write_bytes(whole)
    encode_images(encoder, FolderImages(folder), IDS, cache=cache)
    assert encoded == [4, 4, 4]
    with pytest.raises(DataError, match=r"cannot open the image 'absent\.png': there is no such image"):
        encode_images(encoder, FolderImages(folder), [*IDS, "absent.png"], cache=cache)


class Restless(FolderImages):
    """Pictures one of which is replaced after it was listed and before it is decoded."""

    def open(self, image: str) -> Image.Image:
        if image == "8.png":
            paint(self.root / image, 77)
        return super().open(image)


def test_a_picture_that_is_replaced_meanwhile_is_named_and_never_kept_as_the_old_one(
    encoder: FeatureEncoder, folder: Path, cache: Path
) -> None:
    old = (folder / "8.png").read_bytes()
    right = encode_images(encoder, FolderImages(folder), IDS)
    with pytest.raises(DataError, match=r"the image '8\.png' changed while .*; run again when nothing writes"):
        encode_images(encoder, Restless(folder), IDS, cache=cache, batch_size=3)
    (folder / "8.png").write_bytes(old)
    found = encode_images(encoder, FolderImages(folder), IDS, cache=cache)
    torch.testing.assert_close(found, right, atol=1e-5, rtol=0)


class Watched(FolderImages):
    """Pictures that count how many were opened."""

    opened = 0

    def open(self, image: str) -> Image.Image:
        self.opened += 1
        return super().open(image)


def test_no_more_than_two_batches_of_pictures_are_decoded_ahead_of_the_encoder(
    encoder: FeatureEncoder, folder: Path
) -> None:
    store, held_out, done = Watched(folder), [], 0

    def note(module: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal done
        time.sleep(0.1)  # for the threads to do what they may
        held_out.append(store.opened - done)
        done += len(inputs[0])

    hook = encoder.model.visual.register_forward_hook(note)
    encode_images(encoder, store, IDS, batch_size=2)
    hook.remove()
    assert held_out == [4, 4, 4, 4, 4, 2]
    assert store.opened == len(IDS)


def test_features_that_are_not_numbers_are_refused_and_not_kept(folder: Path, cache: Path) -> None:
    broken = FeatureEncoder.load(WORLD_ENCODER)
    broken.model.visual.proj.data[0, 0] = float("nan")
    with pytest.raises(ConfigError, match="features are not finite numbers; load it with precision='fp32'"):
        encode_images(broken, FolderImages(folder), IDS, cache=cache)
    assert not shards(cache)


def test_prompts_come_in_their_order_and_are_encoded_once(encoder: FeatureEncoder, cache: Path, folder: Path) -> None:
    fresh, calls = FeatureEncoder.load(WORLD_ENCODER), []
    fresh.model.transformer.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    for _ in ("computed", "from the cache"):
        found = encode_texts(fresh, PROMPTS, cache=cache, batch_size=2)
        torch.testing.assert_close(found, encoder.encode_prompts(PROMPTS), atol=1e-6, rtol=0)
    assert calls == [2, 1]


def test_another_tokenizer_is_not_answered_with_features_of_this_one(encoder: FeatureEncoder, cache: Path) -> None:
    def longer(prompts: list[str]) -> Tensor:
        return encoder.tokenize([f"{prompt}, red" for prompt in prompts])

    other = FeatureEncoder(encoder.model, longer, (0.5,) * 3, (0.25,) * 3, encoder.fingerprint)
    encode_texts(encoder, PROMPTS, cache=cache)
    torch.testing.assert_close(
        encode_texts(other, PROMPTS, cache=cache), encoder.encode_prompts([f"{prompt}, red" for prompt in PROMPTS])
    )


def test_a_bar_is_shown_only_where_it_takes_long(
    encoder: FeatureEncoder, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode_images(encoder, FolderImages(folder), IDS)
    assert capsys.readouterr().err == ""
    for progress, support in ((True, True), (False, False)):
        hook = encoder.model.visual.register_forward_hook(lambda *_: time.sleep(1.1))
        encode_images(encoder, FolderImages(folder), IDS, batch_size=6, progress=progress)
        hook.remove()
        assert ("features of images: 100%" in capsys.readouterr().err) == support


@pytest.mark.parametrize(
    ("ids", "batch_size", "error", "sentence"),
    [([], 4, DataError, "nothing to encode; give at least one"), (IDS, 0, ConfigError, "batch_size is 0; take at")],
)
def test_nothing_to_encode_and_batches_of_nothing_are_refused(
    ids: list[str], batch_size: int, error: type[Exception], sentence: str, encoder: FeatureEncoder, folder: Path
) -> None:
    with pytest.raises(error, match=sentence):
        encode_images(encoder, FolderImages(folder), ids, batch_size=batch_size)


def test_images_without_a_prompt_each_are_refused(encoder: FeatureEncoder, folder: Path) -> None:
    with pytest.raises(ConfigError, match="12 images and 1 prompts"):
        encode_store(encoder, FolderImages(folder), IDS, ["a boat"])

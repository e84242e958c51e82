"""A denoiser cut over three processes, seen from each of them; collectives do nothing here (test_processes.py runs real ones)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from diffusers import PriorTransformer, SanaTransformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_pipelines import BUILDERS, saved, unet
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from pamela_rl.diffusion import sharding
from pamela_rl.diffusion.families import FAMILIES
from pamela_rl.diffusion.loading import load_pipeline, prepare_policy
from pamela_rl.diffusion.policy import Policy
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.errors import ConfigError

RANKS = 3
LAST = RANKS - 1


@contextmanager
def process(rank: int) -> Iterator[None]:
    """Be one of the processes; pipelines are saved outside of the block, since transformers saves on the first one alone."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=RANKS)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def cut(folder: Path, rank: int = LAST, dtype: torch.dtype = torch.float32) -> Policy:
    with process(rank):
        pipeline = load_pipeline(folder, dtype=dtype, to_shard=True)
        denoiser = getattr(pipeline, FAMILIES[type(pipeline).__name__].component)
        assert all(weight.is_meta for weight in denoiser.parameters())  # no weight has been read yet
        return prepare_policy(pipeline, ModelSettings(height=32, width=32, shard=True), "cpu")


def assert_is_the_share_of(whole: Any, denoiser: Any, rank: int) -> None:
    weights = dict(denoiser.named_parameters())
    assert weights.keys() == dict(whole.named_parameters()).keys()
    for name, weight in whole.named_parameters():
        parts = weight.chunk(RANKS)
        expected = parts[rank] if rank < len(parts) else weight[:0]
        assert isinstance(weights[name], DTensor)
        assert weights[name].shape == weight.shape
        torch.testing.assert_close(
            weights[name].to_local(), expected, rtol=0, atol=0, msg=name
        )  # and of the same dtype
    buffers = dict(denoiser.named_buffers())
    assert buffers.keys() == dict(whole.named_buffers()).keys()
    for name, buffer in whole.named_buffers():
        torch.testing.assert_close(buffers[name], buffer, rtol=0, atol=0, msg=name)
    assert denoiser.config == whole.config


@pytest.mark.parametrize("to_shard", [True, False], ids=["empty", "whole"])
def test_the_denoiser_is_the_root_so_that_a_block_is_gathered_while_another_computes(to_shard: bool) -> None:
    with process(LAST):
        settings = ModelSettings(height=32, width=32, shard=True)
        policy = prepare_policy(load_pipeline("world", to_shard=to_shard), settings, "cpu")
        latents = policy.initial_latents([torch.Generator()])
        with torch.no_grad():
            policy.predict(latents, torch.full((1,), 500.0), policy.encode(["a boat"]), None, 1.0)
    states = {
        module: module._get_fsdp_state() for module in policy.denoiser.modules() if isinstance(module, FSDPModule)
    }
    assert len(states) > 1
    assert [module for module, state in states.items() if state._is_root] == [policy.denoiser]
    assert len({state._comm_ctx for state in states.values()}) == 1  # one stream of gathers for all


@pytest.mark.parametrize(("rank", "dtype"), [(0, torch.float32), (1, torch.bfloat16), (2, torch.float32)])
@pytest.mark.parametrize("family", ["StableDiffusionPipeline", "StableDiffusion3Pipeline", "FluxPipeline"])
def test_a_process_reads_the_share_of_what_an_ordinary_load_reads(
    tmp_path: Path, rank: int, family: str, dtype: torch.dtype
) -> None:
    pipeline = BUILDERS[family]()
    for buffer in getattr(pipeline, FAMILIES[family].component).buffers():
        buffer += 1  # unlike what its class makes
    pipeline.save_pretrained(tmp_path, max_shard_size="20KB" if family == "FluxPipeline" else "10GB")
    assert bool(list(tmp_path.glob("transformer/*.index.json"))) == (family == "FluxPipeline")  # several files, or one
    policy = cut(tmp_path, rank, dtype)
    whole = load_pipeline(tmp_path, dtype=dtype)
    assert_is_the_share_of(getattr(whole, policy.component), policy.denoiser, rank)
    assert policy.pipeline.config == whole.config


def test_buffers_in_no_file_and_weights_kept_in_fp32_are_as_an_ordinary_load_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SanaTransformer2DModel, "_keep_in_fp32_modules", ["time_embed", "pos_embed"])
    pipeline = BUILDERS["SanaPipeline"]()
    pipeline.transformer = SanaTransformer2DModel.from_config(pipeline.transformer.config, interpolation_scale=1)
    pipeline.save_pretrained(tmp_path)
    whole = load_pipeline(tmp_path, dtype=torch.bfloat16).transformer
    assert dict(whole.named_buffers()).keys() - whole.state_dict().keys()
    assert {weight.dtype for weight in whole.parameters()} == {torch.float32, torch.bfloat16}
    assert_is_the_share_of(whole, cut(tmp_path, LAST, torch.bfloat16).denoiser, LAST)


def test_buffers_are_of_the_dtype_that_an_ordinary_load_gives_them(tmp_path: Path) -> None:
    PriorTransformer(num_attention_heads=2, attention_head_dim=8, num_layers=1).save_pretrained(
        tmp_path / "transformer"
    )
    index = {"transformer": ["diffusers", "PriorTransformer"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    whole = PriorTransformer.from_pretrained(tmp_path / "transformer", dtype=torch.bfloat16)
    (mask,) = whole.buffers()
    assert mask.dtype == torch.bfloat16
    (made,) = sharding.empty_denoiser(tmp_path, torch.bfloat16)["transformer"].buffers()
    torch.testing.assert_close(made, mask, rtol=0, atol=0)


def test_weights_under_the_names_that_diffusers_gave_them_once_are_found(tmp_path: Path) -> None:
    pipeline = BUILDERS["StableDiffusionPipeline"]()
    pipeline.unet = unet(down_block_types=("AttnDownBlock2D", "CrossAttnDownBlock2D"))
    pipeline.save_pretrained(tmp_path)
    file = tmp_path / "unet" / sharding.WEIGHTS
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(file)
    for name in [name for name in weights if name.startswith("down_blocks.0.attentions")]:
        for new, former in old.items():
            if f".{new}." in name:
                weights[name.replace(new, former)] = weights.pop(name)
    save_file(weights, file, {"format": "pt"})
    assert_is_the_share_of(load_pipeline(tmp_path).unet, cut(tmp_path).denoiser, LAST)


class CountedFile:
    """A safetensors file that counts the bytes read from it: a slice is a view of the mapped file, read when it is used."""

    read = 0

    def __init__(self, path: Path, framework: str):
        self._file, self._slice = safe_open(path, framework), None

    def __enter__(self) -> CountedFile:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def keys(self) -> list[str]:
        return list(self._file.keys())

    def get_slice(self, name: str) -> CountedFile:
        self._slice = self._file.get_slice(name)
        return self

    def get_shape(self) -> list[int]:
        return self._slice.get_shape()

    def __getitem__(self, rows: slice) -> torch.Tensor:
        return self._counted(self._slice[rows])

    def get_tensor(self, name: str) -> torch.Tensor:
        return self._counted(self._file.get_tensor(name))

    def _counted(self, tensor: torch.Tensor) -> torch.Tensor:
        CountedFile.read += tensor.nbytes
        return tensor


@pytest.mark.parametrize("rank", range(RANKS))
def test_a_process_reads_no_more_of_the_files_than_it_keeps(
    tmp_path: Path, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("FluxPipeline", tmp_path)
    monkeypatch.setattr(sharding, "safe_open", CountedFile)
    monkeypatch.setattr(CountedFile, "read", 0)
    denoiser = cut(tmp_path, rank).denoiser
    kept = sum(weight.to_local().nbytes for weight in denoiser.parameters())
    whole = sum(weight.nbytes for weight in denoiser.parameters())
    assert CountedFile.read == kept
    assert kept < 0.38 * whole  # 6 rows of 16 at most


@pytest.mark.parametrize("several", [False, True], ids=["one file", "several files"])
def test_a_weight_that_no_file_has_is_named(tmp_path: Path, several: bool) -> None:
    BUILDERS["FluxPipeline"]().save_pretrained(tmp_path, max_shard_size="20KB" if several else "10GB")
    folder, name = tmp_path / "transformer", "transformer_blocks.0.attn.to_q.weight"
    if several:
        index = json.loads((folder / sharding.INDEX).read_text(encoding="utf-8"))
        del index["weight_map"][name]
        (folder / sharding.INDEX).write_text(json.dumps(index), encoding="utf-8")
    else:
        weights = load_file(folder / sharding.WEIGHTS)
        del weights[name]
        save_file(weights, folder / sharding.WEIGHTS)
    with pytest.raises(ConfigError, match=rf"transformer lacks 1 of the denoiser's weights, e\.g\. {name}; download"):
        cut(tmp_path)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:1000]), "the weights in .*transformer cannot be read"),
        (
            lambda file: save_file({**load_file(file), "x_embedder.weight": torch.zeros(3, 4)}, file),
            r"the denoiser's weight x_embedder.weight is of shape \(3, 4\) in its file but \(16, 16\) by its config; download",
        ),
    ],
    ids=["cut short", "another shape"],
)
def test_files_that_do_not_hold_the_model_are_refused(tmp_path: Path, broken: Any, sentence: str) -> None:
    broken(saved("FluxPipeline", tmp_path) / "transformer" / sharding.WEIGHTS)
    with pytest.raises(ConfigError, match=sentence):
        cut(tmp_path)


def test_what_is_not_in_files_of_diffusers_own_names_is_left_to_an_ordinary_load(tmp_path: Path) -> None:
    folder = saved("FluxPipeline", tmp_path)
    file = folder / "transformer" / sharding.WEIGHTS
    file.rename(file.with_name("other.safetensors"))
    assert sharding.empty_denoiser(folder, torch.float32) == {}
    with pytest.raises(ConfigError, match=r"no diffusers pipeline can be loaded"):
        load_pipeline(folder, to_shard=True)

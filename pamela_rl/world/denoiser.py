"""The world's text encoder and UNet: an ordinary Stable Diffusion pipeline, trained from nothing on captioned scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pamela_rl.world.captions import random_captions
from pamela_rl.world.fitting import FitSettings, fit
from pamela_rl.world.scenes import Scene, plain_scenes

CONTEXT_LENGTH = 32
UNCONDITIONAL_SHARE = 0.1  # of captions left empty, so that guidance has something to lean on
FIRST_LESSON = 400  # steps on plain scenes and strong noise


def new_tokenizer(captions: Sequence[str]) -> CLIPTokenizer:
    """Learn CLIP byte-pair merges on captions, until each of their words is one token; other text falls into pieces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=1400, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learned.train_from_iterator((text.replace(",", " ,") for text in captions), trainer)
    merges = [tuple(pair) for pair in json.loads(learned.to_str())["model"]["merges"]]
    pieces = dict.fromkeys([*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in merges)])
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_LENGTH)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build the text encoder with random weights."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        projection_dim=64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def new_unet(latent_channels: int) -> UNet2DConditionModel:
    """Build the UNet with random weights."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    """Build the noise schedule: v-prediction down to pure noise, so that very dark and very bright pictures exist."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # unused by trailing spacing; any other value makes diffusers warn
    )


def _train(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    latents: Tensor,
    scenes: Sequence[Scene],
    settings: FitSettings,
    batch_size: int,
    folder: Path,
) -> None:
    scheduler = new_scheduler()
    device = unet.device
    plain = torch.tensor(plain_scenes(scenes))

    def loss(step: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(latents), (batch_size,), generator=generator)
        timesteps = torch.randint(1000, (batch_size,), generator=generator)
        if step < FIRST_LESSON:
            rows, timesteps = plain[rows % len(plain)], 500 + timesteps // 2
        texts = random_captions([scenes[int(row)] for row in rows], np.random.default_rng(step))
        empty = torch.rand(batch_size, generator=generator) < UNCONDITIONAL_SHARE
        texts = ["" if drop else text for text, drop in zip(texts, empty.tolist(), strict=True)]
        tokens = tokenizer(texts, padding="max_length", max_length=CONTEXT_LENGTH, return_tensors="pt").input_ids
        noise = torch.randn((batch_size, *latents.shape[1:]), generator=generator)
        clean = latents[rows]
        noisy = scheduler.add_noise(clean, noise, timesteps).to(device)
        target = scheduler.get_velocity(clean, noise, timesteps).to(device)
        # on a CPU half precision costs more than it saves
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            embeds = text_encoder(tokens.to(device))[0]
            output = unet(noisy, timesteps.to(device), embeds).sample
        return torch.nn.functional.mse_loss(output.float(), target)

    fit("denoiser", [unet, text_encoder], loss, settings, folder)


def train_pipeline(
    vae: AutoencoderKL,
    latents: Tensor,
    scenes: Sequence[Scene],
    settings: FitSettings,
    batch_size: int,
    folder: Path,
) -> StableDiffusionPipeline:
    """Train a text encoder and a UNet together.

    Args:
        vae: The trained autoencoder.
        latents: Its latents of each scene's drawing, not yet scaled, ``(n, c, 8, 8)``.
        scenes: What each drawing shows; captions are drawn afresh at every step.
        settings: Length and rates.
        batch_size: Drawings a step.
        folder: Where checkpoints and the log go.

    Returns:
        The whole pipeline, on the CPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    corpus = random_captions(list(scenes[:4000]), np.random.default_rng(0))
    tokenizer = new_tokenizer(corpus)
    text_encoder = new_text_encoder(tokenizer).to(device)
    unet = new_unet(vae.config.latent_channels).to(device)
    scaled = latents * vae.config.scaling_factor
    _train(unet, text_encoder, tokenizer, scaled, scenes, settings, batch_size, folder)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder.cpu(),
        tokenizer=tokenizer,
        unet=unet.cpu(),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )

"""Every family's pipeline, small and random, built from configs, saved and read back from disk as a user's is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

BYTES = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
TEMPLATE = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}{% endif %} {% endfor %}"


def clip_tokenizer() -> CLIPTokenizer:
    pieces = [*BYTES, *(f"{piece}</w>" for piece in BYTES), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: row for row, piece in enumerate(pieces)}, merges=[], model_max_length=77)


def clip_config(tokenizer: CLIPTokenizer, **changes: Any) -> CLIPTextConfig:
    settings = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 77, "projection_dim": 16,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    return CLIPTextConfig(**settings | changes)


def t5(width: int = 16) -> tuple[T5EncoderModel, T5Tokenizer]:
    pieces = ["<pad>", "</s>", "<unk>", "▁", *(f"{letter}" for letter in "abcdefghijklmnopqrstuvwxyz,-.")]
    tokenizer = T5Tokenizer(vocab=[(piece, -float(row)) for row, piece in enumerate(pieces)], extra_ids=0)
    config = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=16, num_layers=2, num_heads=2)
    return T5EncoderModel(config), tokenizer


def language_tokenizer() -> Qwen2Tokenizer:
    vocab = {
        piece: row for row, piece in enumerate([*BYTES, *(chr(code) for code in range(256, 325)), "<|endoftext|>"])
    }
    return Qwen2Tokenizer(vocab=vocab, merges=[], chat_template=TEMPLATE)


def kl(channels: int = 4, **changes: Any) -> AutoencoderKL:
    settings = {
        "block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
    }  # fmt: skip
    return AutoencoderKL(**settings | changes)


def flow_kl(channels: int) -> AutoencoderKL:
    return kl(channels, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.36, shift_factor=0.12)


def unet(**changes: Any) -> UNet2DConditionModel:
    settings = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (8, 16),
        "norm_num_groups": 4, "cross_attention_dim": 16, "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    return UNet2DConditionModel(**settings | changes)


def ddim() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


def stable_diffusion() -> Any:
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=kl(), text_encoder=CLIPTextModel(clip_config(tokenizer)), tokenizer=tokenizer, unet=unet(),
        scheduler=ddim(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl() -> Any:
    tokenizer = clip_tokenizer()
    second = CLIPTextModelWithProjection(clip_config(tokenizer))
    denoiser = unet(
        cross_attention_dim=32, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16, transformer_layers_per_block=(1, 1),
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=kl(), text_encoder=CLIPTextModel(clip_config(tokenizer)), text_encoder_2=second, tokenizer=tokenizer,
        tokenizer_2=clip_tokenizer(), unet=denoiser, scheduler=ddim(), add_watermarker=False,
    )  # fmt: skip


def stable_diffusion_3() -> Any:
    tokenizer, (third, third_tokenizer) = clip_tokenizer(), t5(width=32)
    first, second = (CLIPTextModelWithProjection(clip_config(tokenizer)) for _ in range(2))
    denoiser = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32,
        pos_embed_max_size=16,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=denoiser, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=flow_kl(4), text_encoder=first,
        tokenizer=tokenizer, text_encoder_2=second, tokenizer_2=clip_tokenizer(), text_encoder_3=third,
        tokenizer_3=third_tokenizer,
    )  # fmt: skip


def flux(guidance_embeds: bool = True) -> Any:
    tokenizer, (second, second_tokenizer) = clip_tokenizer(), t5()
    denoiser = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, guidance_embeds=guidance_embeds, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0), vae=flow_kl(4),
        text_encoder=CLIPTextModel(clip_config(tokenizer)), tokenizer=tokenizer, text_encoder_2=second,
        tokenizer_2=second_tokenizer, transformer=denoiser,
    )  # fmt: skip


def flux2_parts(text_dim: int) -> dict[str, Any]:
    autoencoder = AutoencoderKLFlux2(
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    autoencoder.bn.running_mean.normal_()
    denoiser = Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=text_dim, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return {"scheduler": scheduler, "vae": autoencoder, "transformer": denoiser}


def flux2() -> Any:
    tokenizer = language_tokenizer()
    text = {
        "model_type": "mistral", "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16,
        "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
    }  # fmt: skip
    vision = {
        "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "head_dim": 8, "image_size": 32, "patch_size": 16,
    }  # fmt: skip
    encoder = Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision))
    return Flux2Pipeline(text_encoder=encoder, tokenizer=tokenizer, **flux2_parts(text_dim=32))


def qwen3(tokenizer: Qwen2Tokenizer) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
            num_key_value_heads=2, head_dim=8,
        )
    )  # fmt: skip


def flux2_klein() -> Any:
    tokenizer = language_tokenizer()
    parts = flux2_parts(text_dim=32)
    parts["transformer"] = Flux2Transformer2DModel.from_config(
        dict(parts["transformer"].config) | {"guidance_embeds": False}
    )
    return Flux2KleinPipeline(text_encoder=qwen3(tokenizer), tokenizer=tokenizer, **parts)


def qwen_image() -> Any:
    tokenizer = language_tokenizer()
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))
    autoencoder = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.1, 0.2, 0.0], latents_std=[1.5, 1.0, 0.8, 1.2],
    )  # fmt: skip
    denoiser = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 2, 2),
    )  # fmt: skip
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0), vae=autoencoder,
        text_encoder=encoder, tokenizer=tokenizer, transformer=denoiser,
    )  # fmt: skip


def z_image() -> Any:
    tokenizer = language_tokenizer()
    denoiser = ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, cap_feat_dim=16, axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0), vae=flow_kl(4),
        text_encoder=qwen3(tokenizer), tokenizer=tokenizer, transformer=denoiser,
    )  # fmt: skip


def sana() -> Any:
    tokenizer = language_tokenizer()
    encoder = Gemma2Model(
        Gemma2Config(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, head_dim=8,
        )
    )  # fmt: skip
    autoencoder = AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)), upsample_block_type="interpolate",
        downsample_block_type="stride_conv", decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41,
    )  # fmt: skip
    denoiser = SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=32,
    )  # fmt: skip
    return SanaPipeline(
        tokenizer=tokenizer, text_encoder=encoder, vae=autoencoder, transformer=denoiser,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], Any]] = {
    "StableDiffusionPipeline": stable_diffusion,
    "StableDiffusionXLPipeline": stable_diffusion_xl,
    "StableDiffusion3Pipeline": stable_diffusion_3,
    "FluxPipeline": flux,
    "Flux2Pipeline": flux2,
    "Flux2KleinPipeline": flux2_klein,
    "QwenImagePipeline": qwen_image,
    "ZImagePipeline": z_image,
    "SanaPipeline": sana,
}
# what a small model's call needs beside what a user gives
CALL_OPTIONS: dict[str, dict[str, Any]] = {
    "Flux2Pipeline": {"text_encoder_out_layers": (1, 2)},
    "Flux2KleinPipeline": {"text_encoder_out_layers": (1, 2)},
}


def saved(name: str, folder: Path) -> Path:
    """Build a family's pipeline and save it."""
    torch.manual_seed(0)
    BUILDERS[name]().save_pretrained(folder)
    return folder


def reloaded(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Read a pipeline back."""
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return aligned(pipeline)


def aligned(pipeline: Any) -> Any:
    """Copy weights out of their files' unaligned maps and freeze them: kernels round by both."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for weight in part.requires_grad_(False).parameters():
                weight.data = weight.data.clone()
    return pipeline

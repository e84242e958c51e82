"""Text encoders of the published widths with two layers and random weights, and tokenizers that read any text."""

from __future__ import annotations

from typing import Any

from open_clip.tokenizer import SimpleTokenizer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz,-."


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's own tokenizer, whose vocabulary open_clip ships."""
    own = SimpleTokenizer()
    merges = list(own.bpe_ranks)
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {renamed.get(piece, piece): row for piece, row in own.encoder.items()}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def clip(width: int, projected: bool, small: bool) -> Any:
    """A CLIP text model of ``width``, thin inside on request; 768 is ViT-L's, 1280 bigG's."""
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=64 if small else 4 * width, num_hidden_layers=2, num_attention_heads=width // 64,
        projection_dim=width, bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5(small: bool) -> tuple[T5EncoderModel, T5Tokenizer]:
    """A T5 of XXL's width, thin inside on request, and a tokenizer of letters."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *LETTERS]
    tokenizer = T5Tokenizer(vocab=[(piece, -float(row)) for row, piece in enumerate(pieces)], extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=4096, d_kv=64, d_ff=64 if small else 10240, num_layers=2,
        num_heads=1 if small else 64, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5EncoderModel(config), tokenizer


def text_parts(key: str, small: bool) -> dict[str, Any]:
    """The text encoders and tokenizers of a model of ``real_models.MODELS``, by the pipeline's own names."""
    if key == "sd15":
        return {"text_encoder": clip(768, False, small), "tokenizer": clip_tokenizer()}
    if key == "sdxl":
        second = {"text_encoder_2": clip(1280, True, small), "tokenizer_2": clip_tokenizer()}
        return {"text_encoder": clip(768, False, small), "tokenizer": clip_tokenizer(), **second}
    encoder, tokenizer = t5(small)
    if key == "flux":
        second = {"text_encoder_2": encoder, "tokenizer_2": tokenizer}
        return {"text_encoder": clip(768, False, small), "tokenizer": clip_tokenizer(), **second}
    clips = {"text_encoder": clip(768, True, small), "text_encoder_2": clip(1280, True, small)}
    tokenizers = {"tokenizer": clip_tokenizer(), "tokenizer_2": clip_tokenizer(), "tokenizer_3": tokenizer}
    return {**clips, **tokenizers, "text_encoder_3": encoder}

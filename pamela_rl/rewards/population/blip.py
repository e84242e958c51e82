"""The BLIP inside ImageReward, as transformers' modules under the original's weights.

Names, sizes and constants are those of ``vit.py`` and ``med.py`` of github.com/salesforce/BLIP, which ImageReward
copies. Sizes are read off the weights. transformers' defaults differ in two places that change every number: the
epsilon of the vision tower's norms (1e-5, not 1e-6) and the text tower's heads (8, not 12).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pamela_rl.errors import ConfigError
from pamela_rl.rewards.population.weights import load_weights

HEAD_WIDTH = 64  # of ViT-L/16 and of BERT alike: 16 heads of 1024, 12 heads of 768
VISION_NAMES = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"^norm\.", "post_layernorm."),
)


def vision_tower(state: Mapping[str, Tensor], origin: Path) -> Any:
    """Build the vision transformer whose tensors are ``state``, under the names of BLIP's ``vit.py``.

    Raises:
        ConfigError: Names or shapes differ.
    """
    from transformers import BlipVisionConfig, BlipVisionModel

    _, _, patch, _ = _shape(state, "patch_embed.proj.weight", origin)
    _, places, width = _shape(state, "pos_embed", origin)
    config = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=_shape(state, "blocks.0.mlp.fc1.weight", origin)[0],
        num_hidden_layers=_count(state, r"blocks\.(\d+)\."),
        num_attention_heads=width // HEAD_WIDTH,
        image_size=patch * round((places - 1) ** 0.5),
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    tower = BlipVisionModel(config)
    load_weights(tower, {_vision_name(name): value for name, value in state.items()}, origin)
    return tower


def text_tower(state: Mapping[str, Tensor], origin: Path) -> Any:
    """Build the BERT with cross-attention whose tensors are ``state``, under the names of BLIP's ``med.py``.

    Raises:
        ConfigError: Names or shapes differ.
    """
    from transformers import BlipTextConfig, BlipTextModel

    vocabulary, width = _shape(state, "embeddings.word_embeddings.weight", origin)
    config = BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        encoder_hidden_size=_shape(state, "encoder.layer.0.crossattention.self.key.weight", origin)[1],
        intermediate_size=_shape(state, "encoder.layer.0.intermediate.dense.weight", origin)[0],
        num_hidden_layers=_count(state, r"encoder\.layer\.(\d+)\."),
        num_attention_heads=width // HEAD_WIDTH,
        max_position_embeddings=_shape(state, "embeddings.position_embeddings.weight", origin)[0],
        layer_norm_eps=1e-12,
    )
    tower = BlipTextModel(config, add_pooling_layer=False)
    counting = "embeddings.position_ids"  # 0, 1, 2, … and no weight
    load_weights(tower, {name: value for name, value in state.items() if name != counting}, origin)
    return tower


def _vision_name(name: str) -> str:
    for pattern, replacement in VISION_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _shape(state: Mapping[str, Tensor], name: str, origin: Path) -> tuple[int, ...]:
    if name not in state:
        raise ConfigError(
            f"{origin} is no ImageReward: it lacks {name}; give ImageReward.pt as its authors publish it."
        )
    return tuple(state[name].shape)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for name in state if (found := re.match(pattern, name))})

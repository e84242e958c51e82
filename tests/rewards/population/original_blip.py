"""ImageReward once more, written from its papers and the names of its weights: no modules, only tensors by name."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm

HIDDEN, VISION_HIDDEN, LAYERS, PATCH, SIZE, PLACES = 128, 192, 2, 8, 32, 40  # 2 and 3 heads of 64


def words() -> list[str]:
    named = ["a", "the", "red", "blue", "boat", "tree", "house", "houses", "two", "and", "at", "night"]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *named]


def imagereward_state() -> dict[str, Tensor]:
    """Random tensors under all of the names of ImageReward.pt but the head's."""
    state: dict[str, Tensor] = {}

    def linear(name: str, width_out: int, width_in: int) -> None:
        state[f"{name}.weight"] = torch.randn(width_out, width_in) / width_in**0.5
        state[f"{name}.bias"] = torch.randn(width_out) * 0.3

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.3 * torch.randn(width), 0.3 * torch.randn(width)

    eyes, text = "blip.visual_encoder", "blip.text_encoder"
    faint = 0.02  # so that the epsilon of the first norms shows
    state[f"{eyes}.cls_token"] = torch.randn(1, 1, VISION_HIDDEN) * faint
    state[f"{eyes}.pos_embed"] = torch.randn(1, (SIZE // PATCH) ** 2 + 1, VISION_HIDDEN) * faint
    state[f"{eyes}.patch_embed.proj.weight"] = torch.randn(VISION_HIDDEN, 3, PATCH, PATCH) * 0.1 * faint
    state[f"{eyes}.patch_embed.proj.bias"] = torch.randn(VISION_HIDDEN) * faint
    norm(f"{eyes}.norm", VISION_HIDDEN)
    for i in range(LAYERS):
        block = f"{eyes}.blocks.{i}"
        norm(f"{block}.norm1", VISION_HIDDEN)
        norm(f"{block}.norm2", VISION_HIDDEN)
        linear(f"{block}.attn.qkv", 3 * VISION_HIDDEN, VISION_HIDDEN)
        linear(f"{block}.attn.proj", VISION_HIDDEN, VISION_HIDDEN)
        linear(f"{block}.mlp.fc1", 2 * VISION_HIDDEN, VISION_HIDDEN)
        linear(f"{block}.mlp.fc2", VISION_HIDDEN, 2 * VISION_HIDDEN)
    state[f"{text}.embeddings.position_ids"] = torch.arange(PLACES)[None]
    state[f"{text}.embeddings.word_embeddings.weight"] = (
        torch.randn(len(words()) + 2, HIDDEN) * faint / 5
    )  # [DEC] and [ENC]
    state[f"{text}.embeddings.position_embeddings.weight"] = torch.randn(PLACES, HIDDEN) * faint / 5
    norm(f"{text}.embeddings.LayerNorm", HIDDEN)
    for i in range(LAYERS):
        layer = f"{text}.encoder.layer.{i}"
        for attention, width in (("attention", HIDDEN), ("crossattention", VISION_HIDDEN)):
            linear(f"{layer}.{attention}.self.query", HIDDEN, HIDDEN)
            linear(f"{layer}.{attention}.self.key", HIDDEN, width)
            linear(f"{layer}.{attention}.self.value", HIDDEN, width)
            linear(f"{layer}.{attention}.output.dense", HIDDEN, HIDDEN)
            norm(f"{layer}.{attention}.output.LayerNorm", HIDDEN)
        linear(f"{layer}.intermediate.dense", 2 * HIDDEN, HIDDEN)
        linear(f"{layer}.output.dense", HIDDEN, 2 * HIDDEN)
        norm(f"{layer}.output.LayerNorm", HIDDEN)
    linear("blip.vision_proj", 16, VISION_HIDDEN)
    linear("blip.text_proj", 16, HIDDEN)
    return state


class Original:
    """Scores as ImageReward.py does, one step after the other."""

    def __init__(self, state: dict[str, Tensor]):
        self.state = state
        self.used: list[str] = []

    def get(self, name: str) -> Tensor:
        self.used.append(name)
        return self.state[name]

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.get(f"{name}.weight").T + self.get(f"{name}.bias")

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.get(f"{name}.weight"), self.get(f"{name}.bias"), eps)

    def see(self, pixels: Tensor) -> Tensor:
        eyes = "blip.visual_encoder"
        kernel, bias = self.get(f"{eyes}.patch_embed.proj.weight"), self.get(f"{eyes}.patch_embed.proj.bias")
        x = conv2d(pixels, kernel, bias, stride=PATCH).flatten(2).transpose(1, 2)
        x = torch.cat([self.get(f"{eyes}.cls_token").expand(len(x), -1, -1), x], dim=1) + self.get(f"{eyes}.pos_embed")
        for i in range(LAYERS):
            block = f"{eyes}.blocks.{i}"
            q, k, v = self.linear(self.norm(x, f"{block}.norm1", 1e-6), f"{block}.attn.qkv").chunk(3, dim=-1)
            x = x + self.linear(attend(q, k, v, torch.ones(x.shape[:2])), f"{block}.attn.proj")
            inner = gelu(self.linear(self.norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1"))
            x = x + self.linear(inner, f"{block}.mlp.fc2")
        return self.norm(x, f"{eyes}.norm", 1e-6)

    def read(self, tokens: Tensor, mask: Tensor, seen: Tensor) -> Tensor:
        text = "blip.text_encoder"
        places = self.get(f"{text}.embeddings.position_embeddings.weight")[: tokens.shape[1]]
        x = self.get(f"{text}.embeddings.word_embeddings.weight")[tokens] + places
        x = self.norm(x, f"{text}.embeddings.LayerNorm", 1e-12)
        for i in range(LAYERS):
            layer = f"{text}.encoder.layer.{i}"
            for name, context, seen_of in (
                ("attention", None, mask),
                ("crossattention", seen, torch.ones(seen.shape[:2])),
            ):
                source = x if context is None else context
                q = self.linear(x, f"{layer}.{name}.self.query")
                k, v = (self.linear(source, f"{layer}.{name}.self.{part}") for part in ("key", "value"))
                said = self.linear(attend(q, k, v, seen_of), f"{layer}.{name}.output.dense")
                x = self.norm(said + x, f"{layer}.{name}.output.LayerNorm", 1e-12)
            inner = self.linear(gelu(self.linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
            x = self.norm(inner + x, f"{layer}.output.LayerNorm", 1e-12)
        return x[:, 0]

    def score(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.read(tokens, mask, self.see(pixels))
        for i in (0, 2, 4, 6, 7):
            x = self.linear(x, f"mlp.layers.{i}")
        return (x[:, 0] - 0.16717362830052426) / 1.0333394966054072


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Heads of 64; ``mask`` (b, keys) is 1 where there is something to attend to."""
    b, n, width = q.shape
    q, k, v = (x.view(b, -1, width // 64, 64).transpose(1, 2) for x in (q, k, v))
    logits = q @ k.transpose(-1, -2) / 8 + (1 - mask[:, None, None]) * -10000
    return (logits.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, width)

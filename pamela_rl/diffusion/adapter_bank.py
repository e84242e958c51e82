"""Adapters of several people on one frozen base: in one call, every row goes through its own person's LoRA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from pamela_rl.config import LoraSettings
from pamela_rl.errors import AdapterError, ConfigError

Matrices = Sequence[tuple[Tensor, Tensor, Tensor | None]]
DOWN, UP = "lora_A.weight", "lora_B.weight"  # PEFT's names of a layer's matrices, (rank, in) and (out, rank)


@dataclass(eq=False)
class Adapter:
    """One person's LoRA, trained by itself: parameter, optimizer and step count are its own.

    Attributes:
        weights: All its matrices in one vector, fp32, so that an optimizer's step, a sum of gradients and a stack over people
            are one operation each, ``(size,)``.
        settings: Rank and alpha.
        shapes: Of its matrices by PEFT's names, in the order in which they lie in the vector.
        strength: What its effect is multiplied by; 1 as it is trained.
    """

    weights: Tensor
    settings: LoraSettings
    shapes: Mapping[str, torch.Size]
    strength: float = 1.0

    @property
    def matrices(self) -> dict[str, Tensor]:
        """Views of its matrices by PEFT's names, ``(rank, in)`` and ``(out, rank)``."""
        parts = self.weights.detach().split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def state(self) -> dict[str, Tensor]:
        """Copy its matrices to the CPU, by PEFT's names."""
        return {name: matrix.cpu().clone() for name, matrix in self.matrices.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Overwrite its matrices with saved ones of the same names and shapes."""
        for name, matrix in self.matrices.items():
            matrix.copy_(state[name])


def with_effect(state: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Multiply what an adapter adds to each layer: its second matrices."""
    return {name: matrix * factor if name.endswith(UP) else matrix for name, matrix in state.items()}


@dataclass(frozen=True)
class Stacked:
    """The adapters of a call.

    Attributes:
        weights: Of K people, scaled, in the dtype of the call, ``(K, size)``.
        shapes: Of the matrices in a row of it.
    """

    weights: Tensor
    shapes: tuple[torch.Size, ...]

    def matrices(self, kept: Tensor | None = None) -> Matrices:
        """Return for each layer ``(K, in, rank)`` and ``(K, rank, out)``, views, and its part of ``kept``.

        Args:
            kept: What each row's inputs are multiplied by, those of all layers in their order, ``(rows, …)``; None leaves them.
        """
        parts = self.weights.split([shape.numel() for shape in self.shapes], dim=1)
        matrices = [part.view(-1, *shape).mT for part, shape in zip(parts, self.shapes, strict=True)]
        downs, ups = matrices[::2], matrices[1::2]
        masks = [None] * len(downs) if kept is None else kept.split([down.shape[1] for down in downs], dim=1)
        return list(zip(downs, ups, masks, strict=True))


class AdapterBank:
    """Adds the adapters of up to K people to a denoiser's linear layers, from outside: the denoiser stays as it is.

    The rows of a call fall into K equal blocks, one a person. A layer adds ``x A_k^T B_k^T`` to the rows of person k, in one
    batched product for all: what one adapter costs. Modules never change, so a compiled denoiser is not compiled again for
    another person, and off, the denoiser is the base model bit for bit.

    Args:
        denoiser: Its layers get a hook each; there is one bank a denoiser, see ``of``.
        ends: Names, or ends of names, of the linear layers, as PEFT's ``target_modules``.

    Raises:
        ConfigError: There is no such layer, or one is not linear.
    """

    _banks: ClassVar[WeakKeyDictionary[nn.Module, dict[tuple[str, ...], AdapterBank]]] = WeakKeyDictionary()

    def __init__(self, denoiser: nn.Module, ends: Sequence[str]):
        suffixes = tuple(f".{end}" for end in ends)
        named = {name: m for name, m in denoiser.named_modules() if name in ends or name.endswith(suffixes)}
        found = {name: getattr(module, "base_layer", module) for name, module in named.items()}  # below PEFT's own
        kinds = sorted({type(module).__name__ for module in found.values() if not isinstance(module, nn.Linear)})
        if not found or kinds:
            reason = f"some are {', '.join(kinds)}" if found else "it has none of that name"
            raise ConfigError(
                f"{type(denoiser).__name__} cannot get adapters on the layers {', '.join(ends)}: {reason}; the family's "
                "lora_target_modules, or train.lora.targets, must name linear layers."
            )
        self._layers: dict[str, Any] = found
        self._factors: dict[tuple[tuple[torch.Size, ...], torch.device, float], Tensor] = {}
        for layer in self._layers.values():
            if not hasattr(layer, "lora"):  # no other bank has it
                layer.lora = None
                layer.register_forward_hook(_add_lora)

    @classmethod
    def of(cls, denoiser: nn.Module, ends: Sequence[str]) -> AdapterBank:
        """Return the denoiser's bank; made at the first call, which a compiled denoiser must see before it compiles."""
        banks = cls._banks.setdefault(denoiser, {})
        if tuple(ends) not in banks:
            banks[tuple(ends)] = cls(denoiser, ends)
        return banks[tuple(ends)]

    def size(self, rank: int) -> int:
        """Count the weights of an adapter of some rank: two matrices a layer."""
        return sum(rank * (layer.in_features + layer.out_features) for layer in self._layers.values())

    @property
    def inputs(self) -> int:
        """Inputs of all layers together."""
        return sum(layer.in_features for layer in self._layers.values())

    def fresh(self, settings: LoraSettings, seed: int, device: torch.device) -> Adapter:
        """Draw an adapter that changes nothing yet: first matrices from ``seed`` alone, as PEFT draws them, and zeros."""
        shapes, parts = {}, []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, layer in self._layers.items():
                down = nn.Linear(layer.in_features, settings.rank, bias=False)  # PEFT, too, draws these first
                up = nn.Linear(settings.rank, layer.out_features, bias=False)
                if settings.init == "gaussian":
                    nn.init.normal_(down.weight, std=1 / settings.rank)
                else:
                    nn.init.kaiming_uniform_(down.weight, a=5**0.5)
                nn.init.zeros_(up.weight)
                for end, matrix in ((DOWN, down.weight), (UP, up.weight)):
                    shapes[f"{name}.{end}"] = matrix.shape
                    parts.append(matrix.detach().flatten())
        return Adapter(nn.Parameter(torch.cat(parts).to(device)), settings, shapes)

    def stack(self, adapters: Sequence[Adapter | None], dtype: torch.dtype) -> Stacked:
        """Put people's adapters together for a call; gradients reach each person's own ``weights``.

        Args:
            adapters: One a block of rows; None leaves its rows as the base model has them. At least one is not None.
            dtype: In which the call computes; the second matrices are scaled by the settings' scale and by strength before.

        Raises:
            AdapterError: People's ranks differ.
        """
        known = [adapter for adapter in adapters if adapter is not None]
        ranks = sorted({adapter.settings.rank for adapter in known})
        if len(ranks) > 1:
            raise AdapterError(
                f"people who train together need adapters of one rank, but theirs are {', '.join(map(str, ranks))}; train "
                "them in separate runs, or set train.lora.rank to one of these."
            )
        none, shapes = torch.zeros_like(known[0].weights), tuple(known[0].shapes.values())
        weights = torch.stack([none if adapter is None else self._scaled(adapter, shapes) for adapter in adapters])
        return Stacked(weights.to(dtype), shapes)

    def _scaled(self, adapter: Adapter, shapes: tuple[torch.Size, ...]) -> Tensor:
        """An adapter's weights with its second matrices scaled, ``(size,)``; the factors are made once."""
        scale = adapter.strength * adapter.settings.scale
        if scale == 1:
            return adapter.weights
        key = (shapes, adapter.weights.device, scale)
        factors = self._factors.get(key)
        if factors is None:
            parts = [torch.full((shape.numel(),), scale if place % 2 else 1.0) for place, shape in enumerate(shapes)]
            factors = torch.cat(parts).to(adapter.weights.device)
            if type(factors) is Tensor:  # not one without data
                self._factors[key] = factors
        return adapter.weights * factors

    @contextmanager
    def on(self, matrices: Matrices | None) -> Iterator[None]:
        """Use these matrices in all calls inside the block, and in their backward passes; None is the base model."""
        before = [layer.lora for layer in self._layers.values()]
        self._set(matrices or [None] * len(before))
        try:
            yield
        finally:
            self._set(before)

    def _set(self, matrices: Sequence[tuple[Tensor, Tensor, Tensor | None] | None]) -> None:
        for layer, pair in zip(self._layers.values(), matrices, strict=True):
            layer.lora = pair


def _add_lora(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Hook of a linear layer: one function for all, so that equal blocks share what is compiled."""
    if layer.lora is None:
        return output
    down, up, kept = layer.lora
    if kept is None:
        hidden = torch.bmm(inputs[0].reshape(len(down), -1, inputs[0].shape[-1]), down)
    else:  # an image's first matrix without what it does not see, which is less than its tokens without it
        seen = down.repeat_interleave(len(kept) // len(down), dim=0) * kept.unsqueeze(2)
        hidden = torch.bmm(inputs[0].reshape(len(kept), -1, inputs[0].shape[-1]), seen)
    return output + torch.bmm(hidden.view(len(up), -1, up.shape[1]), up).view(output.shape)

"""A denoiser with adapters on it, called alone or together with other people."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from pamela_rl.diffusion.adapter_bank import Adapter, AdapterBank, Matrices, Stacked
from pamela_rl.diffusion.company import Seat
from pamela_rl.diffusion.cuda_graphs import CUDAGraphs
from pamela_rl.diffusion.dropout import KEPT
from pamela_rl.types import Conditioning


class Adapted(ABC):
    """What a policy does with adapters; its calls of the denoiser go through here.

    Attributes:
        adapters: Those that are being trained on it, by name.
        adapter: The one that its predictions go through; None is the base model.
        seat: Its place among people who share their calls; None calls alone.
        matrices: Of its last call with gradients, which the backward pass may need again.
        targets: Names, or ends of names, of the layers that get a LoRA.
        bank: Puts adapters on its denoiser.
        dtype: Of the base model's weights.
        denoiser: Of the pipeline.
        graphs: Captures its denoiser's calls on a card; None calls kernel by kernel.
    """

    dtype: torch.dtype
    denoiser: Any

    def __init__(self) -> None:
        self.adapt(None)
        self.adapters: dict[str, Adapter] = {}
        self.adapter: Adapter | None = None
        self.seat: Seat | None = None
        self.graphs: CUDAGraphs | None = None
        self.matrices: Matrices | None = None

    @property
    @abstractmethod
    def lora_target_modules(self) -> Sequence[str]:
        """Names, or ends of names, of the layers that get a LoRA where nothing else is asked for."""

    def adapt(self, targets: Sequence[str] | None) -> None:
        """Put adapters on these layers from now on; None is ``lora_target_modules``.

        Raises:
            ConfigError: There is no such layer, or one is not linear.
        """
        self.targets = tuple(targets or self.lora_target_modules)
        self.bank = AdapterBank.of(self.denoiser, self.targets)

    @abstractmethod
    def denoise(
        self, latents: Tensor, timesteps: Tensor, conditioning: Mapping[str, Tensor], guidance_scale: float
    ) -> Tensor:
        """Call the denoiser module once.

        Args:
            latents: In the denoiser's dtype, ``(b, …)``.
            timesteps: As the schedule gives them, fp32, ``(b,)``.
            conditioning: Tensors by name, one row a sample, in the denoiser's dtype.
            guidance_scale: For models that take it as an input.

        Returns:
            Its prediction, any float type, ``(b, …)``.
        """

    def denoise_together(
        self,
        adapters: Sequence[Adapter | None],
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> tuple[Tensor, Matrices | None]:
        """Call the denoiser once for several people.

        Args:
            adapters: One an equal block of rows; None leaves its block to the base model.
            latents: As ``denoise`` takes them.
            timesteps: Likewise.
            conditioning: Likewise.
            guidance_scale: Likewise.

        Returns:
            The denoiser's prediction, and the adapters' matrices that it used.
        """
        stacked = self.bank.stack(adapters, latents.dtype) if any(a is not None for a in adapters) else None
        kept, told = conditioning.tensors.get(KEPT), _without_kept(conditioning.tensors)
        matrices = None if stacked is None else stacked.matrices(kept)
        if self.graphs is not None and self._can_capture(latents):
            return self._captured(self.graphs, stacked, latents, timesteps, conditioning, guidance_scale), matrices
        with self.bank.on(matrices):
            return self.denoise(latents, timesteps, told, guidance_scale), matrices

    def _can_capture(self, latents: Tensor) -> bool:
        """Whether a call's gradients reach nothing but adapters, and it computes in the base model's own precision."""
        learns = torch.is_grad_enabled() and (latents.requires_grad or self.denoiser.is_gradient_checkpointing)
        return latents.is_cuda and not learns and not torch.is_autocast_enabled("cuda")

    def _captured(
        self,
        graphs: CUDAGraphs,
        stacked: Stacked | None,
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        guidance_scale: float,
    ) -> Tensor:
        names, shapes = list(conditioning.tensors), () if stacked is None else stacked.shapes

        def call(weights: Tensor, rows: Tensor, times: Tensor, *told: Tensor) -> Tensor:
            tensors = dict(zip(names, told, strict=True))
            matrices = Stacked(weights, shapes).matrices(tensors.get(KEPT)) if shapes else None
            with self.bank.on(matrices):
                return self.denoise(rows, times, _without_kept(tensors), guidance_scale)

        weights = latents.new_zeros(1) if stacked is None else stacked.weights
        inputs = (weights, latents, timesteps, *conditioning.tensors.values())
        return graphs((*names, *shapes, guidance_scale), call, inputs)

    def backward(self, loss: Tensor) -> None:
        """Propagate a loss to the adapter's gradient."""
        if self.seat is not None:
            self.seat.backward(loss, self.bank, self.matrices)
            return
        with self.bank.on(self.matrices):  # gradient checkpointing goes forward again
            loss.backward()

    def pause(self) -> None:
        """Wait for the others, where there are some, to begin an iteration together."""
        if self.seat is not None:
            self.seat.pause()

    @contextmanager
    def wearing(self, adapter: Adapter | None) -> Iterator[None]:
        """Put another adapter on inside the block, e.g. an average of the trained one; None is the base model."""
        before, self.adapter = self.adapter, adapter
        try:
            yield
        finally:
            self.adapter = before

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Put the adapter on inside the block for calls of the pipeline itself."""
        with self.bank.on(None if self.adapter is None else self.bank.stack([self.adapter], self.dtype).matrices()):
            yield

    def seated(self, seat: Seat) -> Self:
        """Return the same pipeline for one of several people, whose calls are made together."""
        seated = copy.copy(self)
        seated.adapters, seated.adapter, seated.seat = {}, None, seat
        return seated

    def _call(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, guidance_scale: float) -> Tensor:
        """Call the denoiser, together with the others who ask for the same now."""
        if self.seat is not None:
            output, matrices = self.seat.denoise(
                self.adapter, partial(self.denoise_together, guidance_scale=guidance_scale), latents, timesteps, conditioning,
                guidance_scale,
            )  # fmt: skip
        else:
            output, matrices = self.denoise_together([self.adapter], latents, timesteps, conditioning, guidance_scale)
        if torch.is_grad_enabled() and matrices is not None:
            self.matrices = matrices
        return output


def _without_kept(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The conditioning as the denoiser takes it."""
    return {name: tensor for name, tensor in tensors.items() if name != KEPT}

"""CUDA graphs of a denoiser's calls: a card that is given small kernels one by one waits for the CPU most of the time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

Call = Callable[..., Tensor]
_MOST = 8  # shapes; each keeps the memory of a call
_WARM_UPS = 3  # calls before a capture, in which kernels are compiled and workspaces allocated


class CUDAGraphs:
    """Captures a call the first time a shape is seen, and replays it from then on: the same kernels, launched at once.

    A call with gradients is captured forward and backward; then gradients reach its first input alone.
    """

    def __init__(self) -> None:
        self._captured: dict[Hashable, Call] = {}
        self._pool: Any = None

    def __call__(self, kind: Hashable, call: Call, inputs: Sequence[Tensor]) -> Tensor:
        """Call, or replay what was captured of the same shapes; after eight shapes, call.

        Args:
            kind: What else must be equal for a capture to be replayed.
            call: Maps the inputs to the output, without waiting for the device or reading from it.
            inputs: On the card.
        """
        learns = torch.is_grad_enabled() and inputs[0].requires_grad
        key = (kind, learns, *((tensor.shape, tensor.dtype) for tensor in inputs))
        if key not in self._captured:
            if len(self._captured) == _MOST:
                return call(*inputs)
            self._captured[key] = _with_gradients(call, inputs) if learns else self._without_gradients(call, inputs)
        return self._captured[key](*inputs)

    def _without_gradients(self, call: Call, inputs: Sequence[Tensor]) -> Call:
        """Capture a forward pass; all of these share their memory, since an output is copied before the next one runs."""
        places = [tensor.detach().clone() for tensor in inputs]
        graph, beside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.no_grad():
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(_WARM_UPS):
                    call(*places)
            torch.cuda.current_stream().wait_stream(beside)
            with torch.cuda.graph(graph, pool=self._pool):
                output = call(*places)

        def replay(*given: Tensor) -> Tensor:
            for place, tensor in zip(places, given, strict=True):
                place.copy_(tensor)
            graph.replay()
            return output.clone()

        return replay


def _with_gradients(call: Call, inputs: Sequence[Tensor]) -> Call:
    """Capture a forward and a backward pass; the backward pass of a replay comes before the next replay."""
    samples = tuple(tensor.detach().clone().requires_grad_(place == 0) for place, tensor in enumerate(inputs))
    captured: Any = torch.cuda.make_graphed_callables(call, samples, num_warmup_iters=_WARM_UPS)

    def replay(*given: Tensor) -> Tensor:
        output: Tensor = captured(*given)
        return output.clone()

    return replay

"""What pipelines do to finished images: blacken those a safety checker flags, add watermarks. Off here; what is flagged is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pamela_rl.types import Unit, Verdict

FLAGGED = "flagged"  # the score's name
_FILTERS = ("safety_checker", "watermark", "watermarker")  # as the pipelines' attributes are called


@contextmanager
def unfiltered(pipeline: Any) -> Iterator[None]:
    """Leave images as the model made them inside the block, as they are while an adapter is trained."""
    kept = {name: getattr(pipeline, name) for name in _FILTERS if getattr(pipeline, name, None) is not None}
    for name in kept:
        setattr(pipeline, name, None)
    try:
        yield
    finally:
        for name, part in kept.items():
            setattr(pipeline, name, part)


class SafetyFlags:
    """A ``Scorer``: 1 for an image that the pipeline's own safety checker would have blackened, else 0.

    Args:
        pipeline: With a safety checker.
    """

    unit = Unit.SHARE

    def __init__(self, pipeline: Any):
        self._pipeline = pipeline

    @classmethod
    def of(cls, pipeline: Any) -> dict[str, SafetyFlags]:
        """Return the scorer under its name; nothing where the pipeline has no safety checker."""
        has_one = getattr(pipeline, "safety_checker", None) is not None and hasattr(pipeline, "run_safety_checker")
        return {FLAGGED: cls(pipeline)} if has_one else {}

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str], user_ids: Sequence[str]) -> Verdict:
        """Tell which images are flagged, ``(b,)``."""
        checker = self._pipeline.safety_checker
        weight, log = next(checker.parameters()), logging.getLogger(type(checker).__module__)
        before, log.disabled = log.disabled, True  # it says that a black image will be returned
        try:
            signed = images.to(weight.device) * 2 - 1
            _, flags = self._pipeline.run_safety_checker(signed, weight.device, weight.dtype)
        finally:
            log.disabled = before
        return Verdict(torch.tensor(flags, dtype=torch.float32))

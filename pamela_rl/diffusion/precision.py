"""The precision in which a denoiser computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator

from pamela_rl.diffusion.policy import Policy


def computing(policy: Policy, accelerator: Accelerator) -> AbstractContextManager[None]:
    """Compute in the launcher's mixed precision inside the block, or in a bf16 base model's own, whatever the launcher says.

    Such a model's layers and adapters compute in bf16 already; autocast would add nothing but casts, and normalisations in
    fp32, so that the same run had other numbers under another launcher's settings.
    """
    return nullcontext() if policy.dtype == torch.bfloat16 else accelerator.autocast()

"""Tune text-to-image models to one person: ratings become a reward, the reward becomes a LoRA adapter."""

from pamela_rl.diffusion.adapters import list_adapters, load_adapter

__all__ = ["list_adapters", "load_adapter"]

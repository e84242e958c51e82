"""A warning of rewards that are easily fooled."""

from __future__ import annotations

from pamela_rl.rewards.settings import PIXELS


def hacking_warning(encoder: str, judge_encoder: str | None, patience: int, kl_target: float) -> str:
    """Warn of a reward of pixels where nothing limits the training; empty where there is nothing to warn of.

    Args:
        encoder: Of the reward, by name.
        judge_encoder: Of the judge, by name; None where there is no judge.
        patience: Of early stopping by the judge; 0 never stops.
        kl_target: Of the algorithm; 0 sets none.
    """
    stops = judge_encoder not in (None, PIXELS) and patience > 0
    if encoder != PIXELS or stops or kl_target > 0:
        return ""
    return (
        "careful: a reward of pixels sees nothing of what an image shows, and is easily fooled. Hold the run by "
        "algorithm.kl_target, stop it by train.validation.patience and a --judge with other eyes, or fit the reward with "
        "another encoder (docs/algorithms.md, What holds against reward hacking).\n"
    )

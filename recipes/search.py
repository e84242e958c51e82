"""Prompts that a person's reward likes better than their own words, for any model, without training.

pamela search --reward outputs/my-reward --base_model stable-diffusion-v1-5/stable-diffusion-v1-5 --prompts prompts.txt
pamela search --reward outputs/quickstart/rewards/personal --users '[rater-132]'              # in the embedded world
"""

from __future__ import annotations

from dataclasses import dataclass

from pamela_rl.cli.command_line import run
from pamela_rl.world.search_settings import SearchSettings


@dataclass(frozen=True)
class SearchConfig(SearchSettings):
    """The recipe's settings."""


def search(config: SearchConfig) -> None:
    """Search, and say what was found."""
    from pamela_rl.world.own_search import search_prompts

    search_prompts(config)


if __name__ == "__main__":
    run(SearchConfig, __doc__ or "", search)

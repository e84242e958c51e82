"""A personal reward from people's ratings, measured against what else could be done with them, and a judge beside it.

pamela fit --source.path my/images --output_dir outputs/my-reward       # images and a table of ratings
pamela fit --source.path more/images --add outputs/my-reward            # more people, the others kept
pamela fit --config reward_pamela.yaml --source.path PAMELA.zip
pamela fit                                                              # the embedded world
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from pamela_rl.agreement.settings import FitSettings
from pamela_rl.cli.command_line import run
from pamela_rl.config.checks import refuse_unused
from pamela_rl.rewards.settings import DEFAULT_ENCODER, SIGLIP_ADVICE


@dataclass(frozen=True)
class FitRewardConfig(FitSettings):
    """The recipe's settings.

    Attributes:
        output_dir: Where the rewards, the table and the figures go.
    """

    output_dir: Path = Path("outputs/reward")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.add is not None:
            refuse_unused(self, ("output_dir",), "add writes into the folder that it names")


def fit(config: FitRewardConfig) -> None:
    """Read, fit, measure, write."""
    from pamela_rl.agreement.add_people import add_people
    from pamela_rl.agreement.fit_rewards import fit_rewards
    from pamela_rl.agreement.preparation import prepare_study
    from pamela_rl.storage import ensure_writable
    from pamela_rl.world.fitted_rewards import prepare_world_study

    in_world = config.source.layout == "world"
    if config.add is not None:
        print(add_people(config.add, config.source, config.cache))
    else:
        ensure_writable(config.output_dir)  # before hours of encoding
        prepared = (
            prepare_world_study(config.seed)
            if in_world
            else prepare_study(config.source, config.encoder, config.cache, config.seed, **config.measuring())
        )
        fit_rewards(prepared, config.names, config.output_dir, config.num_support_ratings, config.curve, config.seed)
        if config.encoder == DEFAULT_ENCODER and not in_world:
            print(fill(SIGLIP_ADVICE, 120))
    model = "world" if in_world else "MODEL --prompts prompts.txt"
    print(
        "Next, train against it:\n  pamela train "
        f"--reward {shlex.quote(str(config.add or config.output_dir))} --model.name {model}"
    )


if __name__ == "__main__":
    run(FitRewardConfig, __doc__ or "", fit)

"""A personal reward from people's ratings, measured against what else could be done with them.

python recipes/fit_reward.py                                              # the embedded world
python recipes/fit_reward.py --config recipes/configs/reward_folder.yaml --source.path my/ratings.csv
python recipes/fit_reward.py --config recipes/configs/reward_pamela.yaml --source.path PAMELA.zip
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pamela_rl.cli.command_line import run
from pamela_rl.data.settings import SourceSettings
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.settings import DEFAULT_ENCODER, MODEL_NAMES


@dataclass(frozen=True)
class FitRewardConfig:
    """The recipe's settings.

    Attributes:
        output_dir: Where the rewards, the table and the figures go.
        source: Where the ratings are.
        encoder: Of people's own pictures: a name that open_clip knows, a folder, "pixels" (no weights needed) or
            "world"; the world's pictures are always encoded by its own.
        models: Which to fit.
        num_support_ratings: Of newcomers, before they are measured.
        curve: Numbers of ratings shown for the learning curve.
        cache: Where features are kept between runs.
        seed: Of splits and fits.
    """

    output_dir: Path = Path("outputs/reward")
    source: SourceSettings = field(default_factory=SourceSettings)
    encoder: str = DEFAULT_ENCODER
    models: list[str] = field(default_factory=lambda: list(MODEL_NAMES))
    num_support_ratings: int = 10
    curve: list[int] = field(default_factory=lambda: [0, 2, 5, 10, 20])
    cache: Path = Path("outputs/features")
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.models if name not in MODEL_NAMES]
        if unknown or not self.models:
            raise ConfigError(f"models is {self.models}; use any of {', '.join(MODEL_NAMES)}.")
        if self.num_support_ratings < 0 or min(self.curve, default=0) < 0:
            raise ConfigError("num_support_ratings and curve count ratings; use 0 or more.")
        self.source.check_paths()


def fit(config: FitRewardConfig) -> None:
    """Read, fit, measure, write."""
    from pamela_rl.agreement.fit_rewards import fit_rewards
    from pamela_rl.agreement.preparation import prepare_study
    from pamela_rl.storage import ensure_writable
    from pamela_rl.world.fitted_rewards import prepare_world_study

    ensure_writable(config.output_dir)  # before hours of encoding
    if config.source.kind == "world":
        prepared = prepare_world_study(config.seed)
    else:
        prepared = prepare_study(config.source, config.encoder, config.cache, config.seed)
    fit_rewards(prepared, config.models, config.output_dir, config.num_support_ratings, config.curve, config.seed)


if __name__ == "__main__":
    run(FitRewardConfig, __doc__ or "", fit)

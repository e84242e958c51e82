"""A personal reward from people's ratings, measured against what else could be done with them.

python recipes/fit_reward.py                                              # the embedded world
python recipes/fit_reward.py --config recipes/configs/reward_folder.yaml --source.path my/ratings.csv
python recipes/fit_reward.py --config recipes/configs/reward_pamela.yaml --source.path PAMELA.zip
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from command_line import run
from rating_source import SourceConfig, prepare_own, prepare_world

from pamela_rl.agreement.compare_models import MAIN, compare_models
from pamela_rl.agreement.per_person import LEGEND, format_table
from pamela_rl.agreement.result_figures import draw_results
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.features import DEFAULT_ENCODER
from pamela_rl.rewards.models import MODELS
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.storage import ensure_writable, write_text


@dataclass(frozen=True)
class FitRewardConfig:
    """The recipe's settings.

    Attributes:
        output_dir: Where the rewards, the table and the figures go.
        source: Where the ratings are.
        encoder: Of people's own pictures: a name that open_clip knows, a folder, "pixels" (no weights needed) or
            "world"; the world's pictures are always encoded by its own.
        models: Which to fit.
        ratings_shown: Of newcomers, before they are measured.
        curve: Numbers of ratings shown for the learning curve.
        cache: Where features are kept between runs.
        seed: Of splits and fits.
    """

    output_dir: Path = Path("outputs/reward")
    source: SourceConfig = field(default_factory=SourceConfig)
    encoder: str = DEFAULT_ENCODER
    models: list[str] = field(default_factory=lambda: list(MODELS))
    ratings_shown: int = 10
    curve: list[int] = field(default_factory=lambda: [0, 2, 5, 10, 20])
    cache: Path = Path("outputs/features")
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.models if name not in MODELS]
        if unknown or not self.models:
            raise ConfigError(f"models is {self.models}; use any of {', '.join(MODELS)}.")
        if self.ratings_shown < 0 or min(self.curve, default=0) < 0:
            raise ConfigError("ratings_shown and curve count ratings; use 0 or more.")


def fit(config: FitRewardConfig) -> None:
    """Read, fit, measure, write."""
    ensure_writable(config.output_dir)
    if config.source.kind == "world":
        prepared = prepare_world(config.seed)
    else:
        prepared = prepare_own(config.source, config.encoder, config.cache, config.seed)
    study, encoder, ceilings = prepared.study, prepared.encoder, prepared.ceilings
    names = config.models if len(study.data.train) else [MAIN]
    print(f"Fitting {', '.join(names)} ...")
    models, results = compare_models(study, names, config.ratings_shown, config.curve, config.seed)
    print(f"\n{LEGEND}\n\n{results.to_text()}")
    if ceilings:
        print(f"\nwhat no model can beat but by luck\n{format_table(ceilings)}")
    for name, model in models.items():
        PersonalReward(encoder, model, study.fitted_on).save(config.output_dir / "rewards" / name)
    facts = {"encoder": encoder.fingerprint, "ceilings": [row.to_json() for row in ceilings], **results.to_json()}
    write_text(config.output_dir / "agreement.json", json.dumps(facts, indent=1, allow_nan=False) + "\n")
    figures = draw_results(study, models, results, ceilings, config.output_dir / "figures", prepared.open_picture)
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in results.seconds.items())
    print(f"\nFitted in: {took}.\nRewards, agreement.json and {len(figures)} figures are in {config.output_dir}.")


if __name__ == "__main__":
    run(FitRewardConfig, __doc__ or "", fit)

"""Train the embedded world's models from nothing: autoencoder, content judge, open_clip encoder, and two text-to-image models on
the same drawings, a UNet and its flow-matching twin.

pamela world --output_dir outputs/world

About three hours on two CPU cores by the time of a step (not timed as a whole); started again with the same command it goes on
where it stopped. Each part leaves a log of its losses, ``<part>/<part>.jsonl``. ``contact_sheet_<model>.png`` shows what came of
it, ``measurements.json`` how good it is. To ship the models, copy ``assets/`` over ``pamela_rl/world/assets/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pamela_rl.cli.command_line import run
from pamela_rl.world.settings import WorldSettings


@dataclass(frozen=True)
class TrainWorldConfig(WorldSettings):
    """How the world is trained, and where to.

    Attributes:
        output_dir: Where checkpoints, logs and the finished ``assets/`` go.
    """

    output_dir: Path = Path("outputs/world")


def train(config: TrainWorldConfig) -> None:
    """Train every part that is not finished, then measure them together."""
    from pamela_rl.world.training import train_world

    train_world(config, config.output_dir)


if __name__ == "__main__":
    run(TrainWorldConfig, __doc__ or "", train)

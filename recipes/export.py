"""Any checkpoint of a run as an adapter: the last, the best, or one that was kept (train.keep).

python recipes/export.py --run outputs/mine --user ada --checkpoint best
python recipes/evaluate.py --run outputs/mine --adapters '{best: outputs/mine/exports/best}'      # compare it
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pamela_rl.cli.command_line import run
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.training.checkpoint_folders import checkpoint_folder


@dataclass(frozen=True)
class ExportConfig:
    """The recipe's settings.

    Attributes:
        run: The run's folder.
        user: Whose checkpoint.
        checkpoint: "last", "best" (with the judge's highest mean), or the number of iterations of one that was kept.
        output_dir: Gets ``adapters/``; None is ``exports/<checkpoint>/`` in the run.
        model: The base model; None is the one that the run names.
    """

    run: Path
    user: str
    checkpoint: str = "last"
    output_dir: Path | None = None
    model: ModelSettings | None = None

    def __post_init__(self) -> None:
        checkpoint_folder(self.run, self.user, self.checkpoint)


def export(config: ExportConfig) -> None:
    """Write the adapter and say where it is."""
    from pamela_rl.training.export import export_checkpoint

    print(export_checkpoint(config.run, config.user, config.checkpoint, config.output_dir, config.model))


if __name__ == "__main__":
    run(ExportConfig, __doc__ or "", export)

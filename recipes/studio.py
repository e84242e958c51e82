"""The studio: rate pictures, see your taste, have an adapter trained, and judge it blind, in a browser.

python recipes/studio.py                                                   # on this machine alone, with the embedded world
python recipes/studio.py --model.name stable-diffusion-v1-5/stable-diffusion-v1-5 --prompts prompts.txt --folder my/studio
python recipes/studio.py --host 0.0.0.0 --names "[studio.example.org]" --https true   # for others: one signs in with a token
python recipes/studio.py --folder my/studio --backup studio.zip                       # while it runs
python recipes/studio.py --folder new/studio --restore studio.zip
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pamela_rl.cli.command_line import run
from pamela_rl.errors import ConfigError
from pamela_rl.studio.settings import StudioSettings


@dataclass(frozen=True)
class StudioConfig(StudioSettings):
    """The recipe's settings.

    Attributes:
        backup: Write everything into this file instead of serving.
        restore: Make the studio from this file, which ``--backup`` wrote, instead of serving.
        new_admin_token: Give the first admin another token, where one signs in.
    """

    backup: Path | None = None
    restore: Path | None = None
    new_admin_token: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backup is not None and self.restore is not None:
            raise ConfigError("backup and restore are both given; do one after the other.")
        if self.restore is not None and not self.restore.is_file():
            raise ConfigError(f"restore is {self.restore}, but there is no such file; give one that --backup wrote.")


def studio(config: StudioConfig) -> None:
    """Serve until stopped, or back up, or restore."""
    from pamela_rl.studio.backup import back_up, restore
    from pamela_rl.studio.database.opening import open_database
    from pamela_rl.studio.serving import serve, the_only_one

    if config.backup is not None:
        back_up(open_database(config.folder, config.database), config.folder, config.backup)
        print(f"The studio in {config.folder} is in {config.backup}; --restore makes one from it.")
    elif config.restore is not None:
        with the_only_one(config.folder):
            counts = restore(config.restore, open_database(config.folder, config.database), config.folder)
        print(f"{config.folder} is a studio with", ", ".join(f"{number} {name}" for name, number in counts.items()))
    else:
        serve(config, new_admin_token=config.new_admin_token)


if __name__ == "__main__":
    run(StudioConfig, __doc__ or "", studio)

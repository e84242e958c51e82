"""The studio: rate pictures, see your taste, have an adapter trained, and judge it blind, in a browser.

python recipes/studio.py                                                   # on this machine alone, with the embedded world
python recipes/studio.py --model.name stable-diffusion-v1-5/stable-diffusion-v1-5 --prompts prompts.txt --folder my/studio
"""

from __future__ import annotations

from dataclasses import dataclass

from pamela_rl.cli.command_line import run
from pamela_rl.studio.settings import StudioSettings


@dataclass(frozen=True)
class StudioConfig(StudioSettings):
    """The recipe's settings."""


def studio(config: StudioConfig) -> None:
    """Serve until stopped."""
    from pamela_rl.studio.serving import serve

    serve(config)


if __name__ == "__main__":
    run(StudioConfig, __doc__ or "", studio)

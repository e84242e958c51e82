"""Prompts to draw, to train with, and to compare on."""

from __future__ import annotations

from sqlalchemy.orm import Session

from pamela_rl.data.prompts import read_prompts
from pamela_rl.errors import PamelaError
from pamela_rl.studio.asking import Wishes
from pamela_rl.studio.database.schema import Person
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.web.strings import say

LEAST_HELD_OUT = 10  # prompts from which on some are only compared on
HELD_OUT = 5  # every fifth


def person_prompts(session: Session, settings: StudioSettings, person_id: str) -> tuple[list[str], list[str]]:
    """Return the prompts that pictures are drawn for and adapters trained on, and others for comparisons.

    Of few prompts none is held out: comparisons are then on the same, from other noise.

    Args:
        session: Of the database.
        settings: Of the studio.
        person_id: Whose prompts, where they wrote some; else the studio's, or the world's.

    Raises:
        PamelaError: There are none.
    """
    prompts = list(Wishes.of(session.get_one(Person, person_id)).prompts)
    if not prompts and settings.prompts is not None:
        prompts = read_prompts(settings.prompts)
    if not prompts:
        if not settings.in_world:
            raise PamelaError(say("jobs.no_prompts_yet", model=settings.model.name))
        from pamela_rl.world.captions import train_and_held_out_prompts

        return train_and_held_out_prompts()
    if len(prompts) < LEAST_HELD_OUT:
        return prompts, prompts
    held_out = prompts[HELD_OUT - 1 :: HELD_OUT]
    return [prompt for prompt in prompts if prompt not in held_out], held_out

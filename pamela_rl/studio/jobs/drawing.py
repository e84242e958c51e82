"""Pictures drawn ahead of the rating: by the person's newest adapter where they go on from it, else by the base model."""

from __future__ import annotations

import time

from sqlalchemy import func, select

from pamela_rl.data.prompts import rows_by_epoch
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.studio.adapters import adapter_folder, newest_adapter
from pamela_rl.studio.database.schema import Picture
from pamela_rl.studio.jobs.prompts import person_prompts
from pamela_rl.studio.jobs.work import Work
from pamela_rl.studio.pictures import add_picture
from pamela_rl.world.fitted_rewards import to_pil

AT_ONCE = 4  # pictures of a call: the first can be rated soon
SEED = 3  # of pictures to rate; comparisons use another


def draw(work: Work) -> str:
    """Draw as many pictures as were asked for, and keep each batch at once; return what it came to.

    Half of them are by the newest adapter, where there is one, so that the reward learns of both.

    Raises:
        PamelaError: The model cannot be loaded.
        Stopped: It is to stop; what was drawn is kept.
    """
    count = int(work.asked["count"])
    with work.database.session() as session:
        prompts, _ = person_prompts(session, work.settings, work.person_id)
        first = session.scalar(select(func.count()).where(Picture.person_id == work.person_id)) or 0
        newest = newest_adapter(session, work.person_id)
    own = None if newest is None else adapter_folder(work.settings.folder, newest)
    rows = rows_by_epoch(len(prompts), first, count, SEED)
    for place in range(0, count, AT_ONCE):
        work.check()
        asked = [prompts[row] for row in rows[place : place + AT_ONCE]]
        seeds = [generator_for(SEED, first + place + n).initial_seed() % (1 << 62) for n in range(len(asked))]
        adapted = own is not None and place // AT_ONCE % 2 == 0
        draws = work.models.generator(own, newest.strength if newest else 1.0) if adapted else work.models.generator()
        begun = time.monotonic()
        images = draws(asked, seeds)
        calls = len(asked) * (draws.num_inference_steps or work.settings.train.sampling.num_inference_steps)
        work.tell(seconds_a_call=(time.monotonic() - begun) / calls)
        with work.database.changing() as session:
            for image, prompt, seed in zip(images, asked, seeds, strict=True):
                add_picture(
                    session, work.settings.folder, work.person_id, to_pil(image), prompt=prompt,
                    origin="adapter" if adapted else "base", adapter_id=newest.id if adapted and newest else None, seed=seed,
                )  # fmt: skip
        work.tell(share=min(1.0, (place + len(asked)) / count))
    return ""

"""A blind comparison: pairs of one prompt and noise, drawn in two ways, in an order and on sides that tell nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import delete, select

from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.evaluation.blind_pairs import Pair, choose_pairs
from pamela_rl.evaluation.compare import OTHER, OWN
from pamela_rl.evaluation.gallery import ComparisonImage
from pamela_rl.steering.prompt_search import PromptedGenerator
from pamela_rl.studio.adapters import adapter_folder
from pamela_rl.studio.database.access import owned
from pamela_rl.studio.database.schema import BlindPair, TrainedAdapter
from pamela_rl.studio.jobs.prompts import person_prompts
from pamela_rl.studio.jobs.showing import keep, search_prompts
from pamela_rl.studio.jobs.work import Failed, Work
from pamela_rl.studio.web.strings import say
from pamela_rl.types import ImageGenerator

SEARCH = "search"
SEED = 4  # of comparisons; pictures to rate and trainings have other noise
AT_ONCE = 8


def compare(work: Work) -> str:
    """Draw the pairs of a comparison; they are shown when all are there.

    Raises:
        Failed: Nobody else has an adapter, or nothing is known of the person's taste.
        NotFound: There is no such adapter.
        Stopped: It is to stop.
    """
    arms = [str(arm) for arm in work.asked["against"]]
    each = -(-int(work.asked["pairs"]) // len(arms))  # rounded up
    seed = int.from_bytes(work.id.encode(), "big") % (1 << 31)  # another comparison has other noise
    with work.database.session() as session:
        _, held_out = person_prompts(session, work.settings, work.person_id)
        own = owned(session, TrainedAdapter, work.asked["adapter"], work.person_id)
        other = None
        if OTHER in arms:
            others = select(TrainedAdapter).where(TrainedAdapter.person_id != work.person_id)
            other = session.scalar(others.order_by(TrainedAdapter.created.desc()).limit(1))
            if other is None:
                raise Failed(say("jobs.no_other"))
    order = np.random.default_rng(seed).permutation(len(held_out))
    asked = [
        (held_out[int(order[n % len(held_out)])], generator_for(SEED, seed, n).initial_seed() % (1 << 62))
        for n in range(each)
    ]
    found = search_prompts(work, list(dict.fromkeys(prompt for prompt, _ in asked))) if SEARCH in arms else {}
    drawn = {arm: _draw(work, arm, asked, own, other, found) for arm in (OWN, *arms)}
    pairs: list[Pair] = []
    for number, arm in enumerate(arms):
        images = [
            ComparisonImage(work.person_id, name, prompt, noise, Path(picture))
            for name in (OWN, arm)
            for (prompt, noise), picture in zip(asked, drawn[name], strict=True)
        ]
        pairs += choose_pairs(images, each, repeated=0.0, seed=seed + number)
    mixed = np.random.default_rng(seed).permutation(len(pairs))[: int(work.asked["pairs"])]
    with work.database.changing() as session:
        session.execute(delete(BlindPair).where(BlindPair.job_id == work.id))  # of an attempt that was cut off
        for number, place in enumerate(mixed):
            pair = pairs[int(place)]
            session.add(
                BlindPair(
                    person_id=work.person_id, job_id=work.id, number=number, prompt=pair.left.prompt,
                    left_id=pair.left.file.name, right_id=pair.right.file.name, left_arm=pair.left.arm,
                    right_arm=pair.right.arm,
                )
            )  # fmt: skip
    work.tell(share=1.0)
    return ""


def _draw(
    work: Work, arm: str, asked: Sequence[tuple[str, int]], own: TrainedAdapter, other: TrainedAdapter | None,
    found: Mapping[str, str],
) -> list[str]:  # fmt: skip
    """Draw the pictures of an arm, and return their ids."""
    draws: ImageGenerator
    if arm in (OWN, OTHER):
        adapter = own if arm == OWN or other is None else other
        draws = work.models.generator(adapter_folder(work.settings.folder, adapter), adapter.strength)
    else:
        draws = PromptedGenerator(work.models.generator(), found)
    kept: list[str] = []
    for first in range(0, len(asked), AT_ONCE):
        work.check()
        part = asked[first : first + AT_ONCE]
        prompts, seeds = [prompt for prompt, _ in part], [seed for _, seed in part]
        kept += keep(work, draws(prompts, seeds), prompts, seeds, own.id if arm == OWN else None)
    return kept

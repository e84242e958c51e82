"""A typed prompt drawn by the base model and by one's adapter at several strengths, and prompts that are better than those typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pamela_rl.data.phrases import PHOTOGRAPHIC
from pamela_rl.diffusion.randomness import generator_for
from pamela_rl.intervals import mean_interval
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.preference import ImageFeatures
from pamela_rl.rewards.taste_description import MIN_IMAGES_PER_PHRASE, describe_features
from pamela_rl.steering.prompt_search import search_prompt
from pamela_rl.steering.proposers import EvolutionaryProposer, MixedProposer, PhraseProposer
from pamela_rl.steering.settings import PromptSearchSettings
from pamela_rl.storage import folder_name
from pamela_rl.studio.adapters import adapter_folder
from pamela_rl.studio.database.access import of, owned
from pamela_rl.studio.database.schema import Picture, TrainedAdapter
from pamela_rl.studio.jobs.work import Failed, Work
from pamela_rl.studio.pictures import add_picture
from pamela_rl.studio.web.strings import say
from pamela_rl.types import Scorer
from pamela_rl.world.captions import PHRASEBOOK
from pamela_rl.world.fitted_rewards import to_pil
from pamela_rl.world.judge import ContentJudge, Faithfulness

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHOW_SEED, JUDGED_SEED = 5, 6
SEARCH = PromptSearchSettings(num_rounds=3, num_variants=8, num_seeds=2, num_elites=3, max_images=48)
NUM_JUDGED = 8  # new images of the winner and of the prompt as typed, by which the gain is measured
NUM_REFERENCES = 200  # pictures by which the taste is put in words


def show(work: Work) -> str:
    """Draw a prompt from the same noise at every strength.

    Raises:
        NotFound: There is no such adapter.
        Stopped: It is to stop.
    """
    prompt = str(work.asked["prompt"])
    with work.database.session() as session:
        adapter = owned(session, TrainedAdapter, work.asked["adapter"], work.person_id)
    place, seed = adapter_folder(work.settings.folder, adapter), generator_for(SHOW_SEED).initial_seed() % (1 << 62)
    pictures = []
    for strength in STRENGTHS:
        work.check()
        image = work.models.generator(place, strength)([prompt], [seed])[0]
        kept = keep(work, [image], [prompt], [seed], None if strength == 0 else adapter.id)
        pictures.append({"strength": strength, "picture": kept[0]})
        work.tell(share=len(pictures) / len(STRENGTHS))
    work.tell(result={"pictures": pictures})
    return ""


def search(work: Work) -> str:
    """Search for prompts that please the person more than those they wrote, and measure by how much on new images.

    Raises:
        Failed: Nothing is known of the person's taste.
        Stopped: It is to stop.
    """
    requests = [str(prompt) for prompt in work.asked["prompts"]]
    found = search_prompts(work, requests)
    reward, _ = known_reward(work)
    winners, draws = [], work.models.generator()
    for request, best in found.items():
        work.check()
        seeds = [generator_for(JUDGED_SEED, number).initial_seed() % (1 << 62) for number in range(NUM_JUDGED)]
        before, after = (draws([prompt] * NUM_JUDGED, seeds) for prompt in (request, best))
        rated = [reward(i, [request] * NUM_JUDGED, [work.person_id] * NUM_JUDGED).mean for i in (before, after)]
        gain = mean_interval((rated[1] - rated[0]).double().numpy())
        first, second = keep(work, [before[0], after[0]], [request, best], [seeds[0]] * 2, None)
        told = {"prompt": request, "best": best, "gain": gain.estimate, "low": gain.low, "high": gain.high}
        winners.append({**told, "picture": second, "before": first})
    work.tell(share=1.0, result={"winners": winners})
    return ""


def search_prompts(work: Work, requests: Sequence[str]) -> Mapping[str, str]:
    """Return the prompt that the person's reward likes best in place of each.

    Raises:
        Failed: Nothing is known of the person's taste.
        Stopped: It is to stop; what was found so far is found again.
    """
    reward, propose = known_reward(work)
    content: Scorer | None = Faithfulness(ContentJudge.load()) if work.settings.in_world else None
    draws, found = work.models.generator(), dict[str, str]()
    for request in requests:
        work.check()
        place = work.folder / "search" / folder_name(request)
        found[request] = search_prompt(request, work.person_id, propose, draws, reward, content, SEARCH, place).prompt
        work.tell(share=0.9 * len(found) / len(requests))
    return found


def known_reward(work: Work) -> tuple[PersonalReward, MixedProposer]:
    """Return the person's reward, and what proposes prompts by their taste in words.

    Raises:
        Failed: Nothing is known of it.
    """
    known = work.models.reward(work.database, work.person_id)
    if known is None:
        raise Failed(say("jobs.nothing_learned"))
    book = PHRASEBOOK if work.settings.in_world else PHOTOGRAPHIC
    with work.database.session() as session:
        mine = of(Picture, work.person_id).where(Picture.excluded.is_(None)).order_by(Picture.id).limit(NUM_REFERENCES)
        prompts = {picture.id: picture.prompt for picture in session.scalars(mine)}
    seen = work.models.eyes().see(work.database, work.settings.folder, prompts)
    effects: dict[str, float] = {}
    if len(seen) >= 2 * MIN_IMAGES_PER_PHRASE:
        images = ImageFeatures(torch.stack(list(seen.values())))
        taste = describe_features(known[0], work.person_id, images, [prompts[picture] for picture in seen], book)
        effects = {row.phrase: row.effect for row in taste.effects}
    phrases = PhraseProposer(book, effects, scale=known[0].fitted_on.scale)
    return known[0], MixedProposer([phrases, EvolutionaryProposer(phrases)])


def keep(
    work: Work, images: Sequence[Tensor] | Tensor, prompts: Sequence[str], seeds: Sequence[int], adapter_id: str | None
) -> list[str]:
    """Keep drawn pictures that are shown but not rated, and return their ids."""
    with work.database.changing() as session:
        return [
            add_picture(
                session, work.settings.folder, work.person_id, to_pil(image), prompt=prompt, origin="blind",
                adapter_id=adapter_id, seed=seed,
            ).id
            for image, prompt, seed in zip(images, prompts, seeds, strict=True)
        ]  # fmt: skip

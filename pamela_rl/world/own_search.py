"""Prompt search for people of one's own, from settings to a table and every user's winning prompts."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import torch

from pamela_rl.data.phrases import PHOTOGRAPHIC
from pamela_rl.data.prompts import read_prompts
from pamela_rl.diffusion.loading import DTYPES, load_pipeline
from pamela_rl.evaluation.arms import ArmMaker
from pamela_rl.evaluation.source import Source
from pamela_rl.rewards.opening import open_scorers
from pamela_rl.rewards.settings import WORLD
from pamela_rl.steering.opening import open_chat, open_service
from pamela_rl.steering.prompt_search import SearchResult
from pamela_rl.steering.settings import NoiseSearchSettings
from pamela_rl.storage import ensure_writable, folder_name, write_text
from pamela_rl.world.captions import PHRASEBOOK, train_and_held_out_prompts
from pamela_rl.world.scorers import world_scorers
from pamela_rl.world.search_settings import SearchSettings

COLUMNS = ("user", "request", "prompt", "request_score", "prompt_score", "faithfulness", "images_spent")
Searches = Mapping[str, Mapping[str, SearchResult]]  # of each user, by request


def search_prompts(settings: SearchSettings) -> Searches:
    """Search, for every user, the prompt of every request that their reward likes best, and write and print what was found.

    Raises:
        PamelaError: A part is missing or does not fit, or a service fails.
    """
    folder = ensure_writable(settings.output_dir)
    source = _open(settings)
    searches = len(source.users) * len(source.prompts)
    print(f"{searches:,} searches, at most {searches * settings.search.max_images:,} images.")
    maker = ArmMaker(
        source, folder, settings.drawing, settings.search.max_images, settings.search, NoiseSearchSettings(), None, {},
        open_chat(settings.chat),
    )  # fmt: skip
    maker.describe(settings.reference_images)
    found = {}
    for user in source.users:
        found[user] = maker.search(user)
        print(f"\n{user} {maker.tastes[user].sentence()}")
        print("\n".join(f"  {request} -> {result.prompt}" for request, result in found[user].items()))
        prompts = [result.prompt for result in found[user].values()]
        write_text(ensure_writable(folder / "prompts") / f"{folder_name(user)}.txt", "\n".join(prompts) + "\n")
    write_text(folder / "winners.csv", _table(found))
    print(
        f"\nAll with their scores: {folder / 'winners.csv'}; to draw with them: {folder / 'prompts'}. The reward that chose is "
        "the one that scored, from few images each: believe your eyes."
    )
    return found


def _open(settings: SearchSettings) -> Source:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    content = settings.content or (WORLD if settings.in_world else "none")
    reward, scorers = open_scorers(settings.reward, encoder=settings.encoder, content=content, device=device)
    remote = open_service(settings.service, settings.output_dir / "service")
    pipeline = None
    if remote is None:
        dtype, parts = DTYPES[settings.dtype], settings.base_model_config
        pipeline = load_pipeline(settings.base_model, device, dtype, config=parts)
    train_prompts, held_out = train_and_held_out_prompts()
    prompts = (held_out if settings.prompts is None else read_prompts(settings.prompts))[: settings.num_prompts]
    return Source(
        settings.output_dir, pipeline, remote, settings.searched_for, reward, scorers | world_scorers([], content == WORLD),
        prompts, train_prompts if settings.in_world else prompts, PHRASEBOOK if settings.in_world else PHOTOGRAPHIC,
        adapted=False,
    )  # fmt: skip


def _table(found: Searches) -> str:
    """Return the winners as CSV; scores are means of the reward's lower bounds, in rating points."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for user, results in found.items():
        for request, result in results.items():
            scored = {row.prompt: row for row in result.ranked}
            asked, best = scored.get(request), scored.get(result.prompt)
            table.writerow(
                [
                    user,
                    request,
                    result.prompt,
                    asked and f"{asked.score:.4f}",
                    best and f"{best.score:.4f}",
                    best and best.faithfulness,
                    result.images_spent,
                ]
            )
    return text.getvalue()

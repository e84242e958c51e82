"""The arms of a comparison: every way to make images for a user, at one budget of images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from pamela_rl.diffusion.adapters import load_adapter
from pamela_rl.diffusion.families import FAMILIES, policy_for
from pamela_rl.diffusion.saved_adapters import INFO, images_spent, list_adapters
from pamela_rl.evaluation.cached_generator import CachedGenerator
from pamela_rl.evaluation.compare import BASE, OTHER, OWN, Arm
from pamela_rl.evaluation.settings import DrawingSettings
from pamela_rl.evaluation.source import Source
from pamela_rl.rewards.taste_description import TasteDescription, describe_taste
from pamela_rl.steering.best_of_n import BestOfN
from pamela_rl.steering.chat import ChatModel
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.steering.noise_search import NoiseSearch
from pamela_rl.steering.prompt_search import PromptedGenerator, SearchResult, search_prompt
from pamela_rl.steering.proposers import EvolutionaryProposer, LanguageModelProposer, MixedProposer, PhraseProposer
from pamela_rl.steering.rewriter import INFO as REWRITER_INFO
from pamela_rl.steering.rewriter import PromptRewriter, RewritingGenerator
from pamela_rl.steering.settings import NoiseSearchSettings, PromptSearchSettings
from pamela_rl.storage import folder_name
from pamela_rl.types import ImageGenerator

ARMS = (
    BASE, OWN, OTHER, "prompt_search", "other_prompt_search", "own_and_search", "best_of_n", "noise_search",
    "rewriter", "untrained_rewriter",
)  # fmt: skip
REFERENCE_SEED = 50_000


class ArmMaker:
    """Builds the arms of each user.

    Args:
        source: Pipeline, adapters, rewards, prompts.
        folder: Where searches and drawings are kept.
        drawing: How images are drawn.
        budget: Images an arm may spend on a user before, or while, making the images compared.
        search: Of prompts.
        noise: Of initial noise; its number of steps follows from the budget where that is smaller.
        rewriter: Folder of a trained rewriter, or None.
        others: Name of a further arm to the run its adapters are from.
        chat: A chat language model that proposes prompts too, or None.

    Attributes:
        tastes: Of each user, in words.
        exemplars: For each user, the images liked most and least relative to the average user, ``(n, 3, h, w)`` each.
        searches: For each user, request to what prompt search found.

    Raises:
        AdapterError: A further run has no adapter of a user.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        drawing: DrawingSettings,
        budget: int,
        search: PromptSearchSettings,
        noise: NoiseSearchSettings,
        rewriter: Path | None,
        others: Mapping[str, Path],
        chat: ChatModel | None = None,
    ):
        self._source, self._folder, self._drawing, self._budget = source, folder, drawing, budget
        self._search, self._noise, self._others, self._chat = search, noise, others, chat
        self._rewriter = PromptRewriter.load(rewriter) if rewriter else None
        self._rewriter_spent = _images_of_rewriter(rewriter) if rewriter else 0
        self._policy = (
            policy_for(source.pipeline, drawing.height, drawing.width)
            if type(source.pipeline).__name__ in FAMILIES
            else None
        )
        self._adapters = {user: folder_name(user) for user in source.users}
        self._further = {name: self._load(name, path) for name, path in others.items()}
        self.tastes: dict[str, TasteDescription] = {}
        self.exemplars: dict[str, tuple[Tensor, Tensor]] = {}
        self.searches: dict[str, dict[str, SearchResult]] = {}

    def available(self) -> list[str]:
        """List the arms that can be made."""
        impossible = {
            "rewriter": self._rewriter is None,
            "untrained_rewriter": self._rewriter is None,
            "noise_search": self._policy is None,
            OWN: not self._source.adapted,
            "own_and_search": not self._source.adapted,
            OTHER: not self._source.adapted or len(self._source.users) < 2,
            "other_prompt_search": len(self._source.users) < 2,
        }
        return [name for name in ARMS if not impossible.get(name)] + list(self._others)

    def describe(self, num_images: int) -> None:
        """Put each user's taste into words, from images of the base model."""
        available = self._source.reference_prompts
        prompts = [available[row % len(available)] for row in range(num_images)]
        draw = self._keep(self._draw(None, search=True), "reference", "everybody", "base")
        images = draw(prompts, [REFERENCE_SEED + row for row in range(num_images)])
        for user in self._source.users:
            taste = describe_taste(self._source.reward, user, images, prompts, self._source.phrasebook)
            self.tastes[user] = taste
            self.exemplars[user] = (images[list(taste.most_liked)], images[list(taste.least_liked)])

    def make(self, names: Sequence[str], user: str, num_images: int) -> list[Arm]:
        """Build a user's arms, searching first where they need it.

        Args:
            names: Of ``available``.
            user: For whom.
            num_images: How many will be compared; what an arm may spend on each follows.
        """
        return [self._make(name, user, num_images) for name in names]

    def _make(self, name: str, user: str, num_images: int) -> Arm:
        trained = images_spent(self._source.run, user) if self._source.adapted else 0
        each = max(1, self._budget // num_images + 1)
        spent, images_per_output = 0, 1
        draw: ImageGenerator = self._draw(None)
        if name == OWN:
            draw, spent = self._draw(self._adapters[user]), trained
        elif name == OTHER:
            draw, spent = self._draw(self._adapters[self._next(user)]), trained
        elif name in self._further:
            draw, spent = self._draw(self._further[name][user]), images_spent(self._others[name], user)
        elif name == "prompt_search":
            draw, spent = self._prompted(user, user, None, self._search)
        elif name == "other_prompt_search":
            draw, spent = self._prompted(user, self._next(user), None, self._search)
        elif name == "own_and_search":
            draw, spent = self._prompted(user, user, self._adapters[user], self._search)
            spent += trained
        elif name == "best_of_n":
            draw, images_per_output = BestOfN(draw, self._source.reward, user, each, self._search.std_weight), each
        elif name == "noise_search" and self._policy is not None:
            config = replace(self._noise, num_steps=min(self._noise.num_steps, each - 1))
            draw, images_per_output = (
                NoiseSearch(self._policy, None, self._source.reward, user, config),
                config.num_steps + 1,
            )
        elif self._rewriter:
            used = self._rewriter if name == "rewriter" else self._rewriter.untrained()
            draw = RewritingGenerator(used, user, draw)
            spent = self._rewriter_spent // len(self._rewriter.descriptions) if name == "rewriter" else 0
        facts = f"{name} {each if images_per_output > 1 else ''} {self._search} {self._noise} {self._origin(name)}"
        return Arm(name, self._keep(draw, name, user, facts), spent, images_per_output)

    def _prompted(
        self, user: str, searched_for: str, adapter: str | None, config: PromptSearchSettings
    ) -> tuple[ImageGenerator, int]:
        """Search a prompt for every request, by one user's reward, and draw with what was found."""
        place = self._folder / "searches" / folder_name(searched_for) / ("adapter" if adapter else "base")
        found: dict[str, SearchResult] = {}
        for request in tqdm(self._source.prompts, desc=f"searching for {searched_for}", unit="prompt", leave=False):
            found[request] = search_prompt(
                request, searched_for, self._proposer(searched_for), self._draw(adapter, search=True),
                self._source.reward, self._source.content, config, place / folder_name(request),
            )  # fmt: skip
        if adapter is None and user == searched_for:
            self.searches[user] = found
        prompts = {request: result.prompt for request, result in found.items()}
        return PromptedGenerator(self._draw(adapter), prompts), sum(r.images_spent for r in found.values())

    def _proposer(self, user: str) -> MixedProposer:
        taste = self.tastes[user]
        phrase_effects = {row.phrase: row.effect for row in taste.effects}
        phrases = PhraseProposer(self._source.phrasebook, phrase_effects)
        proposers: list[Any] = [phrases, EvolutionaryProposer(phrases)]
        if self._chat is not None:
            proposers.append(LanguageModelProposer(self._chat, taste.sentence()))
        return MixedProposer(proposers)

    def _draw(self, adapter: str | None, search: bool = False) -> ImageGenerator:
        if self._source.remote is not None:
            return self._source.remote
        drawing = self._drawing
        steps = drawing.search_inference_steps if search else drawing.num_inference_steps
        return PipelineGenerator(
            self._source.pipeline, adapter, steps, drawing.guidance_scale, drawing.batch_size, drawing.height,
            drawing.width,
        )  # fmt: skip

    def _keep(self, draw: ImageGenerator, name: str, user: str, facts: str) -> CachedGenerator:
        return CachedGenerator(draw, self._folder / "drawings", (user, name), f"{facts} {self._drawing}")

    def _next(self, user: str) -> str:
        users = self._source.users
        return users[(users.index(user) + 1) % len(users)]

    def _origin(self, name: str) -> str:
        """When the arm's adapters were written, so that drawings of an older run are not taken for those of a newer."""
        if not self._source.adapted:
            return ""
        run = self._others.get(name, self._source.run)
        return json.dumps({user: (path / INFO).stat().st_mtime_ns for user, path in list_adapters(run).items()})

    def _load(self, arm: str, run: Path) -> dict[str, str]:
        """Load a further run's adapters beside the source's, under names of their own."""
        loaded = {}
        for user in self._source.users:
            loaded[user] = f"{folder_name(user)}-{folder_name(arm)}"
            load_adapter(self._source.pipeline, run, user, loaded[user])
        return loaded


def _images_of_rewriter(folder: Path) -> int:
    return int(json.loads((folder / REWRITER_INFO).read_text(encoding="utf-8")).get("images_spent", 0))

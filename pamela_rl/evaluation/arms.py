"""The arms of a comparison: every way to make images for a user, at one budget of images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from pamela_rl.diffusion.adapters import load_adapter
from pamela_rl.diffusion.families import FAMILIES, policy_for
from pamela_rl.diffusion.saved_adapters import adapter_digest, adapter_folder, images_spent
from pamela_rl.evaluation.cached_generator import CachedGenerator
from pamela_rl.evaluation.compare import BASE, OTHER, OWN, Arm
from pamela_rl.evaluation.identity import (
    Facts,
    chat_identity,
    digest_of,
    folder_digest,
    pipeline_identity,
    reward_digest,
    scorer_identity,
    service_identity,
)
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
from pamela_rl.storage import ensure_writable, folder_name, write_text
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
        drawing: How images are drawn; what it leaves open is as the adapters were trained.
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
        self._source, self._folder, self._budget = source, folder, budget
        adapters = [adapter_folder(source.run, user) for user in source.users] if source.adapted else []
        self._drawing = drawing.as_trained(adapters)
        self._search, self._noise, self._others, self._chat = search, noise, others, chat
        self._rewriter = PromptRewriter.load(rewriter) if rewriter else None
        self._rewriter_spent = _images_of_rewriter(rewriter) if rewriter else 0
        self._rewriter_digest = folder_digest(rewriter) if rewriter else None
        self._policy = (
            policy_for(source.pipeline, self._drawing.height, self._drawing.width)
            if type(source.pipeline).__name__ in FAMILIES
            else None
        )
        self._adapters = {user: folder_name(user) for user in source.users}
        self._adapter_digests = {
            self._adapters[user]: adapter_digest(folder) for user, folder in zip(source.users, adapters)
        }
        self._drawn_by = (
            pipeline_identity(source.pipeline) if source.remote is None else service_identity(source.remote)
        )
        self._reward = reward_digest(source.reward)
        self._further = {name: self._load(name, path) for name, path in others.items()}
        self._reference: Facts = {}  # what tastes are put into words from
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
        self._reference = {"prompts": available, "num_images": num_images}
        draw = self._keep(self._draw(None, True), "reference", "everybody", self._facts(None, search=True))
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

    def search(self, user: str) -> dict[str, SearchResult]:
        """Search a prompt for every request with the base model; return the results by request."""
        self._prompted(user, user, None)
        return self.searches[user]

    def at_strengths(self, user: str, strengths: Sequence[float]) -> dict[float, ImageGenerator]:
        """Return what draws with a user's own adapter at each strength."""
        adapter = self._adapters[user]
        return {
            strength: self._keep(
                self._draw(adapter, strength=strength), f"own at {strength!r}", user,
                self._facts(adapter) | {"strength": strength},
            )
            for strength in strengths
        }  # fmt: skip

    def _make(self, name: str, user: str, num_images: int) -> Arm:
        trained = images_spent(self._source.run, user) if self._source.adapted else 0
        each = max(1, self._budget // num_images + 1)
        spent, images_per_output = 0, 1
        draw, facts = self._draw(None), self._facts(None)
        if name in (OWN, OTHER):
            adapter = self._adapters[user if name == OWN else self._next(user)]
            draw, facts, spent = self._draw(adapter), self._facts(adapter), trained
        elif name in self._further:
            adapter = self._further[name][user]
            draw, facts = self._draw(adapter), self._facts(adapter)
            spent = images_spent(self._others[name], user)
        elif name in ("prompt_search", "other_prompt_search"):
            draw, facts, spent = self._prompted(user, user if name == "prompt_search" else self._next(user), None)
        elif name == "own_and_search":
            draw, facts, spent = self._prompted(user, user, self._adapters[user])
            spent += trained
        elif name == "best_of_n":
            draw, images_per_output = BestOfN(draw, self._source.reward, user, each, self._search.std_weight), each
            facts |= {"reward": self._reward, "candidates": each, "std_weight": self._search.std_weight}
        elif name == "noise_search" and self._policy is not None:
            config = replace(self._noise, num_steps=min(self._noise.num_steps, each - 1))
            scale, drawing = self._source.reward.fitted_on.scale, self._drawing
            draw = NoiseSearch(
                self._policy, None, self._source.reward, user, config, scale, drawing.guidance_scale or 1.0,
                drawing.negative_prompt or "",
            )  # fmt: skip
            images_per_output = config.num_steps + 1
            facts |= {"reward": self._reward, "noise_search": asdict(config)}
        elif self._rewriter:
            used = self._rewriter if name == "rewriter" else self._rewriter.untrained()
            draw = RewritingGenerator(used, user, draw)
            spent = self._rewriter_spent // len(self._rewriter.descriptions) if name == "rewriter" else 0
            facts |= {"rewriter": self._rewriter_digest}
        return Arm(name, self._keep(draw, name, user, facts), spent, images_per_output)

    def _prompted(
        self, user: str, searched_for: str, adapter: str | None
    ) -> tuple[ImageGenerator, dict[str, Any], int]:
        """Search a prompt for every request, by one user's reward, and draw with what was found."""
        facts = {
            **self._facts(adapter, search=True), "reward": self._reward, "content": scorer_identity(self._source.content),
            "search": asdict(self._search), "phrases": self._source.phrasebook.phrases,
            "reference": self._reference, "chat": chat_identity(self._chat),
        }  # fmt: skip
        kind = f"{'adapter' if adapter else 'base'}-{digest_of(facts)[:12]}"
        place = ensure_writable(self._folder / "searches" / folder_name(searched_for) / kind)
        write_text(place / "facts.json", json.dumps(facts, indent=1) + "\n")
        found: dict[str, SearchResult] = {}
        for request in tqdm(self._source.prompts, desc=f"searching for {searched_for}", unit="prompt", leave=False):
            found[request] = search_prompt(
                request, searched_for, self._proposer(searched_for), self._draw(adapter, search=True),
                self._source.reward, self._source.content, self._search, place / folder_name(request),
            )  # fmt: skip
        if adapter is None and user == searched_for:
            self.searches[user] = found
        prompts = {request: result.prompt for request, result in found.items()}
        drawn = self._facts(adapter) | {"prompts": prompts}
        return PromptedGenerator(self._draw(adapter), prompts), drawn, sum(r.images_spent for r in found.values())

    def _proposer(self, user: str) -> MixedProposer:
        taste = self.tastes[user]
        phrase_effects = {row.phrase: row.effect for row in taste.effects}
        phrases = PhraseProposer(self._source.phrasebook, phrase_effects, scale=self._source.reward.fitted_on.scale)
        proposers: list[Any] = [phrases, EvolutionaryProposer(phrases)]
        if self._chat is not None:
            proposers.append(LanguageModelProposer(self._chat, taste.sentence()))
        return MixedProposer(proposers)

    def _draw(self, adapter: str | None, search: bool = False, strength: float = 1.0) -> ImageGenerator:
        if self._source.remote is not None:
            return self._source.remote
        drawing = self._drawing
        return PipelineGenerator(
            self._source.pipeline, adapter, self._steps(search), drawing.guidance_scale, drawing.batch_size,
            drawing.height, drawing.width, drawing.negative_prompt or "", strength=strength,
        )  # fmt: skip

    def _facts(self, adapter: str | None, search: bool = False) -> dict[str, Any]:
        """What decides the images that ``_draw`` draws."""
        if self._source.remote is not None:
            return {"drawn_by": self._drawn_by}
        drawing = {**asdict(self._drawing), "num_inference_steps": self._steps(search)}
        del drawing["search_inference_steps"], drawing["batch_size"]
        digest = None if adapter is None else self._adapter_digests[adapter]
        return {"drawn_by": self._drawn_by, "drawing": drawing, "adapter": digest}

    def _steps(self, search: bool) -> int | None:
        return self._drawing.search_inference_steps if search else self._drawing.num_inference_steps

    def _keep(self, draw: ImageGenerator, name: str, user: str, facts: Facts) -> CachedGenerator:
        return CachedGenerator(draw, self._folder / "drawings", (user, name), facts)

    def _next(self, user: str) -> str:
        users = self._source.users
        return users[(users.index(user) + 1) % len(users)]

    def _load(self, arm: str, run: Path) -> dict[str, str]:
        """Load a further run's adapters beside the source's, under names of their own."""
        loaded = {}
        for user in self._source.users:
            loaded[user] = f"{folder_name(user)}-{folder_name(arm)}"
            load_adapter(self._source.pipeline, run, user, loaded[user])
            self._adapter_digests[loaded[user]] = adapter_digest(adapter_folder(run, user))
        return loaded


def _images_of_rewriter(folder: Path) -> int:
    return int(json.loads((folder / REWRITER_INFO).read_text(encoding="utf-8")).get("images_spent", 0))

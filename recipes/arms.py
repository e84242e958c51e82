"""The arms of a comparison: every way to make pictures for a person, at one budget of pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comparison_source import Source
from torch import Tensor
from tqdm.auto import tqdm

from pamela_rl.diffusion.adapters import images_spent, list_adapters, load_adapter
from pamela_rl.diffusion.families import FAMILIES, policy_for
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.compare import BASE, OTHER, OWN, Arm
from pamela_rl.evaluation.drawings import KeptDrawings
from pamela_rl.rewards.taste_words import TasteInWords, describe_taste
from pamela_rl.steering.best_of_n import BestOfN
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.steering.noise_search import NoiseSearch, NoiseSearchConfig
from pamela_rl.steering.prompt_search import PromptedGenerator, PromptSearchConfig, SearchResult, search_prompt
from pamela_rl.steering.proposers import EvolutionaryProposer, LanguageModelProposer, MixedProposer, PhraseProposer
from pamela_rl.steering.rewriter import PromptRewriter, RewritingGenerator
from pamela_rl.storage import folder_name
from pamela_rl.types import ImageGenerator

ARMS = (
    BASE, OWN, OTHER, "prompt_search", "other_prompt_search", "own_and_search", "best_of_n", "noise_search",
    "rewriter", "untrained_rewriter",
)  # fmt: skip
REFERENCE_SEED = 50_000


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn.

    Attributes:
        num_inference_steps: Of the pictures compared.
        search_inference_steps: Of the pictures a search looks at.
        guidance_scale: 1 draws without guidance.
        batch_size: Pictures a call.
        height: Pixels; None takes the model's own size.
        width: Pixels; None takes the model's own size.
    """

    num_inference_steps: int = 20
    search_inference_steps: int = 10
    guidance_scale: float = 1.0
    batch_size: int = 32
    height: int | None = None
    width: int | None = None


class ArmMaker:
    """Builds arms for each person.

    Args:
        source: Pipeline, adapters, rewards, prompts.
        run: Whose adapters are the own ones.
        folder: Where searches and drawings are kept.
        drawing: How pictures are drawn.
        budget: Pictures an arm may spend on a person before, or while, making the pictures compared.
        search: Of prompts.
        noise: Of initial noise; its number of steps follows from the budget where that is smaller.
        rewriter: Folder of a trained rewriter, or None.
        others: Name of a further arm to the run its adapters are from.
        chat: A chat language model that proposes prompts too, or None.
    """

    def __init__(
        self,
        source: Source,
        run: Path,
        folder: Path,
        drawing: Drawing,
        budget: int,
        search: PromptSearchConfig,
        noise: NoiseSearchConfig,
        rewriter: Path | None,
        others: Mapping[str, Path],
        chat: Any = None,
    ):
        self._source, self._run, self._folder, self._drawing, self._budget = source, run, folder, drawing, budget
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
        self.tastes: dict[str, TasteInWords] = {}
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

    def describe(self, num_pictures: int) -> None:
        """Put everybody's taste into words, from pictures of the base model."""
        seen = self._source.seen_prompts
        prompts = [seen[row % len(seen)] for row in range(num_pictures)]
        draw = self._keep(self._draw(None, search=True), "reference", "everybody", "base")
        images = draw(prompts, [REFERENCE_SEED + row for row in range(num_pictures)])
        for user in self._source.users:
            taste = describe_taste(self._source.reward, user, images, prompts, self._source.book)
            self.tastes[user] = taste
            self.exemplars[user] = (images[list(taste.most_liked)], images[list(taste.least_liked)])

    def make(self, names: Sequence[str], user: str, num_pictures: int) -> list[Arm]:
        """Build arms for a person, searching first where they need it.

        Args:
            names: Of ``available``.
            user: The person.
            num_pictures: How many will be compared; what an arm may spend on each follows.
        """
        return [self._make(name, user, num_pictures) for name in names]

    def _make(self, name: str, user: str, num_pictures: int) -> Arm:
        trained = images_spent(self._run, user) if self._source.adapted else 0
        each = max(1, self._budget // num_pictures + 1)
        spent, images_each = 0, 1
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
            draw, images_each = BestOfN(draw, self._source.reward, user, each, self._search.std_weight), each
        elif name == "noise_search" and self._policy is not None:
            config = replace(self._noise, num_steps=min(self._noise.num_steps, each - 1))
            draw, images_each = NoiseSearch(self._policy, None, self._source.reward, user, config), config.num_steps + 1
        elif self._rewriter:
            used = self._rewriter if name == "rewriter" else self._rewriter.untrained()
            draw = RewritingGenerator(used, user, draw)
            spent = self._rewriter_spent // len(self._rewriter.descriptions) if name == "rewriter" else 0
        facts = f"{name} {each if images_each > 1 else ''} {self._search} {self._noise} {self._origin(name)}"
        return Arm(name, self._keep(draw, name, user, facts), spent, images_each)

    def _prompted(
        self, user: str, searched_for: str, adapter: str | None, config: PromptSearchConfig
    ) -> tuple[ImageGenerator, int]:
        """Search a prompt for every request, for one person's reward, and draw with what was found."""
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
        likings = {liking.phrase: liking.effect for liking in taste.likings}
        phrases = PhraseProposer(self._source.book, likings)
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

    def _keep(self, draw: ImageGenerator, name: str, user: str, facts: str) -> KeptDrawings:
        return KeptDrawings(draw, self._folder / "drawings", (user, name), f"{facts} {self._drawing}")

    def _next(self, user: str) -> str:
        users = self._source.users
        return users[(users.index(user) + 1) % len(users)]

    def _origin(self, name: str) -> str:
        """What the arm's weights come from, so that drawings of an older run are not taken for those of a newer."""
        if not self._source.adapted:
            return ""
        run = self._others.get(name, self._run)
        return json.dumps(
            {user: (path / "adapter.json").stat().st_mtime_ns for user, path in list_adapters(run).items()}
        )

    def _load(self, arm: str, run: Path) -> dict[str, str]:
        """Load a further run's adapters beside the own ones, under names of their own."""
        adapters, loaded = list_adapters(run), {}
        for user in self._source.users:
            if user not in adapters:
                raise ConfigError(f"arm {arm!r} takes adapters from {run}, which has none of {user!r}; leave it out.")
            loaded[user] = f"{folder_name(user)}-{folder_name(arm)}"
            load_adapter(self._source.pipeline, run, user, loaded[user])
        return loaded


def _images_of_rewriter(folder: Path) -> int:
    return int(json.loads((folder / "rewriter.json").read_text(encoding="utf-8")).get("images_spent", 0))

"""What steering did: every arm on the same held-out prompts and noise, at equal pictures, in one report.

python recipes/evaluate.py --run outputs/quickstart
python recipes/evaluate.py --run outputs/mine --base_model stable-diffusion-v1-5/stable-diffusion-v1-5 \
    --encoder ViT-SO400M-16-SigLIP2-384 --prompts held_out.txt --content clip_score
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from arms import ArmMaker, Drawing
from command_line import run
from comparison_source import ServiceSettings, Source, open_source
from tqdm.auto import tqdm

from pamela_rl.diffusion.adapters import images_spent
from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.compare import (
    BASE,
    OWN,
    UserComparison,
    adapter_matrix,
    compare_user,
    deciding_score,
    summarize,
)
from pamela_rl.evaluation.gallery import save_gallery
from pamela_rl.evaluation.report import Report, write_report
from pamela_rl.evaluation.text import arms_table, summary_table
from pamela_rl.steering.chat import EndpointChat, TransformersChat
from pamela_rl.steering.http import ServiceConfig
from pamela_rl.steering.noise_search import NoiseSearchConfig
from pamela_rl.steering.prompt_search import PromptSearchConfig
from pamela_rl.storage import ensure_writable, folder_name, read_metrics
from pamela_rl.training.personalize import versions
from pamela_rl.world import PIPELINES


@dataclass(frozen=True)
class ChatSettings:
    """A chat language model that proposes prompts beside the phrases.

    Attributes:
        model: A hub name or folder; with ``url``, as the server names it. None uses no language model.
        url: Base address of an OpenAI-compatible server; None runs the model here.
        key_variable: Environment variable that holds the server's key; None for a server that wants none.
    """

    model: str | None = None
    url: str | None = None
    key_variable: str | None = None

    def open(self) -> Any:
        """Load the model or reach for the server; None where there is none."""
        if self.model is None:
            return None
        if self.url is None:
            return TransformersChat.load(self.model)
        return EndpointChat(ServiceConfig(self.url, self.key_variable), self.model)


@dataclass(frozen=True)
class EvaluateConfig:
    """The comparison's settings.

    Attributes:
        run: A finished run, with ``adapters/``.
        reward: Folder of the personal reward it was trained with; None is ``rewards/personal`` in the run.
        judge: Folder of another one, only watched; None is ``rewards/judge`` in the run where that is.
        output_dir: Where the report goes; None is ``evaluation/`` in the run.
        base_model: "world", "flow", a hub id or a folder of a pipeline.
        dtype: Of the base model's weights.
        encoder: Of the run's reward: "world", "pixels", an open_clip name or a folder.
        judge_encoder: Of the judge; none means the reward's.
        users: Whom to compare; none means everybody with an adapter.
        arms: Which to compare; none means all that can be made.
        adapters: Further arms, name to the run their adapters are from, e.g. {long: outputs/long}.
        rewriter: Folder of a rewriter that recipes/train_rewriter.py trained.
        prompts: Held-out prompts, one a line; the world has its own.
        num_prompts: How many of them.
        seeds_per_prompt: Pictures of each prompt and arm.
        images_budget: Pictures an arm may spend on a person; None is what training the adapter took.
        reference_pictures: Pictures of the base model from which tastes are put into words.
        content: What tells whether pictures show what was asked: "world", "none", or a reward such as "clip_score".
        watch: Rewards of the average person to be watched, e.g. [pickscore, hpsv2.1].
        drawing: How pictures are drawn.
        search: Of prompts.
        noise: Of initial noise.
        chat: A language model that proposes prompts.
        service: A remote service that draws instead of the base model; then there are no adapters.
    """

    run: Path
    reward: Path | None = None
    judge: Path | None = None
    output_dir: Path | None = None
    base_model: str = "world"
    dtype: Literal["float32", "bfloat16"] = "float32"
    encoder: str = "world"
    judge_encoder: str | None = None
    users: list[str] = field(default_factory=list)
    arms: list[str] = field(default_factory=list)
    adapters: dict[str, Path] = field(default_factory=dict)
    rewriter: Path | None = None
    prompts: Path | None = None
    num_prompts: int = 16
    seeds_per_prompt: int = 2
    images_budget: int | None = None
    reference_pictures: int = 192
    content: str | None = None
    watch: list[str] = field(default_factory=list)
    drawing: Drawing = field(default_factory=Drawing)
    search: PromptSearchConfig = field(default_factory=PromptSearchConfig)
    noise: NoiseSearchConfig = field(default_factory=NoiseSearchConfig)
    chat: ChatSettings = field(default_factory=ChatSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)

    def __post_init__(self) -> None:
        for name in ("num_prompts", "seeds_per_prompt"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; use 1 or more.")
        if self.images_budget is not None and self.images_budget < 1:
            raise ConfigError(f"images_budget is {self.images_budget}; use 1 or more, e.g. 1440.")


def evaluate(config: EvaluateConfig) -> None:
    """Compare and say where the report is."""
    started = time.monotonic()
    folder = ensure_writable(config.output_dir or config.run / "evaluation")
    remote = config.service.open(folder / "service")
    content = config.content or ("world" if config.base_model in PIPELINES and remote is None else "none")
    source = open_source(
        config.run, config.base_model, config.encoder, config.users, config.prompts, config.num_prompts, content,
        config.watch, remote, config.reward, config.judge, config.dtype, config.judge_encoder,
    )  # fmt: skip
    maker, names = make_arms(config, source, folder)
    comparisons = [compare_person(config, source, maker, names, user) for user in tqdm(source.users, unit="person")]
    summary = summarize(comparisons)
    if len(source.users) > 1 and OWN in names:
        summary["matrix"] = adapter_matrix(comparisons, source.scorers[deciding_score(comparisons[0])])
    summary["tastes"] = {user: taste.to_json() for user, taste in maker.tastes.items()}
    save_gallery(folder, comparisons)
    report = Report(
        summary,
        comparisons,
        curves=_of_everybody(config.run, source, "metrics.jsonl"),
        validation=_of_everybody(config.run, source, "validation.jsonl"),
        tastes={user: taste.sentence() for user, taste in maker.tastes.items()},
        prompts={user: {r: s.prompt for r, s in found.items()} for user, found in maker.searches.items()},
        likings={user: taste.to_json()["likings"] for user, taste in maker.tastes.items()},
        exemplars=maker.exemplars,
        context=_context(started),
    )
    page = write_report(folder, report)
    print(f"\n{summary_table(summary)}" if OWN in names else "")
    if remote is not None:
        print(f"\nBought so far: {remote.spent.images:,} pictures, at a cost of {remote.spent.cost:.2f}.")
    print(f"\n{arms_table(summary)}\n\nThe report: {page}")


def make_arms(config: EvaluateConfig, source: Source, folder: Path) -> tuple[ArmMaker, list[str]]:
    """Prepare all arms that are wanted.

    Raises:
        ConfigError: An arm is not known or cannot be made.
    """
    budget = config.images_budget or _trained(config, source)
    search = replace(config.search, max_images=max(1, budget // len(source.prompts)))
    maker = ArmMaker(
        source, config.run, folder, config.drawing, budget, search, config.noise, config.rewriter, config.adapters,
        config.chat.open(),
    )  # fmt: skip
    names = config.arms or maker.available()
    unknown = [name for name in names if name not in maker.available()]
    if unknown:
        raise ConfigError(
            f"the arms {', '.join(unknown)} cannot be made here; use any of {', '.join(maker.available())}."
        )
    maker.describe(config.reference_pictures)
    return maker, list(dict.fromkeys([BASE, *names]))


def compare_person(
    config: EvaluateConfig, source: Source, maker: ArmMaker, names: list[str], user: str
) -> UserComparison:
    """Draw and score one person's arms."""
    arms = maker.make(names, user, len(source.prompts) * config.seeds_per_prompt)
    return compare_user(user, arms, source.prompts, config.seeds_per_prompt, source.scorers)


def _trained(config: EvaluateConfig, source: Source) -> int:
    """What the adapters took on average; a thousand where they do not say."""
    spent = [images_spent(config.run, user) for user in source.users] if source.adapted else [0]
    return sum(spent) // len(spent) or 1000


def _of_everybody(run: Path, source: Source, name: str) -> dict[str, list[Mapping[str, Any]]]:
    return {user: list(read_metrics(run / "users" / folder_name(user) / name)) for user in source.users}


def _context(started: float) -> dict[str, str]:
    return {
        "command": shlex.join(["python", *sys.argv]),
        "versions": ", ".join(f"{package} {release}" for package, release in versions().items()),
        "seconds": f"{time.monotonic() - started:.0f}",
    }


if __name__ == "__main__":
    run(EvaluateConfig, __doc__ or "", evaluate)

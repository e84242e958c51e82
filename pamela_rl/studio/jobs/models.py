"""The models that a worker has open: one pipeline, with at most one adapter on it, and the person's reward."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pamela_rl.evaluation.draw_to_rate import open_generator
from pamela_rl.evaluation.rated_drawing import RatedDrawing
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.steering.generators import PipelineGenerator
from pamela_rl.studio.answers import read_answers
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Answer
from pamela_rl.studio.eyes import Eyes, open_eyes, open_judges_eyes
from pamela_rl.studio.mind import learn
from pamela_rl.studio.settings import StudioSettings

BATCH = 8  # images of a call


class Models:
    """Opens models when they are first asked for.

    Args:
        settings: Of the studio.
    """

    def __init__(self, settings: StudioSettings):
        self._settings = settings
        self._generator: PipelineGenerator | None = None
        self._adapter: Path | None = None
        self._eyes: dict[bool, Eyes] = {}

    def close(self) -> None:
        """Free the pipeline's memory, for a training in another process."""
        self._generator = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def generator(self, adapter: Path | None = None, strength: float = 1.0) -> PipelineGenerator:
        """Return what draws: the base model, or an adapter on it at a strength.

        Raises:
            PamelaError: The model or the adapter cannot be loaded.
        """
        if self._generator is None or (adapter is not None and adapter != self._adapter):
            self.close()
            given = self._settings
            steps, guidance = given.num_inference_steps, given.guidance_scale
            drawing = RatedDrawing(
                given.model, adapter, num_inference_steps=steps, guidance_scale=guidance, batch_size=BATCH
            )
            self._generator, self._adapter = open_generator(drawing), adapter
        if adapter is None or strength == 0:
            return replace(self._generator, adapter=None)
        return replace(self._generator, strength=strength)

    def eyes(self, judge: bool = False) -> Eyes:
        """Return what people's pictures are seen by, or what their judges see by."""
        if judge not in self._eyes:
            self._eyes[judge] = (open_judges_eyes if judge else open_eyes)(self._settings)
        return self._eyes[judge]

    def reward(self, database: Database, person_id: str, *, judge: bool = False) -> tuple[PersonalReward, int] | None:
        """Return the reward that knows a person, or their judge, with the number of answers; None where these teach nothing.

        The reward learns from what was asked because it teaches, the judge of a reward that was fitted on others from what
        was asked at random, so that it shares no answer with the reward.

        Args:
            database: Of the studio.
            person_id: Whose.
            judge: Return the judge.
        """
        with database.session() as session:
            answers: Sequence[Answer] = read_answers(session, person_id)
        eyes = self.eyes(judge)
        measures = judge and eyes.start is not None
        answers = [answer for answer in answers if answer.at_random == measures]
        shown = [picture for answer in answers for picture in answer.picture_ids]
        features: dict[str, Tensor] = eyes.see(database, self._settings.folder, shown)
        mind = learn(eyes, None, answers, features)
        if mind is None or not (mind.learned or judge):
            return None
        return mind.reward(person_id, answers), len(answers)

"""What is known of one person's taste: a posterior that every answer brings up to date, and what it foretells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pamela_rl.data.ratings import RatingScale
from pamela_rl.rewards.personal import FittedOn, PersonalReward
from pamela_rl.rewards.preference import ChoiceTensors, ImageFeatures, RatingData, RatingTensors, feature_parts
from pamela_rl.rewards.saturation import saturated
from pamela_rl.rewards.taste.fit import fit_taste_basis
from pamela_rl.rewards.taste.kernel_features import KernelFeatures
from pamela_rl.rewards.taste.newcomer import PairChoices, add_choices, add_rating, fit_newcomer, next_choice, next_image
from pamela_rl.rewards.taste.posterior import Posterior
from pamela_rl.rewards.taste.taste_basis import TasteBasis
from pamela_rl.studio.answers import HIGHEST, LOWEST, comparisons
from pamela_rl.studio.database.schema import Answer
from pamela_rl.studio.eyes import Eyes
from pamela_rl.studio.start_reward import EVERYBODY
from pamela_rl.types import RewardOutput

LEAST_ANSWERS = 3  # from which on a person alone is a beginning
REFIT_GROWTH = 1.1  # of answers, until a process of one's own is fitted anew; between, answers are added to it
SCALE = RatingScale(LOWEST, HIGHEST)


@dataclass(frozen=True)
class Mind:
    """One person's taste.

    Attributes:
        eyes: What it sees by, and what it begins with.
        basis: Of tastes.
        posterior: The person's.
        learned: Ids of the answers in it, in order.
        fitted: How many of them the basis was fitted to, where it is the person's own.
    """

    eyes: Eyes
    basis: TasteBasis
    posterior: Posterior
    learned: tuple[int, ...] = ()
    fitted: int = 0

    def predict(self, features: Tensor) -> RewardOutput:
        """Foretell ratings of pictures, and how sure that is, ``(n,)`` each.

        Args:
            features: Of the pictures, ``(n, d)``.
        """
        model = self.basis.with_user("", self.posterior)
        output = model.predict(ImageFeatures(features), [""] * len(features))
        bounded = self.eyes.start is None or self.eyes.start.fitted_on.bounded
        return saturated(output, SCALE) if bounded else output

    def differences(self, features: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Foretell by how much one picture is liked more than another, and the variance of that, ``(m,)`` each.

        Args:
            features: Of pictures, ``(n, d)``.
            first: Rows of one picture of each pair, ``(m,)``.
            second: Rows of the other.
        """
        with torch.no_grad():
            shared, design = (part.double() for part in self.basis.network(features.float()))
            beyond = self.basis.network.unexplained(features).double() + self.posterior.misfit
        rows = design[first] - design[second]
        mean = shared[first] - shared[second] + rows @ self.posterior.mean
        return mean, ((rows @ self.posterior.covariance) * rows).sum(dim=1) + beyond[first] + beyond[second]

    def imagining(self, features: Tensor) -> Mind:
        """Return what would be known if pictures, ``(n, d)``, were rated as foretold: as much surer, and no wiser."""
        images = ImageFeatures(features)
        with torch.no_grad():
            shared, design = self.basis.network(features.float())
        foretold = shared.double() + design.double() @ self.posterior.mean
        return replace(self, posterior=add_rating(self.basis, self.posterior, images, foretold))

    def choose(self, features: Tensor, size: int) -> list[int]:
        """Choose the pictures whose rating, or the choice among which, teaches most; return their rows.

        Args:
            features: Of pictures that can be asked about, ``(n, d)``.
            size: How many are asked about at once.
        """
        basis, images = self.basis, ImageFeatures(features)
        if size == 1:
            return [next_image(basis, self.posterior, images)]
        return next_choice(basis, self.posterior, images, size)

    def reward(self, person_id: str, answers: Sequence[Answer]) -> PersonalReward:
        """Return the reward that knows this person.

        Args:
            person_id: Who they are.
            answers: Those it learned from, of which the reward keeps a digest.
        """
        told = json.dumps([(a.said, a.value, a.picture_ids) for a in answers if a.id in set(self.learned)])
        digest = hashlib.sha256(told.encode()).hexdigest()[:16]
        pictures = frozenset(picture for answer in answers for picture in answer.picture_ids)
        rated = any(answer.said == "rating" for answer in answers)
        start = self.eyes.start
        alone = FittedOn(
            frozenset([person_id]), pictures, scale=SCALE, prompts=self.eyes.encoder.reads_prompts, bounded=rated
        )
        fitted_on = (alone if start is None else start.fitted_on).with_answers(person_id, digest)
        return PersonalReward(self.eyes.encoder, self.basis.with_user(person_id, self.posterior), fitted_on)


def learn(eyes: Eyes, before: Mind | None, answers: Sequence[Answer], features: Mapping[str, Tensor]) -> Mind | None:
    """Return what is known after a person's answers; None where that is nothing, and nothing to begin with.

    Args:
        eyes: What answers are seen by.
        before: What was known before some of them, which are then not gone through again.
        answers: All that stand, in order.
        features: Of the pictures that they are about; answers about others teach nothing.
    """
    answers = [answer for answer in answers if features.keys() >= set(answer.picture_ids)]
    ids = tuple(answer.id for answer in answers)
    if before is not None and ids[: len(before.learned)] != before.learned:
        before = None  # some were taken back
    if before is not None and ids == before.learned:
        return before
    if eyes.start is None:
        if before is not None and len(ids) < before.fitted * REFIT_GROWTH:
            return _more(before, answers, features)
        return _fit(eyes, answers, features)
    start = eyes.start.model
    assert isinstance(start, TasteBasis)
    if isinstance(start.network, KernelFeatures):
        return _anew(eyes, start, answers, features)
    return _more(before or Mind(eyes, start, start.prior()), answers, features)


def _more(mind: Mind, answers: Sequence[Answer], features: Mapping[str, Tensor]) -> Mind:
    """Add those answers that are new."""
    said, posterior = _Said.of(answers[len(mind.learned) :], features), mind.posterior
    if said.rated:
        posterior = add_rating(mind.basis, posterior, said.images, said.ratings)
    if said.pairs:
        posterior = add_choices(mind.basis, posterior, said.choices)
    return replace(mind, posterior=posterior, learned=tuple(answer.id for answer in answers))


def _anew(eyes: Eyes, basis: TasteBasis, answers: Sequence[Answer], features: Mapping[str, Tensor]) -> Mind:
    """Begin again, in a basis that can tell tastes at these pictures."""
    said, shown = _Said.of(answers, features), {picture for answer in answers for picture in answer.picture_ids}
    if shown:
        basis = basis.with_landmarks(torch.stack([features[picture] for picture in sorted(shown)]))
    images, ratings = (said.images, said.ratings) if said.rated else (None, None)
    posterior = fit_newcomer(basis, images, ratings, choices=said.choices if said.pairs else None)
    return Mind(eyes, basis, posterior, tuple(answer.id for answer in answers))


def _fit(eyes: Eyes, answers: Sequence[Answer], features: Mapping[str, Tensor]) -> Mind | None:
    """Fit a process of the person's own."""
    said = _Said.of(answers, features)
    ratings = [value for _, value in said.rated]
    if len(answers) < LEAST_ANSWERS or (not said.pairs and len(set(ratings)) < 2):
        return None
    rows = {picture: row for row, picture in enumerate(dict.fromkeys(said.pictures))}
    images = ImageFeatures(torch.stack([features[picture] for picture in rows]), parts=feature_parts(eyes.encoder))
    places = torch.tensor([rows[picture] for picture, _ in said.rated], dtype=torch.long)
    rated = RatingTensors(torch.zeros_like(places), places, torch.tensor(ratings, dtype=torch.float64))
    first, second = (
        torch.tensor([rows[picture] for picture in side], dtype=torch.long)
        for side in ([a for a, _, _ in said.pairs], [b for _, b, _ in said.pairs])
    )
    outcomes = torch.tensor([outcome for *_, outcome in said.pairs], dtype=torch.float64)
    chosen = ChoiceTensors(torch.zeros_like(first), first, second, outcomes)
    basis = fit_taste_basis(
        RatingData(images, rated, (EVERYBODY,), choices=chosen if said.pairs else None, scale=SCALE)
    )
    posterior = basis.posterior(EVERYBODY)
    return Mind(eyes, basis, posterior, tuple(answer.id for answer in answers), len(answers))


@dataclass(frozen=True)
class _Said:
    """Answers as what a posterior is brought up to date with."""

    features: Mapping[str, Tensor]
    rated: list[tuple[str, float]] = field(default_factory=list)
    pairs: list[tuple[str, str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, answers: Sequence[Answer], features: Mapping[str, Tensor]) -> _Said:
        """Sort answers into ratings and comparisons of two."""
        rated = [(a.picture_ids[0], float(a.value or 0)) for a in answers if a.said == "rating"]
        pairs = [pair for answer in answers if answer.said == "choice" for pair in comparisons(answer)]
        return cls(features, rated, pairs)

    @property
    def pictures(self) -> list[str]:
        """Ids of all pictures that something is said about; one that is compared twice is there twice."""
        return [p for p, _ in self.rated] + [picture for a, b, _ in self.pairs for picture in (a, b)]

    @property
    def images(self) -> ImageFeatures:
        """Features of those that are rated, ``(n, d)``."""
        return ImageFeatures(torch.stack([self.features[picture] for picture, _ in self.rated]))

    @property
    def ratings(self) -> Tensor:
        """Their ratings, ``(n,)``, float64."""
        return torch.tensor([value for _, value in self.rated], dtype=torch.float64)

    @property
    def choices(self) -> PairChoices:
        """What was preferred to what."""
        first = ImageFeatures(torch.stack([self.features[a] for a, _, _ in self.pairs]))
        second = ImageFeatures(torch.stack([self.features[b] for _, b, _ in self.pairs]))
        return PairChoices(first, second, torch.tensor([outcome for *_, outcome in self.pairs], dtype=torch.float64))

"""More people, or more answers of known people, for rewards that are fitted already; nobody else is fitted again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pamela_rl.agreement.answers import Answers, read_answers
from pamela_rl.agreement.cross_validation import rated_by
from pamela_rl.agreement.study import make_study
from pamela_rl.agreement.tables import count_of
from pamela_rl.data.settings import SourceSettings
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.preference import PreferenceModel, RatingData
from pamela_rl.rewards.saved import SavedReward, judge_folder, reward_folder
from pamela_rl.rewards.taste.newcomer import PairChoices, add_choices, with_more_ratings
from pamela_rl.rewards.taste.taste_basis import TasteBasis


def add_people(folder: Path, source: SourceSettings, cache: Path) -> str:
    """Introduce the people of a source to a fitted reward and to its judge, save both, and say who is known now.

    Answers of a person who is known already are added to what is known of them, e.g. ratings of what their adapter draws.
    Models other than the taste basis know people by one list of ratings, which the new one replaces.

    Args:
        folder: What recipes/fit_reward.py wrote, or the folder of one reward.
        source: Where the ratings are. The same answers given twice count twice.
        cache: Where features are kept between runs.

    Raises:
        DataError: A file cannot be read, or a row is wrong.
        ConfigError: There is no reward, or the scale of ratings is another.
    """
    device, answers = "cuda" if torch.cuda.is_available() else "cpu", read_answers(source)
    place, judge = reward_folder(folder), judge_folder(folder)
    extended = {}
    for kept in (place, *([] if judge is None else [judge])):
        encoder = open_encoder(SavedReward.read(kept).encoder_name, device)
        reward = PersonalReward.load(kept, encoder)
        known_prompts = answers if reward.fitted_on.prompts else replace(answers, prompts=[""] * len(answers.images))
        extended[kept] = _extended(reward, answers, known_prompts.encoded(encoder, cache))
    known = SavedReward.read(place).user_ids
    for kept, reward in extended.items():  # all are ready before the first is replaced
        reward.save(kept)
    users = extended[place].model.user_ids
    new = [user for user in users if user not in known]
    more = [user for user in answers.people if user in known]
    told = f"; more answers of {', '.join(more)}" if more else ""
    return (
        f"Added: {', '.join(new) or 'nobody new'}{told}; {place} knows {count_of(len(users), 'person', 'people')} now."
    )


def _extended(reward: PersonalReward, answers: Answers, features: Tensor) -> PersonalReward:
    given, known = answers.ratings.scale, reward.fitted_on.scale
    if len(answers.ratings.rows) and given != known:
        raise ConfigError(
            f"the new ratings run from {given.low:g} to {given.high:g}, those of the reward from {known.low:g} to "
            f"{known.high:g}; convert them, or give source.scale."
        )
    study = make_study(answers.ratings, features, answers.images, answers.choices)
    data, model, fitted_on = study.everything, reward.model, reward.fitted_on
    for row, user in enumerate(data.user_ids):
        model = _introduced(model, data, row, user)
    for user, digest in study.fitted_on_everything.answers.items():
        fitted_on = fitted_on.with_answers(user, digest)
    return PersonalReward(reward.encoder, model, fitted_on)


def _introduced(model: PreferenceModel, data: RatingData, row: int, user: str) -> PreferenceModel:
    mine = rated_by(data, data.train[data.train.users == row])
    if isinstance(model, TasteBasis) and user in model.user_ids:
        model = with_more_ratings(model, user, mine.images, mine.ratings)
    else:
        model = model.introduce(user, mine.images, mine.ratings, data.demographics_of(user))
    if data.choices is None or not isinstance(model, TasteBasis):
        return model
    chosen = (data.choices.users == row).nonzero().squeeze(1)
    first, second = (data.images[part[chosen]] for part in (data.choices.first, data.choices.second))
    model = model.with_landmarks(torch.cat([first.features, second.features]))
    choices = PairChoices(first, second, data.choices.outcomes[chosen])
    return model.with_user(user, add_choices(model, model.posterior(user), choices))

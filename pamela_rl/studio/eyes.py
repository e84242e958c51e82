"""What an encoder sees in people's pictures, computed once and kept in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sqlalchemy import delete, exists, select
from torch import Tensor

from pamela_rl.rewards.encoders.opening import open_encoder
from pamela_rl.rewards.opening import open_reward
from pamela_rl.rewards.personal import PersonalReward
from pamela_rl.rewards.preference import Encoder
from pamela_rl.rewards.saved import SavedReward, judge_folder
from pamela_rl.rewards.settings import DEFAULT_ENCODER, JUDGE_ENCODER
from pamela_rl.studio.database.opening import Database
from pamela_rl.studio.database.schema import Feature, Picture
from pamela_rl.studio.pictures import picture_file
from pamela_rl.studio.settings import StudioSettings
from pamela_rl.studio.start_reward import EVERYBODY, without_people

CHUNK = 500  # rows of a query


@dataclass(frozen=True)
class Eyes:
    """An encoder, and the reward on its features that people start from.

    Attributes:
        encoder: Of pictures and their prompts.
        start: Knows ``EVERYBODY`` alone; None where each person is a beginning of their own.
    """

    encoder: Encoder
    start: PersonalReward | None

    def see(
        self, database: Database, folder: Path, picture_ids: Iterable[str], most: int | None = None
    ) -> dict[str, Tensor]:
        """Return the features of pictures, ``(d,)`` each; those that are gone are left out.

        Args:
            database: Where features are kept.
            folder: Of the studio.
            picture_ids: Of which pictures.
            most: Pictures that are encoded now; more of them are left out. None encodes all.
        """
        wanted, found = list(dict.fromkeys(picture_ids)), dict[str, Tensor]()
        with database.session() as session:
            for first in range(0, len(wanted), CHUNK):
                part = wanted[first : first + CHUNK]
                kept = select(Feature).where(Feature.picture_id.in_(part), Feature.encoder == self.encoder.fingerprint)
                for row in session.scalars(kept):
                    found[row.picture_id] = torch.from_numpy(np.frombuffer(row.vector, dtype="<f4").copy())
            missing = [picture for picture in wanted if picture not in found][:most]
            pictures = session.scalars(select(Picture).where(Picture.id.in_(missing))).all() if missing else []
        new = {picture.id: features for picture in pictures if (features := self._encode(folder, picture)) is not None}
        if new:
            self._keep(database, new)
        return found | new

    def see_more(self, database: Database, folder: Path, person_id: str, most: int) -> bool:
        """Encode some of a person's pictures that were not seen yet; tell whether there were any.

        Args:
            database: Where features are kept.
            folder: Of the studio.
            person_id: Whose pictures.
            most: Pictures.
        """
        seen = exists().where(Feature.picture_id == Picture.id, Feature.encoder == self.encoder.fingerprint)
        mine = select(Picture.id).where(Picture.person_id == person_id, Picture.excluded.is_(None), ~seen)
        with database.session() as session:
            unseen = session.scalars(mine.limit(most)).all()
        return bool(unseen and self.see(database, folder, unseen))

    def _encode(self, folder: Path, picture: Picture) -> Tensor | None:
        try:
            with Image.open(picture_file(folder, picture.person_id, picture.id)) as opened:
                pixels = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1).float() / 255
        except FileNotFoundError:  # deleted meanwhile
            return None
        with torch.no_grad():
            if self.start is not None:
                return self.start.features(pixels[None], [picture.prompt]).features[0].float()
            return self.encoder.encode(pixels[None], [picture.prompt])[0].float().cpu()

    def _keep(self, database: Database, new: dict[str, Tensor]) -> None:
        with database.changing() as session:
            there = set(session.scalars(select(Picture.id).where(Picture.id.in_(new))))
            of_this = Feature.encoder == self.encoder.fingerprint
            session.execute(delete(Feature).where(Feature.picture_id.in_(new), of_this))  # another process was as fast
            for picture in there:
                vector = new[picture].numpy().astype("<f4").tobytes()
                session.add(Feature(picture_id=picture, encoder=self.encoder.fingerprint, vector=vector))


def open_eyes(settings: StudioSettings) -> Eyes:
    """Load the encoder, and the reward that newcomers start from, where there is one.

    Raises:
        ConfigError: It cannot be loaded, or nobody can start from it.
    """
    start = settings.start_reward
    if start is None:
        return Eyes(open_encoder(settings.encoder or DEFAULT_ENCODER, "cpu"), None)
    return _from_reward(start)


def open_judges_eyes(settings: StudioSettings) -> Eyes:
    """Load what a judge sees by: the one beside the reward that newcomers start from, else another encoder alone."""
    start = settings.start_reward
    judge = None if start is None else judge_folder(start)
    return Eyes(open_encoder(JUDGE_ENCODER, "cpu"), None) if judge is None else _from_reward(judge)


def _from_reward(folder: Path) -> Eyes:
    reward = open_reward(folder)
    whole = reward if SavedReward.read(folder).user_ids == (EVERYBODY,) else without_people(reward)
    return Eyes(whole.encoder, whole)

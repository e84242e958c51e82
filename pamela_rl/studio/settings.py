"""Settings of a studio; checked without torch."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from pamela_rl.config import TrainConfig
from pamela_rl.diffusion.settings import ModelSettings
from pamela_rl.errors import ConfigError
from pamela_rl.rewards.saved import SavedReward
from pamela_rl.storage import SHIPPED_PIPELINES, START_REWARD
from pamela_rl.world.run_settings import for_few_ratings


@dataclass(frozen=True)
class UploadLimits:
    """What may be sent to a studio.

    Attributes:
        files: In one request.
        megabytes: Of one request.
        megapixels: Of one picture.
        pictures: Of one person, all together.
        longest_side: Larger pictures are made smaller to this, in pixels.
    """

    files: int = 200
    megabytes: int = 200
    megapixels: int = 40
    pictures: int = 20_000
    longest_side: int = 1024

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ConfigError(f"uploads.{name} is {value}; use 1 or more.")


@dataclass(frozen=True)
class StudioSettings:
    """Where a studio keeps what it knows, who may come, and what it draws and trains with.

    Attributes:
        folder: Of pictures, jobs, adapters and, with SQLite, the database.
        database: URL of a PostgreSQL database, e.g. postgresql+psycopg://user@host/name; None is a SQLite file in the folder.
        host: Address to listen on. Anything but this machine's own demands sign-in.
        port: 0 takes a free one.
        names: Host names under which browsers may ask for it, beside its address.
        https: Whether a proxy before it speaks HTTPS, so that cookies are sent over that alone.
        open_browser: Open the page when it is ready.
        model: The base model.
        reward: A reward fitted on others, from which newcomers start. None is the world's own for its models, and for others
            each person's own process alone.
        encoder: What pictures are seen through where there is no such reward; None is the usual one.
        prompts: What to draw, one a line; None is the world's for its models. People can write their own.
        num_inference_steps: Of every picture; None is the model's own number.
        guidance_scale: Of every picture; None is the model's own.
        ahead: Pictures kept drawn before they are asked about.
        workers: Processes here that draw and train; 0 starts none, for workers elsewhere.
        uploads: What may be sent.
        train: Of each adapter.
    """

    folder: Path = Path("outputs/studio")
    database: str | None = None
    host: str = "127.0.0.1"
    port: int = 8765
    names: list[str] = field(default_factory=list)
    https: bool = False
    open_browser: bool = False
    model: ModelSettings = field(default_factory=ModelSettings)
    reward: Path | None = None
    encoder: str | None = None
    prompts: Path | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    ahead: int = 48
    workers: int = 1
    uploads: UploadLimits = field(default_factory=UploadLimits)
    train: TrainConfig = field(default_factory=for_few_ratings)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}; use 1024 to 65535, or 0 for a free one.")
        try:
            ipaddress.ip_address(self.host)
        except ValueError as error:
            raise ConfigError(
                f"host is {self.host!r}, which is no address; use 127.0.0.1, or 0.0.0.0 to let other machines in."
            ) from error
        if self.database is not None and not self.database.startswith("postgresql"):
            raise ConfigError(
                "database is no PostgreSQL URL; use postgresql+psycopg://user@host/name, or leave it out for a file."
            )
        for name, value, least in (("ahead", self.ahead, 8), ("workers", self.workers, 0)):
            if value < least:
                raise ConfigError(f"{name} is {value}; use {least} or more.")
        if self.reward is not None:
            SavedReward.read(self.reward)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can ask; nobody has to sign in then."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def start_reward(self) -> Path | None:
        """The reward that newcomers start from."""
        return START_REWARD if self.reward is None and self.in_world else self.reward

    @property
    def in_world(self) -> bool:
        """Whether it draws with a shipped model, whose newcomers start from the world's reward."""
        return self.model.name in SHIPPED_PIPELINES

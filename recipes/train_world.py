"""Train the embedded world's models from nothing: autoencoder, content judge, open_clip encoder, and two text-to-image models on
the same drawings, a UNet and its flow-matching twin.

python recipes/train_world.py --output_dir outputs/world

About three hours on two CPU cores by the time of a step (not timed as a whole); started again with the same command it goes on
where it stopped. Each part leaves a log of its losses, ``<part>/<part>.jsonl``. ``contact_sheet_<model>.png`` shows what came of
it, ``measurements.json`` how good it is. To ship the models, copy ``assets/`` over ``pamela_rl/world/assets/``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from command_line import run
from diffusers import AutoencoderKL

from pamela_rl.errors import ConfigError
from pamela_rl.evaluation.contact_sheets import save_contact_sheet
from pamela_rl.storage import ensure_writable
from pamela_rl.world import FLOW_PIPELINE, PIPELINE, PIPELINES, load_pipeline
from pamela_rl.world.autoencoder import encode, train_autoencoder
from pamela_rl.world.denoiser import train_pipeline
from pamela_rl.world.encoder import train_encoder
from pamela_rl.world.fitting import FitSettings
from pamela_rl.world.flow_denoiser import train_flow_pipeline
from pamela_rl.world.judge import ContentJudge, train_judge
from pamela_rl.world.measure import measure_world, sample_subjects
from pamela_rl.world.scenes import draw_scenes, random_scenes


def _fit(num_steps: int, learning_rate: float, ema_decay: float) -> FitSettings:
    return FitSettings(num_steps=num_steps, learning_rate=learning_rate, ema_decay=ema_decay)


@dataclass(frozen=True)
class WorldTrainingConfig:
    """How the world is trained.

    Attributes:
        output_dir: Where checkpoints, logs and the finished ``assets/`` go.
        num_scenes: Drawings to learn from.
        seed: Of drawings and of initial weights.
        autoencoder: Length and rates of its training, batches of 32.
        judge: Of the content judge, batches of 128.
        encoder: Of the open_clip model, batches of 128.
        denoiser: Of text encoder and UNet, batches of 96.
        flow_denoiser: Of the twin's text encoders and transformer, batches of 96.
    """

    output_dir: Path = Path("outputs/world")
    num_scenes: int = 24_000
    seed: int = 1
    autoencoder: FitSettings = field(default_factory=lambda: _fit(3000, 2e-3, 0.998))
    judge: FitSettings = field(default_factory=lambda: _fit(700, 2e-3, 0.995))
    encoder: FitSettings = field(default_factory=lambda: _fit(900, 1.5e-3, 0.997))
    denoiser: FitSettings = field(default_factory=lambda: _fit(4000, 1.5e-3, 0.999))
    flow_denoiser: FitSettings = field(default_factory=lambda: _fit(7500, 1.2e-3, 0.999))

    def __post_init__(self) -> None:
        if self.num_scenes < 1000:
            raise ConfigError(f"num_scenes is {self.num_scenes}; use at least 1000 drawings.")


def ship(pipeline: Any, folder: Path) -> None:
    """Save in half precision, to be loaded in full: transformers loads as a config says, diffusers in fp32."""
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for path in folder.glob("text_encoder*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", encoding="utf-8")


def train_world(config: WorldTrainingConfig) -> None:
    """Train every part that is not finished, then measure them together."""
    work = ensure_writable(config.output_dir)
    assets = ensure_writable(work / "assets")
    scenes = random_scenes(config.num_scenes, config.seed)
    print(f"Drawing {config.num_scenes:,} scenes ...")
    pictures = torch.from_numpy(draw_scenes(scenes, config.seed))

    torch.manual_seed(config.seed)
    vae: AutoencoderKL = train_autoencoder(pictures, config.autoencoder, 32, work / "autoencoder")
    torch.manual_seed(config.seed + 1)
    judge: ContentJudge = train_judge(pictures, scenes, config.judge, 128, work / "judge")
    judge.save(assets / "judge.safetensors")
    torch.manual_seed(config.seed + 2)
    train_encoder(pictures, scenes, config.encoder, 128, work / "encoder", assets / "open_clip")
    latents = encode(vae, pictures)
    torch.manual_seed(config.seed + 3)
    pipeline = train_pipeline(vae, latents, scenes, config.denoiser, 96, work / "denoiser")
    ship(pipeline, assets / PIPELINE.name)
    torch.manual_seed(config.seed + 4)
    twin = train_flow_pipeline(vae, latents, scenes, config.flow_denoiser, 96, work / "flow_denoiser")
    ship(twin, assets / FLOW_PIPELINE.name)

    judge, figures = ContentJudge.load(assets / "judge.safetensors"), {}
    for name, path in PIPELINES.items():
        shipped = load_pipeline(assets / path.name)
        save_contact_sheet(sample_subjects(shipped, 96), work / f"contact_sheet_{name}.png", columns=16)
        figures[name] = measure_world(shipped, judge)
    (work / "measurements.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    run(WorldTrainingConfig, __doc__ or "", train_world)

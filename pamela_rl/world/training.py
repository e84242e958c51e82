"""The training of all models of the world, part by part, and a measurement of what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pamela_rl.diffusion.loading import load_pipeline
from pamela_rl.evaluation.contact_sheets import save_contact_sheet
from pamela_rl.storage import SHIPPED_PIPELINES, ensure_writable, make_readable
from pamela_rl.world.autoencoder import encode, train_autoencoder
from pamela_rl.world.denoiser import train_pipeline
from pamela_rl.world.encoder import train_encoder
from pamela_rl.world.flow_denoiser import train_flow_pipeline
from pamela_rl.world.image_quality import measure_image_quality, sample_subjects
from pamela_rl.world.judge import ContentJudge, train_judge
from pamela_rl.world.scenes import draw_scenes, random_scenes
from pamela_rl.world.settings import WorldSettings


def train_world(settings: WorldSettings, folder: Path) -> None:
    """Train every part that is not finished, then measure them together and print the figures.

    Args:
        settings: Lengths and rates.
        folder: Gets checkpoints, logs, ``assets/``, contact sheets and ``measurements.json``.

    Raises:
        ConfigError: ``folder`` cannot be written to.
    """
    ensure_writable(folder)
    assets = ensure_writable(folder / "assets")
    scenes = random_scenes(settings.num_scenes, settings.seed)
    print(f"Drawing {settings.num_scenes:,} scenes ...")
    drawings = torch.from_numpy(draw_scenes(scenes, settings.seed))

    torch.manual_seed(settings.seed)
    vae = train_autoencoder(drawings, settings.autoencoder, 32, folder / "autoencoder")
    torch.manual_seed(settings.seed + 1)
    train_judge(drawings, scenes, settings.judge, 128, folder / "judge").save(assets / "judge.safetensors")
    torch.manual_seed(settings.seed + 2)
    train_encoder(drawings, scenes, settings.encoder, 128, folder / "encoder", assets / "open_clip")
    latents = encode(vae, drawings)
    torch.manual_seed(settings.seed + 3)
    pipeline = train_pipeline(vae, latents, scenes, settings.denoiser, 96, folder / "denoiser")
    ship(pipeline, assets / SHIPPED_PIPELINES["world"].name)
    torch.manual_seed(settings.seed + 4)
    twin = train_flow_pipeline(vae, latents, scenes, settings.flow_denoiser, 96, folder / "flow_denoiser")
    ship(twin, assets / SHIPPED_PIPELINES["flow"].name)

    judge, figures = ContentJudge.load(assets / "judge.safetensors"), {}
    for name, path in SHIPPED_PIPELINES.items():
        shipped = load_pipeline(assets / path.name)
        save_contact_sheet(sample_subjects(shipped, 96), folder / f"contact_sheet_{name}.png", columns=16)
        figures[name] = measure_image_quality(shipped, judge)
    (folder / "measurements.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def ship(pipeline: Any, folder: Path) -> None:
    """Save in half precision, to be loaded in full: transformers loads as a config says, diffusers in fp32."""
    pipeline.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    make_readable(folder)
    for path in folder.glob("text_encoder*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n", encoding="utf-8")

"""Settings of the base model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pamela_rl.diffusion.model_files import check_model_files
from pamela_rl.errors import ConfigError

Dtype = Literal["float32", "bfloat16"]
Compile = Literal["no", "blocks", "full"]
Quantization = Literal["no", "int8", "nf4"]


@dataclass(frozen=True)
class ModelSettings:
    """The base model and how it sits in memory. Its adapter is always fp32.

    Attributes:
        name: "world", "flow" (its flow-matching twin), a hub id, a folder or a single .safetensors file.
        config: For a single file: the folder of a pipeline of the same kind, for the settings of its parts.
        dtype: Of the base model's weights.
        quantization: Keep the frozen linear layers of the denoiser's blocks as "int8" (a byte a weight) or "nf4" (QLoRA's
            four bits and a half); they compute in ``dtype``.
        height: Of the images, in pixels; None takes the model's own size.
        width: Of the images, in pixels; None takes the model's own size.
        gradient_checkpointing: Compute activations twice instead of keeping them; the same numbers.
        offload: Keep text encoders and VAE on the CPU while they are idle.
        detach_unconditional: No gradient through guidance's unconditional branch: a forward without a backward.
        compile: Compile the denoiser's repeated "blocks", which takes a minute, or all of it ("full"), which takes several; what
            is compiled is kept for later runs.
        cuda_graphs: On a card, launch each of the denoiser's calls at once instead of kernel by kernel: faster where a call is
            small, for the memory of a call of each shape.
        shard: Cut the base model over processes (FSDP2), for models that one device cannot hold.
        family: A Python file of one's own with a ``Policy`` for a pipeline that no family here knows, or instead of one.
    """

    name: str = "world"
    config: Path | None = None
    dtype: Dtype = "float32"
    quantization: Quantization = "no"
    height: int | None = None
    width: int | None = None
    gradient_checkpointing: bool = False
    offload: bool = False
    detach_unconditional: bool = False
    compile: Compile = "no"
    cuda_graphs: bool = False
    shard: bool = False
    family: Path | None = None

    def __post_init__(self) -> None:
        check_model_files(self.name, self.config)
        if self.shard and self.config is not None:
            raise ConfigError(
                "model.shard is true but model.name is a single file, of which a process cannot read a share; save it as a folder "
                "with save_pretrained first."
            )
        graphs, compiled = self.cuda_graphs, self.compile != "no"
        for both, names in (
            (graphs and self.gradient_checkpointing, "model.cuda_graphs and model.gradient_checkpointing"),
            (graphs and self.shard, "model.cuda_graphs and model.shard"),
            (compiled and self.shard, "model.compile and model.shard"),
            (self.quantization != "no" and self.shard, "model.quantization and model.shard"),
        ):
            if both:
                raise ConfigError(f"{names} are set, but the one rules out the other; choose one.")
        if self.family is not None and not self.family.is_file():
            raise ConfigError(f"model.family is {str(self.family)!r}, but there is no such file.")

"""Readers of rating datasets: each layout is read into ``RatedImages``. Imports data and the nouns."""

from pamela_rl.data.sources.flickr_aes import read_flickr_aes
from pamela_rl.data.sources.folder import read_folder
from pamela_rl.data.sources.hf_datasets import read_hf_dataset
from pamela_rl.data.sources.lapis import read_lapis
from pamela_rl.data.sources.pamela import read_pamela
from pamela_rl.data.sources.para import read_para
from pamela_rl.data.sources.rated_images import RatedImages

__all__ = [
    "RatedImages",
    "read_flickr_aes",
    "read_folder",
    "read_hf_dataset",
    "read_lapis",
    "read_pamela",
    "read_para",
]

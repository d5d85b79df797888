"""The codec that a name stands for: one of ``cosmos_tokenizer``, or Wan's, which Predict2 and 2.5 use (``wan``)."""

import json
from pathlib import Path

import torch

import cosmos_tokenizer
from cosmos_diffusion.config import Prediction
from cosmos_diffusion.diffusers_layout import CONFIG_FILE
from cosmos_diffusion.sources import Source
from cosmos_diffusion.wan import CLASS, FOLDER, WanCodec
from cosmos_tokenizer import ContinuousCodec, hub


def load_codec(source: Source, *, prediction: Prediction, dtype: torch.dtype | None = None) -> ContinuousCodec:
    """A codec in eval mode on the CPU.

    Args:
        source: folder of diffusers' ``AutoencoderKLWan``, or a pipeline's with one in ``vae``; or what
            ``cosmos_tokenizer.load`` takes. A hub id stands for a pipeline with Wan's codec where the world model is no
            EDM and the id is none of the released tokenizers'.
        prediction: ``DiTConfig.prediction`` of the world model.
        dtype: of the weights; by default that of the file.

    Raises:
        InputError: there is nothing of that name, or it cannot be loaded.
        OSError: a file cannot be read.
    """
    if _is_wan(source, prediction):
        return WanCodec.load(source, dtype=dtype)
    return cosmos_tokenizer.load(source, dtype=dtype).fold()


def what_to_give(prediction: Prediction) -> str:
    """Names of codecs for a world model of a kind that names none."""
    if prediction == "edm":
        return "nano-cv8x8x8, or a file, folder or hub id of a CV tokenizer"
    return f"nvidia/Cosmos-Predict2-2B-Video2World, or a folder of diffusers' {CLASS}"


def _is_wan(source: Source, prediction: Prediction) -> bool:
    path, name = Path(source), str(source)
    if path.is_dir():
        return any(_class_of(folder / CONFIG_FILE) == CLASS for folder in (path, path / FOLDER))
    if path.exists() or prediction == "edm" or name in cosmos_tokenizer.PRESETS:
        return False
    return "/" in name and hub.preset_of(name) is None


def _class_of(config: Path) -> object:
    """``_class_name`` of a config of diffusers; None where there is no such file, or it says none."""
    try:
        fields = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):  # whoever loads it says what is wrong
        return None
    return fields.get("_class_name") if isinstance(fields, dict) else None

"""Checkpoints of the Hugging Face hub (extra ``hub``), and which network the released repositories hold."""

from pathlib import Path

from cosmos_tokenizer.config import TokenizerConfig
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.presets import PRESETS

# Whole paths only: a pipeline repository also holds gigabytes of other safetensors. Of NVIDIA's three TorchScript files
# the one with both halves is enough.
_WANTED = (
    "autoencoder.jit",
    "mean_std.pt",
    "config.json",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
# Release (the suffix of a preset's name) to the repositories that hold it.
_REPOSITORIES = {
    "0.1": ("nvidia/Cosmos-0.1-Tokenizer-{}", "nvidia/Cosmos-Tokenizer-{}"),
    "360p": ("nvidia/Cosmos-Tokenize1-{}-360p",),
    "720p": ("nvidia/Cosmos-Tokenize1-{}-720p", "nvidia/Cosmos-1.0-Tokenizer-{}"),
}


def preset_of(repository: str) -> TokenizerConfig | None:
    """Config of a released repository; None for any other."""
    for name, config in PRESETS.items():
        net, _, release = name.rpartition("-")
        # cv8x8x8 is CV8x8x8 there: the crosses stay small.
        published = net[:2].upper() + net[2:]
        if repository in (pattern.format(published) for pattern in _REPOSITORIES.get(release, ())):
            return config
    return None


def download(repository: str) -> Path:
    """Folder with the checkpoint files of a repository, from the local cache where it has them.

    Raises:
        InputError: the extra is not installed, or the hub has no such repository or cannot be reached.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise InputError(
            f"there is no file or folder {repository}, and to fetch it from the hub huggingface_hub is needed: "
            'pip install "cosmos-tokenizer[hub]"'
        ) from error
    try:
        return Path(snapshot_download(repository, allow_patterns=list(_WANTED)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"there is no file or folder {repository}, and the hub did not give such a repository: {reason}"
        ) from error

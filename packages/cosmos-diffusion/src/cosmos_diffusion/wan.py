"""Wan 2.1's video codec (arXiv 2503.20314, section 4.1), which Predict2 and 2.5 use, through diffusers (extra ``wan``).

It is a causal autoencoder of another family: 4 frames of 8 by 8 pixels to a latent of 16 channels.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_diffusion import weight_files
from cosmos_diffusion.cropping import check_crop, cropped
from cosmos_diffusion.diffusers_layout import CONFIG_FILE, WEIGHTS_FILE
from cosmos_diffusion.sources import GROUPS, Source
from cosmos_tokenizer import Geometry, InputError, LatentStatistics, hub
from cosmos_tokenizer.devices import available_device
from cosmos_tokenizer.slots import Slot, take

CLASS = "AutoencoderKLWan"
FOLDER = "vae"
_TEMPORAL = 4
"""Frames that diffusers' class takes at a time, whatever its config says."""
_FIELDS = ("z_dim", "dim_mult", "temperal_downsample", "latents_mean", "latents_std")


class WanCodec(nn.Module):
    """A ``cosmos_tokenizer.ContinuousCodec`` over diffusers' ``AutoencoderKLWan``.

    Any clip of at least one frame and 16 pixels a side works: it is extended to ``1 + 4 k`` frames and whole cells by
    repeating its last frame, bottom row and right column. Clips go through it four frames at a time. ``vae`` is
    diffusers' own: its ``enable_tiling()`` bounds the memory of large frames, and is an approximation.

    Latents come normalised by the autoencoder's own mean and deviation of each channel, as Predict2 takes them;
    ``statistics`` are therefore 0 and 1.

    Args:
        vae: an ``AutoencoderKLWan``.

    Raises:
        InputError: it is another autoencoder, or compresses time by another factor than 4.
    """

    statistics: LatentStatistics

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        config: Any = getattr(vae, "config", None)
        if any(not hasattr(config, name) for name in _FIELDS):
            raise InputError(f"{type(vae).__name__}: is no {CLASS} of diffusers")
        temporal = 2 ** sum(config.temperal_downsample)
        if temporal != _TEMPORAL:
            raise InputError(f"the autoencoder takes {temporal} frames to one: only those of {_TEMPORAL} run")
        spatial = 2 ** (len(config.dim_mult) - 1) * (getattr(config, "patch_size", None) or 1)
        self.vae: Any = vae
        self.latent_channels = int(config.z_dim)
        self._geometry = Geometry(temporal=temporal, spatial=spatial)
        mean, std = (torch.tensor(values)[:, None] for values in (config.latents_mean, config.latents_std))
        self._channels = LatentStatistics(mean, std)
        self.statistics = LatentStatistics(torch.zeros_like(mean), torch.ones_like(std))

    @classmethod
    def load(
        cls, source: Source, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
    ) -> "WanCodec":
        """The codec of a checkpoint, in eval mode.

        Args:
            source: diffusers' folder of an ``AutoencoderKLWan``, or a pipeline's with one in ``vae``; or a hub id of
                either, such as ``nvidia/Cosmos-Predict2-2B-Video2World``.
            device: where to put the weights.
            dtype: of the weights, in which it runs; by default that of the file.

        Raises:
            InputError: diffusers is not installed; no such folder or repository; another network; a truncated or
                damaged file, or a key that is missing, unexpected, misshapen or holds NaN; no such device.
            OSError: a file cannot be read.
        """
        library, target = _diffusers(), available_device(device)
        folder = Path(source)
        if not folder.is_dir():
            folder = hub.download(
                str(source), GROUPS[1:3], subfolder=f"{FOLDER}/", beside=(CONFIG_FILE,), package="cosmos-diffusion"
            )
        folder = folder / FOLDER if (folder / FOLDER).is_dir() else folder
        fields = _read_config(folder / CONFIG_FILE)
        try:
            with torch.device("meta"):
                vae = library.AutoencoderKLWan.from_config(fields)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{folder / CONFIG_FILE}: describes no {CLASS}: {str(error).splitlines()[0]}") from error
        vae.load_state_dict(_read_weights(folder, vae.state_dict(), dtype), assign=True)
        return cls(vae).to(target).eval()

    @property
    def geometry(self) -> Geometry:
        """Frames and sizes of clips against those of latents."""
        return self._geometry

    @property
    def dtype(self) -> torch.dtype:
        """dtype of the weights, in which the network runs."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def encode(self, video: Float[Tensor, "B 3 T H W"], /) -> Float[Tensor, "B C t h w"]:
        """Clip in [-1, 1] to latents, in the dtype of the weights: the mode of the posterior, normalised.

        Raises:
            InputError: the clip has another shape, too small sides, or holds integers.
        """
        shape = tuple(video.shape)
        if video.dim() != 5 or shape[1] != 3 or not shape[0]:
            raise InputError(f"the clip has shape {shape}: this codec takes B x 3 x T x H x W")
        if not video.is_floating_point():
            raise InputError(f"the clip is {video.dtype}: scale it to floats in [-1, 1]")
        rows, columns = self.geometry.padded_size(*shape[3:])
        missing = (0, columns - shape[4], 0, rows - shape[3], 0, self.geometry.padded_frames(shape[2]) - shape[2])
        clip = F.pad(video.to(self.dtype), missing, mode="replicate")
        return self._channels.normalize(self.vae.encode(clip).latent_dist.mode())

    def decode(
        self, tokens: Float[Tensor, "B C t h w"], /, *, frames: int | None = None, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "B 3 T H W"]:
        """Normalised latents to a clip in [-1, 1], in the dtype of the weights, cut to ``frames`` and ``size``.

        Raises:
            InputError: the latents have another shape or are no floats, or ``frames`` or ``size`` do not belong to
                them.
        """
        shape = tuple(tokens.shape)
        if tokens.dim() != 5 or shape[1] != self.latent_channels or not tokens.numel():
            raise InputError(f"latents have shape {shape}: this codec takes B x {self.latent_channels} x t x h x w")
        if not tokens.is_floating_point():
            raise InputError(f"got indices ({tokens.dtype}), but this codec is continuous")
        check_crop(self.geometry, (shape[2], shape[3], shape[4]), frames=frames, size=size)
        return cropped(
            self.vae.decode(self._channels.denormalize(tokens.to(self.dtype))).sample, frames=frames, size=size
        )


def _diffusers() -> Any:  # noqa: ANN401 - a package that may be absent
    try:
        return import_module("diffusers")
    except ImportError as error:
        raise InputError('the codec of Predict2 needs diffusers: pip install "cosmos-diffusion[wan]"') from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path.parent}: holds no {path.name}, as a folder of diffusers' {CLASS} does") from error
    except ValueError as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    name = fields.get("_class_name") if isinstance(fields, dict) else None
    if name != CLASS:
        raise InputError(f"{path}: has _class_name {name!r}, and the codec of Predict2 is {CLASS}")
    return fields


def _read_weights(folder: Path, places: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    files = [folder / name for name in (WEIGHTS_FILE, WEIGHTS_FILE + weight_files.INDEX) if (folder / name).is_file()]
    if not files:
        raise InputError(f"{folder}: holds no {WEIGHTS_FILE}, nor its shards")
    try:
        weights, _ = weight_files.read(files[0])
        slots = {name: Slot(name, tuple(value.shape), tuple(value.shape)) for name, value in places.items()}
        state = take(weights, slots)
    except InputError as error:
        raise InputError(f"{files[0]}: {error}") from error
    return {name: value if dtype is None else value.to(dtype) for name, value in state.items()}

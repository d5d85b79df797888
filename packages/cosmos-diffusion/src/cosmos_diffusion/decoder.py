"""The diffusion decoder (arXiv 2501.03575, section 5.2.5): discrete tokens to video, by a diffusion model of latents.

A token of dv8x16x16 stands for 2048 pixels, and the tokenizer's own decoder blurs what it does not say. Here a world
model that sees the tokens (``DiTConfig.token_channels``) generates latents of cv8x8x8, whose decoder is sharp.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

import cosmos_tokenizer
from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.checkpoint import load as load_world
from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.cropping import check_crop, cropped
from cosmos_diffusion.domains import Domains
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.noise import gaussian
from cosmos_diffusion.residency import Residency
from cosmos_diffusion.samplers import Denoise, euler
from cosmos_diffusion.sigmas import karras
from cosmos_diffusion.sources import Source, find
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import ContinuousCodec, Geometry, InputError, hub, tensor_files

SIGMA_MIN = 0.02
"""Level before the last step, which leads to 0: ten times that of the world models, which start from nothing."""
TEXT_FILE = "aux_vars.pt"
"""What the released decoder is told where there is no prompt, beside its weights."""
_TEXT_KEY = "context"


class DiffusionDecoder:
    """Decodes tokens as a ``cosmos_tokenizer.DiscreteCodec`` does; in place of the tokenizer's own decoder.

    A network that was trained on clips of one length sees longer ones in windows of that length, each a clip of its
    own, and their pixels are cross-faded where they overlap. Windows draw the same noise for a latent frame that both
    have. The last window ends where the clip ends; a clip shorter than a window is continued by its mirror image.
    A clip of several windows is put together in its own time here: the original fades over two frames, whatever the
    overlap is, so that its windows come too late by 7 frames each.

    Args:
        world: a network with ``token_channels``.
        codec: of the latents that it generates.
        domains: scale of those latents; by default the world model's own, or the codec's statistics.
        text: what the network is told where :meth:`decode` is given no prompt; zeros, which are no text, by default.
        spatial: pixels a side that one token covers.
        window: latent frames that the network was trained on: 8 of the released one, 57 frames.
        overlap: latent frames that two windows share at least.
        residency: lets network and codec take turns on its device; None where both are in place.

    Raises:
        InputError: the network takes no tokens, does not fit the codec, or nobody knows the scale of its latents; the
            window or the overlap is out of range.
    """

    def __init__(
        self,
        world: WorldModel,
        codec: ContinuousCodec,
        *,
        domains: Domains | None = None,
        text: Float[Tensor, "1 S K"] | None = None,
        spatial: int = 16,
        window: int = 8,
        overlap: int = 2,
        residency: Residency | None = None,
    ) -> None:
        config = world.config
        if not config.token_channels:
            raise InputError("the network takes no tokens: a diffusion decoder is a network with token_channels")
        if not 1 <= overlap < window <= config.grid[0]:
            raise InputError(
                f"window is {window} and overlap {overlap} latent frames: give 1 <= overlap < window <= "
                f"{config.grid[0]}, the most that this network takes"
            )
        if spatial % codec.geometry.spatial:
            raise InputError(
                f"spatial is {spatial}: give a multiple of {codec.geometry.spatial}, as a latent of the codec covers"
            )
        self.world, self.codec, self.text = world, codec, text
        self.domains = _scale(world, codec) if domains is None else domains
        if self.domains.video.mean.shape[0] != config.latent_channels:
            raise InputError(
                f"the statistics are of {self.domains.video.mean.shape[0]} channels, and the network generates "
                f"{config.latent_channels}: give the codec that it was trained with"
            )
        self.geometry = Geometry(temporal=codec.geometry.temporal, spatial=spatial)
        self.window, self.overlap = window, overlap
        self._residency = residency

    @classmethod
    def load(
        cls,
        source: Source,
        *,
        codec: ContinuousCodec | str | Path | None = None,
        text: Float[Tensor, "1 S K"] | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        config: str | DiTConfig | None = None,
    ) -> "DiffusionDecoder":
        """Decoder of a checkpoint and the codec of its latents.

        Args:
            source: as ``cosmos_diffusion.load`` takes it. Where a file ``aux_vars.pt`` lies beside the weights, as
                NVIDIA publishes it, it is what the network is told where there is no prompt.
            codec: the codec, or what ``cosmos_tokenizer.load`` takes; by default the one that the world model names.
            text: in place of that file.
            device, dtype, config: as for ``cosmos_diffusion.load``; ``device`` and ``dtype`` of a codec that is loaded
                here, too.

        Raises:
            InputError: as for ``cosmos_diffusion.load``, ``cosmos_tokenizer.load`` and the class.
        """
        world = load_world(source, device=device, dtype=dtype, config=config)
        if not world.config.token_channels:
            raise InputError(f"{source}: takes no tokens, and so is no diffusion decoder")
        if not isinstance(codec, ContinuousCodec):
            name = world.defaults.tokenizer if codec is None else codec
            if name is None:
                raise InputError(f"{source}: does not name the tokenizer of its latents: give codec")
            codec = cosmos_tokenizer.load(name, device=device, dtype=dtype)
        return cls(world, codec, text=_stored_text(source) if text is None else text)

    @torch.no_grad()
    def decode(
        self,
        tokens: Int[Tensor, "B t h w"],
        /,
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        seed: int = 0,
        steps: int = 15,
        guidance: Guidance | int | float = 1.8,
        text: Float[Tensor, "#B S K"] | None = None,
        fps: int | float = 24,
        mirror: bool = True,
    ) -> Float[Tensor, "B 3 T H W"]:
        """The clip, about [-1, 1] and not clamped; deterministic.

        Args:
            tokens: indices of the discrete tokenizer, of any length.
            frames, size: frames and (height, width) of the clip that was encoded; they cut off what was padded.
            seed: of the first clip; each next one has the next, so that it does not depend on the batch.
            steps: evaluations of the network for each window, of both predictions together.
            guidance: a number is the weight of ``cond + weight (cond - uncond)``. The network is driven away from
                what it says without text and with 0 for every token, as it was trained; 0 for none.
            text: embeddings of the prompt; by default what the decoder was made with.
            fps: of the video.
            mirror: continue a clip shorter than a window to the length that the network was trained on. Without, 5
                latent frames cost about half as much, at a length that the network has not seen.

        Raises:
            InputError: the tokens are no indices of the network's, their grid or the text does not fit it, ``frames``
                or ``size`` do not belong to them, or the number of steps is out of range.
        """
        self._check(tokens, frames, size)
        levels = karras(steps, sigma_min=SIGMA_MIN)
        guided = guidance if isinstance(guidance, Guidance) else Guidance(weight=guidance)
        length = tokens.shape[1]
        shown = tokens[:, _mirrored(length, self.window if mirror else 0)]
        starts = self._starts(shown.shape[1])
        noise = levels[0].item() * self._noise(shown, seed)
        with self._in_place(self.world):
            device = self.world.net.device
            context, shown, noise = self._context(text, len(tokens)).to(device), shown.to(device), noise.to(device)
            parts = [slice(start, start + self.window) for start in starts]
            windows = [
                euler(self._denoise(shown[:, part], context, guided, fps), noise[:, :, part], levels) for part in parts
            ]
        with self._in_place(self.codec):
            video = self._joined(starts, windows)
        return cropped(video, frames=frames or self.geometry.frames(length), size=size)

    def _denoise(self, tokens: Tensor, text: Tensor, guidance: Guidance, fps: int | float) -> Denoise:
        """Guided away from no text and token 0 everywhere; both predictions are one batch, its second half without."""

        @cache
        def denoiser(guided: bool) -> Denoise:  # made when first asked for: it holds keys and values of the text
            texts = torch.cat([text, torch.zeros_like(text)]) if guided else text
            shown = torch.cat([tokens, torch.zeros_like(tokens)]) if guided else tokens
            return self.world.denoiser(texts, guidance=0, fps=fps, conditions=Conditions(tokens=shown))

        def denoise(x: Tensor, sigma: float) -> Tensor:
            if not guidance.acts(sigma):
                return denoiser(False)(x, sigma)
            return guidance(*denoiser(True)(x.repeat(2, 1, 1, 1, 1), sigma).chunk(2))

        return denoise

    def _in_place(self, component: object) -> AbstractContextManager[object]:
        return nullcontext() if self._residency is None else self._residency.hold(component)

    def _noise(self, tokens: Tensor, seed: int) -> Float[Tensor, "B C t Y X"]:
        """Unit variance, on the CPU, each clip's from a seed of its own, whatever device the network is on."""
        zoom = self.geometry.spatial // self.codec.geometry.spatial
        _, frames, rows, columns = tokens.shape
        shape = (self.world.config.latent_channels, frames, rows * zoom, columns * zoom)
        clips = [gaussian(shape, generator=torch.Generator().manual_seed(seed + index)) for index in range(len(tokens))]
        return torch.stack(clips)

    def _context(self, text: Tensor | None, batch: int) -> Float[Tensor, "B S K"]:
        config = self.world.config
        text = self.text if text is None else text
        if text is None:
            text = torch.zeros(1, config.text_length, config.text_projection or config.text_width)
        if len(text) not in (1, batch):
            raise InputError(
                f"text is of {len(text)} clips and the tokens of {batch}: give one for each, or one for all"
            )
        return text.expand(batch, -1, -1)

    def _starts(self, length: int) -> list[int]:
        """First latent frames of the windows."""
        last = max(0, length - self.window)
        return [*range(0, last, self.window - self.overlap), last]

    def _joined(self, starts: Sequence[int], windows: Sequence[Tensor]) -> Float[Tensor, "B 3 T H W"]:
        """The windows decoded, and cross-faded over the last frames that the ones before reach."""
        video = self._decoded(windows[0])
        fade = self.geometry.frames(self.overlap)
        for start, window in zip(starts[1:], windows[1:], strict=True):
            clip = self._decoded(window)[:, :, video.shape[2] - fade - self.geometry.temporal * start :]
            ramp = torch.linspace(0, 1, fade, device=clip.device, dtype=clip.dtype)[:, None, None]
            seam = torch.lerp(video[:, :, -fade:], clip[:, :, :fade], ramp)
            video = torch.cat([video[:, :, :-fade], seam, clip[:, :, fade:]], dim=2)
        return video

    def _decoded(self, data: Tensor) -> Tensor:
        """One window; the statistics may lie on another device than the codec and the network."""
        latents = self.domains.to_latents(data.to(self.domains.video.mean.device))
        return self.codec.decode(latents.to(getattr(self.codec, "device", latents.device)))

    def _check(self, tokens: Tensor, frames: int | None, size: tuple[int, int] | None) -> None:
        shape = tuple(tokens.shape)
        if tokens.dim() != 4 or not tokens.numel():
            raise InputError(f"tokens have shape {shape}: this decoder takes B x t x h x w")
        if tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise InputError(f"tokens are {tokens.dtype}: this decoder takes indices, which are whole numbers")
        low, high, codes = int(tokens.min()), int(tokens.max()), self.world.config.token_codes
        if low < 0 or high >= codes:
            raise InputError(
                f"token {low if low < 0 else high} is out of range: this decoder's run from 0 to {codes - 1}; give "
                "tokens of the tokenizer that it was trained on"
            )
        check_crop(self.geometry, (shape[1], shape[2], shape[3]), frames=frames, size=size)


def _scale(world: WorldModel, codec: ContinuousCodec) -> Domains:
    if world.domains is not None:
        return world.domains
    statistics = getattr(codec, "statistics", None)
    if statistics is None:
        raise InputError("neither the network nor its codec carries statistics of the latents: give domains")
    return Domains(video=statistics, picture=statistics, sigma_data=world.preconditioning.sigma_data)


def _mirrored(length: int, least: int) -> list[int]:
    """Frames of a clip and, up to ``least``, of its mirror image behind it, and so on."""
    period = max(1, 2 * (length - 1))
    return [min(index % period, period - index % period) for index in range(max(length, least))]


def _stored_text(source: Source) -> Float[Tensor, "1 S K"] | None:
    path = find(source).with_name(TEXT_FILE)
    if not path.is_file() and "/" in str(source) and not Path(source).exists():
        try:
            path = hub.download(str(source), ((TEXT_FILE,),), package="cosmos-diffusion") / TEXT_FILE
        except InputError as error:
            raise InputError(f"{error}; or give text, the embedding of a general prompt") from error
    if not path.is_file():
        return None
    try:
        tensors, _ = tensor_files.read(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if _TEXT_KEY not in tensors or tensors[_TEXT_KEY].dim() != 3 or len(tensors[_TEXT_KEY]) != 1:
        raise InputError(f"{path}: holds no {_TEXT_KEY}, the embedding of one prompt (1 x S x K)")
    return tensors[_TEXT_KEY]

"""Clips through the codec: given frames to latents at the scale of the data, and latents to a clip that begins so."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.domains import Domains
from cosmos_tokenizer import ContinuousCodec, Geometry, InputError, LatentStatistics

_MOST_LATENTS = 2
"""Latent frames that the released networks were trained to be given: 9 frames of their codec."""
_ROOM = 1e-3
_SMALLEST = 16


def frames_to_give(available: int, asked: int | None, geometry: Geometry, frames: int) -> int:
    """How many of the last frames of a video a clip of so many frames begins with.

    Args:
        available: frames of the video.
        asked: how many to give, or None for the most that there are, up to 9 (2 latent frames).
        geometry: of the codec.
        frames: of the clip.

    Raises:
        InputError: no frames, fewer than are asked for, not 1 + a multiple of 8, or nothing of the clip is left.
    """
    if available < 1:
        raise InputError("the video has no frames: give one frame or more to go on from")
    unit = geometry.temporal
    if asked is None:
        latents = min(1 + (available - 1) // unit, _MOST_LATENTS, max(1, geometry.latent_frames(frames) - 1))
        asked = geometry.frames(latents)
    if asked < 1 or (asked - 1) % unit:
        near = geometry.frames(1 + max(0, asked - 1) // unit)
        raise InputError(f"condition_frames is {asked}: give 1 + a multiple of {unit}, such as {near} or {near + unit}")
    if asked > available:
        raise InputError(f"condition_frames is {asked}, and the video has {available}: give fewer, or a longer video")
    if asked >= frames == 1:
        raise InputError("frames is 1, and that one is given: a single picture is frames 1 without a video or an image")
    if asked >= frames:
        raise InputError(f"frames is {frames}, and {asked} of them are given: make a longer clip, or give fewer frames")
    return asked


def resized(video: Float[Tensor, "B 3 T Y X"], height: int, width: int) -> Float[Tensor, "B 3 T {height} {width}"]:
    """Frames brought to a size as the reference does it, bicubic and without regard to their aspect ratio.

    Where it shrinks, it takes the mean over what a pixel covers; frames of that size already come back as they are.
    """
    if video.shape[3:] == (height, width):
        return video
    flat = rearrange(video, "b c t h w -> (b t) c h w")
    small = F.interpolate(flat, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return rearrange(small.clamp(-1, 1), "(b t) c h w -> b c t h w", b=len(video))


def checked_video(video: Float[Tensor, "B 3 T H W"], views: int) -> Float[Tensor, "B 3 T H W"]:
    """It, in float32.

    Raises:
        InputError: it is not in [-1, 1], holds nothing, or its frames do not divide into the views.
    """
    if not video.numel() or video.shape[2] % views:
        raise InputError(f"the video has shape {tuple(video.shape)}: give frames, as many of each of {views} views")
    low, high = (float(end) for end in video.aminmax())
    if not (low >= -1 - _ROOM and high <= 1 + _ROOM):  # NaN too
        raise InputError(f"the video has values from {low:.4g} to {high:.4g}: bring them to [-1, 1]")
    return video.float()


def last_frames(video: Float[Tensor, "B 3 T H W"], count: int, *, views: int) -> Float[Tensor, "B 3 K H W"]:
    """The last ``count`` frames of each view."""
    return rearrange(video, "b c (v t) h w -> b c v t h w", v=views)[:, :, :, -count:].flatten(2, 3)


def to_data(
    codec: ContinuousCodec, domains: Domains, video: Float[Tensor, "1 3 T H W"], *, views: int
) -> Float[Tensor, "1 C t h w"]:
    """Latents of one clip at the scale of the data, in float32; views are encoded one by one.

    Frames to come are not needed: no latent frame of a causal codec depends on them.
    """
    parts = [domains.to_data(codec.encode(view).to(domains.video.mean)) for view in video.chunk(views, dim=2)]
    return torch.cat(parts, dim=2)


def to_video(
    codec: ContinuousCodec,
    domains: Domains,
    data: Float[Tensor, "1 C t h w"],
    given: Float[Tensor, "1 3 K H W"] | None,
    *,
    frames: int,
    size: tuple[int, int],
    views: int,
    picture: bool,
) -> Float[Tensor, "1 3 T H W"]:
    """The clip of some latents, in [-1, 1] and float32; each view begins with its given frames, bit for bit."""
    parts = []
    for index, view in enumerate(data.chunk(views, dim=2)):
        decoded = codec.decode(domains.to_latents(view, picture=picture), frames=frames, size=size)
        decoded = decoded.float().clamp(-1, 1)
        if given is not None:
            begin = given.chunk(views, dim=2)[index].to(decoded)
            decoded = torch.cat([begin, decoded[:, :, begin.shape[2] :]], dim=2)
        parts.append(decoded)
    return torch.cat(parts, dim=2)


def statistics_of(codec: ContinuousCodec, sigma_data: float) -> Domains:
    """Those that a codec carries, for videos and, where it has no others, for pictures.

    Raises:
        InputError: it carries none.
    """
    statistics = getattr(codec, "statistics", None)
    if not isinstance(statistics, LatentStatistics):
        raise InputError(
            "neither the model nor the tokenizer says what mean and deviation its latents have: give domains, or a "
            "tokenizer with statistics (mean_std.pt beside NVIDIA's files)"
        )
    return Domains(video=statistics, picture=statistics, sigma_data=sigma_data)


def check_codec_fits(codec: ContinuousCodec, channels: int, device: torch.device) -> None:
    """Raise where the latents of a codec are not those of a network.

    Raises:
        InputError: the codec is discrete, or has another number of channels.
    """
    z = codec.encode(torch.zeros(1, 3, 1, _SMALLEST, _SMALLEST, device=device))
    if not z.is_floating_point():
        raise InputError("the tokenizer is discrete, and a diffusion model speaks of continuous latents: use a CV one")
    if z.shape[1] != channels:
        raise InputError(
            f"the tokenizer has {z.shape[1]} channels, and the network takes {channels}: give the one of its training"
        )


def check_domains_fit(domains: Domains, channels: int) -> None:
    """Raise where statistics are of other latents than a network's.

    Raises:
        InputError: they are of another number of channels.
    """
    for statistics in (domains.video, domains.picture):
        if statistics.mean.shape[0] != channels:
            raise InputError(
                f"statistics are of latents of {statistics.mean.shape[0]} channels, and the network takes {channels}"
            )

"""What a token sees beside the latents, as channels beside theirs, in the released nets' order (sections 5.1, 6)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.nn import Linear
from cosmos_tokenizer import InputError

TRAJECTORY_NUMBERS = 192
"""64 points of three coordinates."""
REPEATS = 10
"""Frame repeats are given to the network in units of so many."""


class Conditions(NamedTuple):
    """What a network may be told of a clip. Of views, ``T`` counts the frames of all, one view behind another.

    condition_mask: 1 where a latent is given, 0 where it is to be found; none is given by default.
    padding_mask: 1 where a pixel is padding, in any resolution; nothing is by default.
    camera: Plücker rays (direction, moment) at the resolution of the latents; zeros by default.
    tokens: indices of a discrete tokenizer with as many latent frames.
    action: of the robot.
    views: which view each is; by default those that the network knows, in turn.
    repeats: frame repeats of each view.
    trajectory: 64 points ahead, in three coordinates.
    """

    condition_mask: Float[Tensor, "B 1 T H W"] | None = None
    padding_mask: Float[Tensor, "#B 1 Y X"] | None = None
    camera: Float[Tensor, "B 6 T H W"] | None = None
    tokens: Int[Tensor, "B T h w"] | None = None
    action: Float[Tensor, "B A"] | None = None
    views: Int[Tensor, "B V"] | None = None
    repeats: Float[Tensor, "B V"] | None = None
    trajectory: Float[Tensor, "B 64 3"] | None = None

    def check(self, config: DiTConfig) -> None:
        """Raise where the network has no place for something given, or lacks what it cannot do without.

        Raises:
            InputError: naming it.
        """
        takes = {
            "condition_mask": config.condition_mask,
            "padding_mask": config.padding_mask,
            "camera": config.camera_channels,
            "tokens": config.token_channels,
            "action": config.action_numbers,
            "views": config.views,
            "repeats": config.views,
            "trajectory": config.trajectory_channels,
        }
        for name, value in self._asdict().items():
            if value is not None and not takes[name]:
                raise InputError(f"{name} is given, and this network has no place for it: leave it out")
        if config.token_channels and self.tokens is None:
            raise InputError("tokens are missing: this network is a decoder of discrete tokens")

    def check_shapes(self, config: DiTConfig, latents: Float[Tensor, "B C T H W"], views: int) -> None:
        """Raise where something given does not fit the latents; ``views`` stand one behind another in time.

        Raises:
            InputError: naming it, and the shape that fits.
        """
        batch, _, *sizes = latents.shape
        fitting: dict[str, tuple[int | str, ...]] = {
            "condition_mask": (batch, 1, *sizes),
            "padding_mask": ("1 or B", 1, "rows", "columns"),
            "camera": (batch, config.camera_channels, *sizes),
            "tokens": (batch, sizes[0], "rows", "columns"),
            "action": (batch, config.action_numbers),
            "views": (batch, views),
            "repeats": (batch, views),
            "trajectory": (batch, TRAJECTORY_NUMBERS // 3, 3),
        }
        for name, value in self._asdict().items():
            if value is None:
                continue
            fits = len(value.shape) == len(fitting[name]) and all(
                isinstance(wanted, str) or size == wanted
                for size, wanted in zip(value.shape, fitting[name], strict=True)
            )
            if not fits or (name == "padding_mask" and value.shape[0] not in (1, batch)):
                wanted = " x ".join(map(str, fitting[name]))
                raise InputError(f"{name} has shape {tuple(value.shape)}: give {wanted} beside these latents")


class InputChannels(nn.Module):
    """Latents, condition mask, camera, tokens, padding mask, view and trajectory, as far as the network has them."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.token_codes, config.token_channels) if config.token_channels else None
        if self.tokens is not None:
            nn.init.zeros_(self.tokens.weight)
        self.views = nn.Embedding(config.views, config.view_channels) if config.views else None
        self.repeats = Linear(1, config.view_channels, bias=True) if config.views else None
        path = config.trajectory_channels
        self.trajectory = Linear(TRAJECTORY_NUMBERS, path, bias=True) if path else None

    def forward(self, x_BCTHW: Float[Tensor, "B C T H W"], given: Conditions, views: int) -> Float[Tensor, "B D T H W"]:
        """All channels, in the dtype of the latents; ``views`` stand one behind another in time.

        Raises:
            InputError: something given does not fit the latents.
        """
        given.check_shapes(self.config, x_BCTHW, views)
        batch, _, frames, rows, columns = x_BCTHW.shape
        parts = [x_BCTHW]
        if self.config.condition_mask:
            parts.append(_given(given.condition_mask, x_BCTHW, 1))
        if self.config.camera_channels:
            parts.append(_given(given.camera, x_BCTHW, self.config.camera_channels))
        if self.tokens is not None:
            assert given.tokens is not None
            e = rearrange(self.tokens(given.tokens), "b t h w c -> (b t) c h w")
            e = F.interpolate(e, size=(rows, columns), mode="bilinear", align_corners=False)
            parts.append(rearrange(e, "(b t) c h w -> b c t h w", b=batch))
        if self.config.padding_mask:
            mask = given.padding_mask
            mask = x_BCTHW.new_zeros(1, 1, rows, columns) if mask is None else mask.to(x_BCTHW)
            mask = F.interpolate(mask, size=(rows, columns), mode="nearest")
            parts.append(mask[:, :, None].expand(batch, -1, frames, -1, -1))
        if self.views is not None:
            parts.append(self._view_channels(given, views, x_BCTHW))
        if self.trajectory is not None and given.trajectory is not None:
            path_BC = self.trajectory(given.trajectory.to(x_BCTHW).flatten(1))
            parts.append(path_BC[:, :, None, None, None].expand(-1, -1, frames, rows, columns))
        elif self.trajectory is not None:
            parts.append(x_BCTHW.new_zeros(batch, self.config.trajectory_channels, frames, rows, columns))
        return torch.cat([part.to(x_BCTHW.dtype) for part in parts], dim=1)

    def _view_channels(self, given: Conditions, views: int, x_BCTHW: Tensor) -> Tensor:
        assert self.views is not None
        assert self.repeats is not None
        batch, _, frames, rows, columns = x_BCTHW.shape
        which = given.views
        if which is None:
            which = torch.arange(views, device=x_BCTHW.device).expand(batch, -1)
        e_BVC = self.views(which)
        if given.repeats is not None:
            e_BVC = e_BVC + self.repeats((given.repeats / REPEATS)[..., None].to(e_BVC.dtype))
        e_BCT = rearrange(e_BVC, "b v c -> b c v").repeat_interleave(frames // views, dim=2)
        return e_BCT[..., None, None].expand(-1, -1, -1, rows, columns)


def _given(value: Tensor | None, x_BCTHW: Tensor, channels: int) -> Tensor:
    """It, or zeros."""
    batch, _, frames, rows, columns = x_BCTHW.shape
    return x_BCTHW.new_zeros(batch, channels, frames, rows, columns) if value is None else value

"""From the network's raw output to a clean clip: once, or for a sampler with all prepared that no step changes."""

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.block import KeysValues
from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.conditioning import Given
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.network import DiT, Level, Text
from cosmos_diffusion.preconditioning import Preconditioning
from cosmos_tokenizer import InputError


def denoise(
    net: DiT,
    preconditioning: Preconditioning,
    x: Float[Tensor, "B C T H W"],
    sigma: int | float | Float[Tensor, " B"],
    text: Float[Tensor, "B S K"] | Text,
    *,
    fps: int | float | None,
    given: Given | None,
    conditions: Conditions,
    level: Level | None = None,
) -> Float[Tensor, "B C T H W"]:
    """``D(x; sigma)``; see ``WorldModel.denoise``. ``level`` is what the network makes of the noise level."""
    _check(net, x, given, conditions)
    work = torch.promote_types(x.dtype, torch.float32)
    if isinstance(sigma, Tensor):
        sigma_B, holds = sigma.to(x.device, work), given is not None
    else:
        sigma_B = torch.full((len(x),), float(sigma), dtype=work, device=x.device)
        holds = given is not None and given.holds(sigma)
    scales = preconditioning.scales(sigma_B)
    c_skip, c_out, c_in = (part[:, None, None, None, None] for part in scales[:3])
    x_BCTHW, seen_BCTHW, c_noise = x.to(work), c_in * x.to(work), scales.c_noise
    if given is not None:
        mask = given.mask.expand(-1, -1, -1, *x.shape[3:])
        conditions = conditions._replace(condition_mask=mask.to(net.dtype))
        if holds:
            seen_BCTHW = given.seen(seen_BCTHW)
        if preconditioning.given_sigma is not None:
            c_noise = given.levels(c_noise, _given_c_noise(preconditioning, x.device).to(work)[0])
    raw = net(seen_BCTHW, c_noise if level is None else level, text, fps=fps, **conditions._asdict())
    x0_BCTHW = c_skip * x_BCTHW + c_out * raw.to(work)
    if given is not None and holds:
        x0_BCTHW = given.kept(x0_BCTHW)
    return x0_BCTHW.to(x.dtype)


class Denoiser:
    """``denoise(x, sigma)`` for the samplers; see ``WorldModel.denoiser``. No gradients, and no wait for the device."""

    def __init__(
        self,
        net: DiT,
        preconditioning: Preconditioning,
        text: Float[Tensor, "B S K"],
        negative: Float[Tensor, "B N K"] | None,
        *,
        guidance: Guidance,
        fps: int | float | None,
        given: Given | None,
        conditions: Conditions,
        guide_frames: bool,
    ) -> None:
        self.net, self.preconditioning, self.guidance, self.fps = net, preconditioning, guidance, fps
        self.batch = len(text)
        self._given, self._conditions = given, conditions
        self._views = max(1, net.config.views) if conditions.views is None else conditions.views.shape[1]
        self._levels: dict[float, Level] = {}
        with torch.no_grad():
            if preconditioning.given_sigma is not None and given is not None:
                self._told = net.prepare_level(
                    _given_c_noise(preconditioning, net.device).expand(self._rows), action=conditions.action
                )
            if guidance.beyond == 0:
                self._text = net.prepare_text(text, views=self._views)
                return
            negative = torch.zeros_like(text) if negative is None else negative
            if negative.shape != text.shape:
                raise InputError(
                    f"the negative text has shape {tuple(negative.shape)}, and the text {tuple(text.shape)}: "
                    "pad both with zeros to one length"
                )
            self._both_texts = net.prepare_text(torch.cat([text, negative.to(text)]), views=self._views)
            rows = self.batch * self._views
            self._text = Text(tuple(KeysValues(k[:rows], v[:rows]) for k, v in self._both_texts.blocks))
            self._both_given = None if given is None else given.repeated(again=not guide_frames)
            self._both_conditions = Conditions(*(_twice(value, self.batch) for value in conditions))

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "B C T H W"], sigma: int | float) -> Float[Tensor, "B C T H W"]:
        """The clean clip that is seen in ``x`` at that level, guided; in the dtype of ``x``.

        Raises:
            InputError: the batch is not that of the text.
        """
        if len(x) != self.batch:
            raise InputError(f"x has {len(x)} clips and the text is of {self.batch}: give a text for each")
        if not self.guidance.acts(sigma):
            return self._denoise(x, sigma, self._text, self._given, self._conditions)
        both = self._denoise(x.repeat(2, 1, 1, 1, 1), sigma, self._both_texts, self._both_given, self._both_conditions)
        x0_BCTHW = self.guidance(*both.chunk(2))
        return self._given.kept(x0_BCTHW) if self._given is not None and self._given.holds(sigma) else x0_BCTHW

    def _denoise(
        self, x: Tensor, sigma: int | float, text: Text, given: Given | None, conditions: Conditions
    ) -> Tensor:
        level = self._level(float(sigma), given, len(x))
        return denoise(
            self.net,
            self.preconditioning,
            x,
            sigma,
            text,
            fps=self.fps,
            given=given,
            conditions=conditions,
            level=level,
        )

    @property
    def _rows(self) -> int:
        """Clips whose levels differ: an action joins the level."""
        return 1 if self._conditions.action is None else self.batch

    def _level(self, sigma: float, given: Given | None, batch: int) -> Level:
        if sigma not in self._levels:
            sigma_B = torch.full((self._rows,), sigma, device=self.net.device)
            c_noise = self.preconditioning.scales(sigma_B).c_noise
            self._levels[sigma] = self.net.prepare_level(c_noise, action=self._conditions.action)
        level = _spread(self._levels[sigma], batch)
        if given is None or self.preconditioning.given_sigma is None:
            return level
        at = given.mask[None, :, 0, :, 0, 0, None, None] > 0
        told = _spread(self._told, batch)
        blocks = tuple(torch.where(at, there, here) for there, here in zip(told.blocks, level.blocks, strict=True))
        return Level(blocks, torch.where(at, told.last, level.last))


def _spread(level: Level, batch: int) -> Level:
    """For so many clips: those of one, or of one half of the batch, for all."""

    def all_of(table: Tensor) -> Tensor:
        rows = table.shape[1]
        return table.expand(-1, batch, -1, -1, -1) if rows == 1 else table.repeat(1, batch // rows, 1, 1, 1)

    return Level(tuple(all_of(table) for table in level.blocks), all_of(level.last))


def _twice(value: Tensor | None, batch: int) -> Tensor | None:
    """For both halves; a padding mask of one row serves any batch."""
    return value if value is None or len(value) != batch else torch.cat([value, value])


def _given_c_noise(preconditioning: Preconditioning, device: torch.device) -> Float[Tensor, " 1"]:
    assert preconditioning.given_sigma is not None
    return preconditioning.scales(torch.full((1,), preconditioning.given_sigma, device=device)).c_noise


def _check(net: DiT, x: Tensor, given: Given | None, conditions: Conditions) -> None:
    if given is None:
        return
    if not net.config.condition_mask:
        raise InputError("frames are given, and this network takes text alone: use one with condition_mask")
    if conditions.condition_mask is not None:
        raise InputError("condition_mask is given beside frames, which bring their own: leave it out")
    if given.latents.shape != x.shape:
        raise InputError(f"frames are given of a clip {tuple(given.latents.shape)}, and x is {tuple(x.shape)}")

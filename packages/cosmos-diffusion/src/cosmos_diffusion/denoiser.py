"""From the network's raw output to a clean clip: once, or for a sampler with all prepared that no step changes."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.block import KeysValues
from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.conditioning import Given
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.network import BehindFirst, DiT, Level, Text
from cosmos_diffusion.preconditioning import Preconditioning
from cosmos_diffusion.step_cache import StepCache
from cosmos_tokenizer import InputError

_T = TypeVar("_T")
_MOST_LEVELS = 64
"""Levels that are kept, the newest: all of a usual schedule, 0.2 GB of the largest net, and not all of 10,000 steps."""


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
    behind_first: BehindFirst | None = None,
    copies: int = 1,
) -> Float[Tensor, "R C T H W"]:
    """``D(x; sigma)``; see ``WorldModel.denoise``. ``level`` is what the network makes of the noise level; and
    ``behind_first`` and ``copies`` are for it, too."""
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
    told = conditions._asdict() | {"fps": fps, "behind_first": behind_first}
    told |= {"copies": copies} if copies > 1 else {}
    raw = net(seen_BCTHW, c_noise if level is None else level, text, **told)
    x0_BCTHW = c_skip * x_BCTHW + c_out * raw.to(work).unflatten(0, (copies, -1))
    if given is not None and holds:
        x0_BCTHW = given.kept(x0_BCTHW)
    return x0_BCTHW.flatten(0, 1).to(x.dtype)


@runtime_checkable
class Processes(Protocol):
    """What a denoiser asks of several processes: see ``parallel.Team``."""

    @property
    def halves(self) -> bool:
        """Whether the prediction with the prompt and the one without have processes of their own."""
        ...

    def both(
        self, evaluate: Callable[[_T], Tensor], positive: _T, negative: _T
    ) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
        """``evaluate`` of two things."""
        ...

    def largest(self, x: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The largest that any process has."""
        ...


class _Told(NamedTuple):
    """What the network is told of a batch of clips."""

    text: Text
    given: Given | None
    conditions: Conditions


class Denoiser:
    """``denoise(x, sigma)`` for the samplers; see ``WorldModel.denoiser``.

    No gradients, and no wait for the device but the one that a ``StepCache`` needs. Vectors of zeros that end all texts
    count as one where that is exact: see ``DiT.prepare_text``.
    """

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
        together: bool = True,
        team: Processes | None = None,
        cache: StepCache | None = None,
    ) -> None:
        if cache is not None and team is None and dist.is_initialized() and dist.get_world_size() > 1:
            raise InputError("a step cache on several processes needs their team: give it, for they must decide alike")
        if cache is not None and not together:
            raise InputError("a step cache is for both predictions in one batch: leave it out, or make them together")
        self.net, self.preconditioning, self.guidance, self.fps = net, preconditioning, guidance, fps
        self.batch, self.cache = len(text), cache
        self._team, self._together, self._sigma = team, together, -math.inf
        self._views = max(1, net.config.views) if conditions.views is None else conditions.views.shape[1]
        self._levels: dict[float, Level] = {}
        with torch.no_grad():
            self._rows = 1 if conditions.action is None else self.batch  # clips whose levels differ
            self._action = conditions.action
            if preconditioning.given_sigma is not None and given is not None:
                self._shown_level = net.prepare_level(
                    _given_c_noise(preconditioning, net.device).expand(self._rows), action=self._action
                )
            if guidance.beyond == 0:
                self._with = _Told(self._prepared(text), given, conditions)
                return
            negative = torch.zeros_like(text) if negative is None else negative
            if negative.shape != text.shape:
                raise InputError(
                    f"the negative text has shape {tuple(negative.shape)}, and the text {tuple(text.shape)}: "
                    "pad both with zeros to one length"
                )
            texts = self._prepared(torch.cat([text, negative.to(text)]))
            both_given = None if given is None else given.repeated(again=not guide_frames)
            rows = self.batch * self._views
            self._with = _Told(_of_rows(texts, slice(rows)), given, conditions)
            given = None if both_given is None else both_given.second
            self._without = _Told(_of_rows(texts, slice(rows, None)), given, conditions)
            # Where both see the same frames, they differ by their text alone.
            self._copies = 1 if cache is not None or team is not None or (given is not None and guide_frames) else 2
            if self._copies == 2:
                self._both = self._with._replace(text=texts)
            else:
                self._both = _Told(texts, both_given, Conditions(*(_twice(value, self.batch) for value in conditions)))

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "B C T H W"], sigma: int | float) -> Float[Tensor, "B C T H W"]:
        """The clean clip that is seen in ``x`` at that level, guided; in the dtype of ``x``.

        Raises:
            InputError: the batch is not that of the text.
        """
        if len(x) != self.batch:
            raise InputError(f"x has {len(x)} clips and the text is of {self.batch}: give a text for each")
        given, guided = self._with.given, self.guidance.acts(sigma)
        holds = given is not None and given.holds(sigma)
        if self.cache is not None:
            if sigma > self._sigma:  # another sample begins
                self.cache.forget()
            self.cache.begin((id(self), guided, holds, x.shape))
        self._sigma = float(sigma)
        if not guided:
            return self._denoise(x, sigma, self._with)
        if self._team is not None and self._team.halves:
            cond, uncond = self._team.both(partial(self._denoise, x, sigma), self._with, self._without)
        elif self._together:
            twice = x if self._copies == 2 else x.repeat(2, 1, 1, 1, 1)
            cond, uncond = self._denoise(twice, sigma, self._both, copies=self._copies).chunk(2)
        else:
            cond, uncond = self._denoise(x, sigma, self._with), self._denoise(x, sigma, self._without)
        x0_BCTHW = self.guidance(cond, uncond)
        return given.kept(x0_BCTHW) if given is not None and holds else x0_BCTHW

    def _prepared(self, text: Tensor) -> Text:
        used_S = (text.unflatten(1, (self._views, -1)) != 0).any(-1).flatten(0, 1).any(0)
        found = used_S.nonzero()[:, 0]  # waits for the device, before the first step
        padding = len(used_S) - (int(found[-1]) + 1 if len(found) else 0)
        return self.net.prepare_text(text, views=self._views, padding=padding)

    def _denoise(self, x: Tensor, sigma: int | float, told: _Told, *, copies: int = 1) -> Tensor:
        behind_first = None
        if self.cache is not None:
            behind_first = partial(self.cache, agree=None if self._team is None else self._team.largest)
        return denoise(
            self.net,
            self.preconditioning,
            x,
            sigma,
            told.text,
            fps=self.fps,
            given=told.given,
            conditions=told.conditions,
            level=self._level(float(sigma), told.given, len(x)),
            behind_first=behind_first,
            copies=copies,
        )

    def _level(self, sigma: float, given: Given | None, batch: int) -> Level:
        if sigma not in self._levels:
            sigma_B = torch.full((self._rows,), sigma, device=self.net.device)
            c_noise = self.preconditioning.scales(sigma_B).c_noise
            if len(self._levels) == _MOST_LEVELS:
                del self._levels[next(iter(self._levels))]
            self._levels[sigma] = self.net.prepare_level(c_noise, action=self._action)
        level = _spread(self._levels[sigma], batch)
        if given is None or self.preconditioning.given_sigma is None:
            return level
        at = given.mask[None, :, 0, :, 0, 0, None, None] > 0
        shown = _spread(self._shown_level, batch)
        blocks = tuple(torch.where(at, there, here) for there, here in zip(shown.blocks, level.blocks, strict=True))
        return Level(blocks, torch.where(at, shown.last, level.last))


def _of_rows(text: Text, rows: slice) -> Text:
    return Text(tuple(KeysValues(k[rows], v[rows], bias_S) for k, v, bias_S in text.blocks))


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

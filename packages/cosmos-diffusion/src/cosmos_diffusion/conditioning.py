"""Video2World: latent frames that are given, and the rest to be found (arXiv 2501.03575, section 5.1).

Everything is done to clips, never to raw outputs: what the network sees at the given frames is put in behind the
scaling of its input, and what it predicts there gives way to the truth in ``D``. So the given frames come back as they
were, whatever the network says of them.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from cosmos_diffusion.noise import gaussian
from cosmos_diffusion.preconditioning import Preconditioning
from cosmos_tokenizer import InputError


class Given(NamedTuple):
    """Given frames of a clip. Of views, ``T`` counts the frames of all, one view behind another.

    latents: the frames, at the scale of the data; where none is given, nothing is read.
    shown: what the network sees in their place, at every step the same.
    mask: 1 at given frames, 0 elsewhere.
    until: noise level of what is shown. At levels up to it, which are cleaner, frames are found like all others.
    """

    latents: Float[Tensor, "B C T H W"]
    shown: Float[Tensor, "B C T H W"]
    mask: Float[Tensor, "B 1 T 1 1"]
    until: float = 0.0

    def holds(self, sigma: float) -> bool:
        """Whether frames are given at that level."""
        return sigma > self.until

    def seen(self, x_BCTHW: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """The network's input, with what is shown in place."""
        return torch.where(self.mask > 0, self.shown.to(x_BCTHW.dtype), x_BCTHW)

    def kept(self, x0_BCTHW: Float[Tensor, "*copies B C T H W"]) -> Float[Tensor, "*copies B C T H W"]:
        """A prediction, with the truth in place."""
        return torch.where(self.mask > 0, self.latents.to(x0_BCTHW.dtype), x0_BCTHW)

    def levels(self, c_noise: Float[Tensor, " B"], given: Float[Tensor, ""]) -> Float[Tensor, "B T"]:
        """A level for each frame: ``given`` where it is given, and the clip's elsewhere."""
        return torch.where(self.mask[:, 0, :, 0, 0] > 0, given, c_noise[:, None])

    def repeated(self, *, again: bool) -> "Given":
        """Two of each clip, one batch behind the other; in the second, frames are given ``again`` or not at all."""
        mask = torch.cat([self.mask, self.mask if again else torch.zeros_like(self.mask)])
        return Given(self.latents.repeat(2, 1, 1, 1, 1), self.shown.repeat(2, 1, 1, 1, 1), mask, self.until)

    @property
    def second(self) -> "Given":
        """The second half of :meth:`repeated`."""
        latents, shown, mask = (part.chunk(2)[1] for part in self[:3])
        return Given(latents, shown, mask, self.until)


def first_frames(counts: Int[Tensor, " B"], frames: int, *, views: int = 1) -> Float[Tensor, "B 1 T 1 1"]:
    """A mask of the first ``counts`` of ``frames`` latent frames, in each of the views."""
    mask = (torch.arange(frames, device=counts.device) < counts[:, None]).float()
    return rearrange(mask.repeat(1, views), "b t -> b 1 t 1 1")


def show(
    preconditioning: Preconditioning,
    latents: Float[Tensor, "B C T H W"],
    mask: Float[Tensor, "B 1 T 1 1"],
    *,
    augment: int | float | Float[Tensor, " B"],
    noise: Float[Tensor, "B C T H W"],
) -> Given:
    """Frames where the mask is 1 as given: as noisy as ``augment``, and scaled as the network is used to at that level.

    At a level of all clips and below it they are found like the others; where each has its own, in training, never.

    Raises:
        InputError: noise is asked for, and the network takes given frames as they are.
    """
    if preconditioning.given_sigma is not None:
        if isinstance(augment, Tensor) or augment:
            raise InputError(
                f"augment is {augment}: a network of flows is shown given frames as they are; leave it out"
            )
        return Given(latents, latents, mask)
    if isinstance(augment, Tensor):
        sigma, until = augment.to(latents), 0.0
    elif 0 <= augment < float("inf"):
        sigma, until = latents.new_full((len(latents),), augment), float(augment)
    else:
        raise InputError(f"augment is {augment}: give a noise level from 0 up")
    # Level 0 has no c_noise, which is not needed here.
    c_in = preconditioning.scales(sigma).c_in[:, None, None, None, None]
    return Given(latents, c_in * (latents + sigma[:, None, None, None, None] * noise), mask, until)


def begin_with(
    preconditioning: Preconditioning,
    latents: Float[Tensor, "B C K H W"],
    frames: int,
    *,
    views: int = 1,
    augment: int | float | None = None,
    generator: torch.Generator | None = None,
) -> Given:
    """A clip of ``frames`` latent frames that begins with ``latents``; see ``WorldModel.given``."""
    known, total = latents.shape[2] // views, frames // views
    if latents.shape[2] % views or frames % views:
        raise InputError(f"{latents.shape[2]} frames of {frames} are given: {views} views need multiples of {views}")
    if not 0 <= known < total:
        raise InputError(f"{known} latent frames are given of {total}: give fewer than the clip has")
    latents = rearrange(latents, "b c (v k) h w -> b c v k h w", v=views)
    padded = torch.nn.functional.pad(latents, (0, 0, 0, 0, 0, total - known))
    whole = rearrange(padded, "b c v t h w -> b c (v t) h w")
    counts = torch.full((len(whole),), known, device=whole.device)
    noise = gaussian(whole.shape, generator=generator, device=whole.device, dtype=whole.dtype)
    augment = preconditioning.augment if augment is None else augment
    return show(preconditioning, whole, first_frames(counts, total, views=views), augment=augment, noise=noise)

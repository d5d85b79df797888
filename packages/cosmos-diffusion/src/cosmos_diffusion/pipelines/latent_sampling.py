"""From noise to latents: one clip, by its seed, with all that it is told; on one process or shared out to several."""

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.noise import gaussian
from cosmos_diffusion.parallel import Team
from cosmos_diffusion.pipelines.request import Request
from cosmos_diffusion.samplers import Callback, Step
from cosmos_diffusion.step_cache import StepCache
from cosmos_diffusion.world_model import WorldModel


@torch.no_grad()
def sample(
    world: WorldModel,
    request: Request,
    *,
    seed: int,
    text: Float[Tensor, "1 S K"],
    negative: Float[Tensor, "1 S K"],
    guided: bool,
    known: Float[Tensor, "1 C k H W"] | None,
    views: int,
    conditions: Conditions,
    augment: int | float | None,
    device: torch.device,
    team: Team | None,
    in_turn: bool,
    cache: StepCache | None,
    callback: Callback | None,
) -> Float[Tensor, "1 C T H W"] | None:
    """Latents of one clip at the scale of the data, or None where the callback ended the run before they were found.

    All draws are from one generator on the CPU with that seed, the clip's noise first and that of given frames behind
    it: they are the same on every device, and whatever is made beside it.

    Args:
        world: the model, its network on the device.
        request: of the clip.
        seed: of all draws.
        text, negative: embeddings.
        guided: whether guidance by the text does anything.
        known: given latents at the scale of the data, of views one behind another; None for none.
        views: how many.
        conditions: what else the network is told.
        augment: noise level at which given frames are shown.
        device: of the network.
        team: of processes, that this one is of.
        in_turn: predict with the prompt and without it one after the other.
        cache: of this clip alone; see ``StepCache``.
        callback: called behind every step; True ends the run.

    Raises:
        InputError: something does not fit the network.
    """
    generator = torch.Generator().manual_seed(seed)
    frames, rows, columns = request.latents
    shape = (1, world.config.latent_channels, views * frames, rows, columns)
    noise = request.sigmas[0] * gaussian(shape, generator=generator, device=device)
    given = None
    if known is not None:
        known = known if team is None else team.same(known)
        given = world.given(known, views * frames, views=views, augment=augment, generator=generator)
    noise = noise if team is None else team.same(noise)
    guidance = request.guidance if guided or (given is not None and request.guide_frames) else Guidance(weight=0)
    denoise = world.denoiser(
        text.to(device),
        negative.to(device),
        guidance=guidance,
        fps=request.fps,
        given=given,
        conditions=Conditions(*(None if value is None else value.to(device) for value in conditions)),
        guide_frames=request.guide_frames,
        together=not in_turn,
        team=team,
        cache=cache,
    )
    ended = _Ended(callback)
    data = request.sampler(denoise, noise, request.sigmas, callback=ended)
    return None if ended.early else data


class _Ended:
    """A callback that remembers whether it ended the run."""

    def __init__(self, callback: Callback | None) -> None:
        self._callback, self.early = callback, False

    def __call__(self, step: Step) -> bool:
        self.early = self._callback is not None and bool(self._callback(step))
        return self.early

"""The training loss: denoising score matching, weighted by how hard each level is (arXiv 2501.03575, section 5.1)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.conditioning import Given, first_frames, show
from cosmos_diffusion.config import Prediction
from cosmos_diffusion.noise import TRAINING_LEVELS, TrainingLevels, gaussian, uniform
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """What is drawn for a batch, and how its error counts.

    `scale` multiplies the whole. `uncertainty`: divide the error by what is expected at its level, which is learned
    beside the network. `text_dropout`: share of clips whose text is replaced by zeros.

    Networks that take given frames: `given` are the numbers of latent frames that a video begins with, each as likely;
    they are shown with noise of level ``ln sigma ~ N(augment_mean, augment_std**2)`` where the network takes any.

    Raises:
        InputError: a value is out of range.
    """

    levels: TrainingLevels
    scale: float = 10.0
    uncertainty: bool = True
    text_dropout: float = 0.0
    given: tuple[int, ...] = (0, 1, 2)
    augment_mean: float = -3.0
    augment_std: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise InputError(f"loss.scale is {self.scale}: it must be a positive number")
        if not 0 <= self.text_dropout <= 1:
            raise InputError(f"loss.text_dropout is {self.text_dropout}: give a share from 0 to 1")
        if not self.given or min(self.given) < 0:
            raise InputError(f"loss.given is {self.given}: give numbers of latent frames, such as (0, 1, 2)")
        if not math.isfinite(self.augment_mean):
            raise InputError(f"loss.augment_mean is {self.augment_mean}: it must be a finite number")
        if not 0 <= self.augment_std < math.inf:
            raise InputError(f"loss.augment_std is {self.augment_std}: it must be 0 or more")


LOSSES: Mapping[Prediction, LossConfig] = MappingProxyType(
    {
        "edm": LossConfig(levels=TRAINING_LEVELS["edm"]),
        "flow": LossConfig(levels=TRAINING_LEVELS["flow"], uncertainty=False),
        "rectified": LossConfig(levels=TRAINING_LEVELS["rectified"], uncertainty=False, scale=1.0),
    }
)
"""As the released networks were trained, by ``DiTConfig.prediction``."""


def diffusion_loss(
    world: WorldModel,
    x0: Float[Tensor, "B C T H W"],
    text: Float[Tensor, "B S K"],
    *,
    fps: int | float | None,
    config: LossConfig | None = None,
    conditions: Conditions | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Scalars: "loss"; "error", the weighted squared error; and "uncertainty", where it takes part.

    A clip's loss is ``scale (w(sigma) mean((D - x0)**2) exp(-u) + u)`` with ``u`` the learned uncertainty at its level
    (arXiv 2312.02696, equation 21), which is least at ``u = ln`` of the expected error. Given frames are true in ``D``:
    they add no error, and count in the mean. Batches of pictures have one latent frame and no ``fps``; none is given.

    Args:
        world: in training.
        x0: clean clips at the scale of the data, of pictures or of videos; see ``Domains.to_data``.
        text: embeddings of each clip's caption.
        fps: of the videos.
        config: what is drawn; by default as the released networks were trained.
        conditions: what else the network is told, but for the condition mask.
        generator: of every draw.

    Raises:
        InputError: a shape does not fit the network, or every frame of a video would be given.
    """
    config = LOSSES[world.config.prediction] if config is None else config
    conditions = Conditions() if conditions is None else conditions
    views = 1
    if world.config.views:
        views = world.config.views if conditions.views is None else conditions.views.shape[1]
    batch, frames = len(x0), x0.shape[2] // views
    clean = x0.float()
    sigma = config.levels.sample(batch, frames=frames, generator=generator, device=x0.device)
    noise = gaussian(x0.shape, generator=generator, device=x0.device)
    given = None
    if world.config.condition_mask:
        given = _given(world, clean, config, frames, views, generator)
    if config.text_dropout:
        kept = uniform(batch, generator=generator, device=text.device) >= config.text_dropout
        text = text * kept[:, None, None]
    noisy = clean + sigma[:, None, None, None, None] * noise
    found = world.denoise(noisy, sigma, text, fps=fps, given=given, conditions=conditions)
    error = world.preconditioning.weight(sigma) * (found - clean).square().flatten(1).mean(1)
    if not config.uncertainty:
        return {"loss": config.scale * error.mean(), "error": error.mean()}
    u = world.uncertainty(world.preconditioning.scales(sigma).c_noise)
    return {"loss": config.scale * (error * (-u).exp() + u).mean(), "error": error.mean(), "uncertainty": u.mean()}


def _given(
    world: WorldModel,
    clean: Tensor,
    config: LossConfig,
    frames: int,
    views: int,
    generator: torch.Generator | None,
) -> Given:
    batch, device = len(clean), clean.device
    choices = (0,) if frames == 1 else config.given
    if max(choices) >= frames:
        raise InputError(f"loss.given is {config.given}, and a clip has {frames} latent frames: give fewer")
    draws = (uniform(batch, generator=generator, device=device) * len(choices)).long()
    mask = first_frames(torch.tensor(choices, device=device)[draws], frames, views=views)
    noise = gaussian(clean.shape, generator=generator, device=device)
    if world.preconditioning.given_sigma is not None:
        return show(world.preconditioning, clean, mask, augment=0.0, noise=noise)
    logs = gaussian((batch,), generator=generator, device=device) * config.augment_std + config.augment_mean
    return show(world.preconditioning, clean, mask, augment=logs.exp(), noise=noise)

"""diffusers' own Video2World pipeline around weights of ours: its `__call__`, from noise to latents.

What is not the loop is stood in for: the codec gives latents that are known, text comes as vectors, and nothing is
guarded. The transformer, the scheduler and every line between them are diffusers'.
"""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from diffusers import CosmosTransformer3DModel, CosmosVideoToWorldPipeline, EDMEulerScheduler
from diffusers.models.transformers import transformer_cosmos
from torch import Tensor, nn

from cosmos_diffusion import WorldModel
from cosmos_diffusion.diffusers_layout import to_diffusers

FPS = 30
PIXELS = 8
"""Rows and columns of pixels that a latent is of, and frames."""


class KnownLatents(nn.Module):
    """A codec that has encoded already."""

    def __init__(self, latents: Tensor) -> None:
        super().__init__()
        self.latents, self.dtype, self.device = latents, latents.dtype, latents.device
        self.config = SimpleNamespace(
            temporal_compression_ratio=PIXELS, spatial_compression_ratio=PIXELS, latents_mean=None, latents_std=None
        )

    def encode(self, clip: Tensor) -> SimpleNamespace:
        """The latents, whatever the clip."""
        del clip
        return SimpleNamespace(latents=self.latents)


class NoGuard:
    """What the pipeline asks of its guard: to come and to go."""

    def to(self, device: torch.device | str) -> None:
        """Nothing to move."""


def transformer_of(world: WorldModel) -> CosmosTransformer3DModel:
    """diffusers' class with the weights of ours."""
    weights, fields, _ = to_diffusers(world.config, world.state_dict())
    peer = CosmosTransformer3DModel.from_config(fields).eval()
    peer.load_state_dict(weights)
    if not hasattr(transformer_cosmos, "transforms"):  # torchvision, of which it uses one function, is not installed

        def resize(mask: Tensor, size: list[int], interpolation: str) -> Tensor:
            return F.interpolate(mask, size=size, mode=interpolation)

        nearest = SimpleNamespace(NEAREST="nearest")
        transformer_cosmos.transforms = SimpleNamespace(
            InterpolationMode=nearest, functional=SimpleNamespace(resize=resize)
        )
    return peer


def pipeline_of(peer: CosmosTransformer3DModel, known: Tensor, frames: int) -> CosmosVideoToWorldPipeline:
    """The pipeline, with a codec that gives `known` (latents at the scale of the data) and zeros up to `frames`."""
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80, sigma_data=0.5, final_sigmas_type="sigma_min")
    latents = F.pad(known, (0, 0, 0, 0, 0, frames - known.shape[2])) / scheduler.config.sigma_data
    pipeline = CosmosVideoToWorldPipeline(None, None, peer, KnownLatents(latents), scheduler, NoGuard())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(
    pipeline: CosmosVideoToWorldPipeline,
    noise: Tensor,
    text: Tensor,
    negative: Tensor,
    *,
    known: int,
    steps: int,
    guidance: float,
) -> Tensor:
    """One clip of the pipeline's `__call__`, as latents at the scale of the data.

    Given frames have no noise of their own here (`augment_sigma` 0): the pipeline draws it anew at every step and for
    both predictions, where the original has the same all along, and two samples with other noise cannot be equal.

    Args:
        pipeline: of `pipeline_of`.
        noise: of unit variance.
        text, negative: vectors of the prompts.
        known: latent frames that are given.
        steps: of the scheduler; the last of them has no length.
        guidance: weight of `cond + weight (cond - uncond)`.
    """
    frames, rows, columns = noise.shape[2:]
    height, width = PIXELS * rows, PIXELS * columns
    return pipeline(
        video=torch.zeros(1, PIXELS * (known - 1) + 1, 3, height, width),
        height=height,
        width=width,
        num_frames=PIXELS * (frames - 1) + 1,
        num_inference_steps=steps,
        guidance_scale=guidance,
        augment_sigma=0.0,
        fps=FPS,
        latents=noise,
        prompt_embeds=text,
        negative_prompt_embeds=negative,
        output_type="latent",
        generator=torch.Generator().manual_seed(0),
        return_dict=False,
    )[0]

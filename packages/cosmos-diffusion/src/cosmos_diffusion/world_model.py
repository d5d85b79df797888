"""A diffusion world model: the network, and what its output means at a noise level (arXiv 2501.03575, section 5.1)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.conditioning import Given, begin_with
from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.defaults import RELEASED, Defaults
from cosmos_diffusion.denoiser import Denoiser, Processes, denoise
from cosmos_diffusion.domains import Domains
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.network import DiT, Text
from cosmos_diffusion.preconditioning import PRECONDITIONINGS, Preconditioning
from cosmos_diffusion.step_cache import StepCache
from cosmos_diffusion.text_encoders.byte_encoder import ByteEncoder, ByteEncoderConfig
from cosmos_diffusion.uncertainty import Uncertainty
from cosmos_tokenizer import InputError

_NOTHING = Conditions()


class WorldModel(nn.Module):
    """The network with its preconditioning; one class for training and inference.

    A noisy clip is ``x = x0 + sigma n`` for every kind of network, with ``x0`` of deviation ``sigma_data``.

    Args:
        config: of the network.
        text_encoder: of an encoder that is trained with the network, and kept with it; None where text is another's.
        domains: statistics of the latents that it was trained on; None where they are the tokenizer's own.
        defaults: of pipelines; by default those of the released networks of the kind.

    Raises:
        InputError: the text encoder does not fit the network.
    """

    def __init__(
        self,
        config: DiTConfig,
        *,
        text_encoder: ByteEncoderConfig | None = None,
        domains: Domains | None = None,
        defaults: Defaults | None = None,
    ) -> None:
        super().__init__()
        self.net = DiT(config)
        self.uncertainty = Uncertainty()
        width = config.text_projection or config.text_width
        if text_encoder is not None and text_encoder.width != width:
            raise InputError(f"the text encoder has width {text_encoder.width}, and the network takes {width}")
        self.text_encoder = None if text_encoder is None else ByteEncoder(text_encoder)
        self.domains = domains
        self.defaults = RELEASED[config.prediction] if defaults is None else defaults

    @property
    def config(self) -> DiTConfig:
        """Of the network."""
        return self.net.config

    @property
    def preconditioning(self) -> Preconditioning:
        """Of the network's kind."""
        return PRECONDITIONINGS[self.config.prediction]

    def denoise(
        self,
        x: Float[Tensor, "B C T H W"],
        sigma: int | float | Float[Tensor, " B"],
        text: Float[Tensor, "B S K"] | Text,
        *,
        fps: int | float | None,
        given: Given | None = None,
        conditions: Conditions = _NOTHING,
    ) -> Float[Tensor, "B C T H W"]:
        """The clean clip that the network sees in a noisy one, in the dtype of ``x``.

        Args:
            x: noisy clips.
            sigma: their noise level, above 0, or that of each.
            text: embeddings of the prompt, or ``net.prepare_text`` of it; see ``DiT``.
            fps: of the video, or None for pictures.
            given: frames that are known, which come back as they are.
            conditions: what else the network is told, but for the condition mask, which ``given`` brings.

        Raises:
            InputError: a shape does not fit, or something is given that the network has no place for.
        """
        return denoise(self.net, self.preconditioning, x, sigma, text, fps=fps, given=given, conditions=conditions)

    def denoiser(
        self,
        text: Float[Tensor, "B S K"],
        negative: Float[Tensor, "B N K"] | None = None,
        *,
        guidance: Guidance | int | float = 7,
        fps: int | float | None,
        given: Given | None = None,
        conditions: Conditions = _NOTHING,
        guide_frames: bool = False,
        together: bool = True,
        team: Processes | None = None,
        cache: StepCache | None = None,
    ) -> Denoiser:
        """``denoise(x, sigma)`` for the samplers: text prepared once, levels once each, both predictions in one batch.

        Args:
            text: of each clip.
            negative: what to be driven away from, as long as the text; zeros, which are no text, by default.
            guidance: a number is the weight of ``cond + weight (cond - uncond)``, 0 for none.
            fps, given, conditions: see :meth:`denoise`.
            guide_frames: drive away also from what is seen without the given frames.
            together: make both predictions in one batch; one after the other takes less memory.
            team: of processes (``parallel.Team``) that the network is spread over; where guidance has two, each makes
                one of both predictions.
            cache: reuse between steps what changes little; see ``StepCache``. Of this denoiser alone.

        Raises:
            InputError: the texts differ in shape, or do not fit the network.
        """
        return Denoiser(
            self.net,
            self.preconditioning,
            text,
            negative,
            guidance=guidance if isinstance(guidance, Guidance) else Guidance(weight=guidance),
            fps=fps,
            given=given,
            conditions=conditions,
            guide_frames=guide_frames,
            together=together,
            team=team,
            cache=cache,
        )

    def given(
        self,
        latents: Float[Tensor, "B C K H W"],
        frames: int,
        *,
        views: int | None = None,
        augment: int | float | None = None,
        generator: torch.Generator | None = None,
    ) -> Given:
        """A clip of ``frames`` latent frames that begins with ``latents``.

        Args:
            latents: at the scale of the data, 0 to ``frames - 1`` of them; of views, those of each one behind another.
            frames: of the clip; of views, of all together.
            views: how many; those that the network knows by default.
            augment: noise level at which the network is shown them, 0.001 by default. More of it keeps the errors of a
                clip that was itself generated from being taken over. Networks of flows take given frames as they are.
            generator: of that noise, which is the same at every step.

        Raises:
            InputError: no frame is left to be found, or the level is out of range.
        """
        views = max(1, self.config.views) if views is None else views
        return begin_with(self.preconditioning, latents, frames, views=views, augment=augment, generator=generator)

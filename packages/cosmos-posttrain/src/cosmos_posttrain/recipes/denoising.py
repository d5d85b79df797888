"""Objective of training diffusion world models (arXiv 2501.03575, section 5.1): clean clips out of noisy ones."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from cosmos_diffusion import samplers, sigmas
from cosmos_diffusion.loss import LossConfig, diffusion_loss
from cosmos_diffusion.text_encoders import TextEncoder
from cosmos_diffusion.world_model import WorldModel
from cosmos_posttrain.clip_pool import to_video
from cosmos_posttrain.data import Batch
from cosmos_posttrain.optimizers import ParameterGroup
from cosmos_posttrain.parallel import Parallel, named_parameters
from cosmos_posttrain.recipes.latents import PICTURE_FRAMES, Latents
from cosmos_tokenizer.metrics import finite_mean, psnr_per_frame

PICTURES = 4
"""Clips that the validation continues, and shows."""
STEPS = 12
"""Steps of the sampler in validation: enough to see whether things move as they should."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shown:
    """A clip to validate on."""

    frames: UInt8[np.ndarray, "T H W 3"]
    caption: str | None
    rate: float | None


class Denoising:
    """Objective of ``cosmos_posttrain.train``: a world model sees clean clips in noisy ones."""

    def __init__(
        self,
        world: WorldModel,
        latents: Latents,
        *,
        loss: LossConfig,
        embeddings: TextEncoder | None = None,
        validation: Sequence[Shown] = (),
    ) -> None:
        """Hold the parts together.

        Args:
            world: to be trained, its text encoder too; it has statistics.
            latents: what clips become.
            loss: what is drawn.
            embeddings: of captions, for a world without a text encoder; without either, text is zeros.
            validation: clips kept aside.
        """
        self.world, self.latents, self.embeddings = world.train(), latents, embeddings
        self._loss, self._validation = loss, validation
        self._parallel: Parallel | None = None

    def shard(self, parallel: Parallel) -> None:
        """Wrap each block, and what the loss calls."""
        self._parallel = parallel
        world = self.world
        for index, block in enumerate(world.net.blocks):
            world.net.blocks[index] = parallel.block(block)
        parallel.whole(world.net)
        for small in (world.uncertainty if self._loss.uncertainty else None, world.text_encoder):
            if small is not None:
                parallel.whole(small, sharded=False)
        world.to(parallel.device)
        self.latents.to(parallel.device)

    def groups(self) -> list[ParameterGroup]:
        """All parameters that the loss reaches."""
        named = named_parameters(self.world)
        used = {n: v for n, v in named.items() if self._loss.uncertainty or not n.startswith("uncertainty.")}
        return [ParameterGroup(parameters={n: v for n, v in used.items() if v.requires_grad})]

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """``diffusion_loss`` of a batch, clips of one rate at a time, and how many samples could not be read so far.

        Processes of a context share the frames of each clip; of pictures, each takes some.
        """
        assert self._parallel is not None
        picture, own, factor, generator = batch.video.shape[2] == PICTURE_FRAMES, slice(None), 1.0, None
        if picture:
            own, factor, generator = self._parallel.own_pictures(len(batch.keys))
        x0, text = self._data(batch.video[own]), self._text(batch.texts[own])
        found: dict[str, Tensor] = {}
        with nullcontext() if picture else self._parallel.frames_shared(self.world.net):
            for rate, rows, share in self._by_rate(batch.rates[own], picture=picture):
                part = diffusion_loss(
                    self.world, x0[rows], text[rows], fps=rate, config=self._loss, generator=generator
                )
                for name, value in part.items():
                    found[name] = found.get(name, torch.zeros(())) + value * (share * factor)
        return found | {"skipped": torch.tensor(batch.skipped)}

    def validate(self) -> dict[str, float | np.ndarray]:
        """Error of clips kept aside, with the same noise each time, and how some go on from their first frame.

        "psnr" is in dB over the frames behind the first; "psnr_copied" is that of the first frame standing still.
        """
        if not self._validation:
            return {}
        assert self._parallel is not None
        generator = torch.Generator().manual_seed(0)
        errors, scores, copied, rows = [], [], [], []
        for index, shown in enumerate(self._validation):
            video = to_video(shown.frames[None]).to(self._parallel.device)
            x0, text = self._data(video), self._text([shown.caption])
            picture = video.shape[2] == PICTURE_FRAMES
            fps = None if picture else self._rate(shown.rate)
            found = diffusion_loss(self.world, x0, text, fps=fps, config=self._loss, generator=generator)
            errors.append(found["error"].item())
            if index < PICTURES and not picture and self.world.config.condition_mask:
                made = self._continued(x0, text, fps, generator, frames=video.shape[2])
                truth, other = (rearrange(clip[0], "c t h w -> t h w c") for clip in (video, made))
                still = truth[:1].expand_as(truth)
                scores.append(finite_mean(psnr_per_frame(truth[1:], other[1:], data_range=2.0).tolist()))
                copied.append(finite_mean(psnr_per_frame(truth[1:], still[1:], data_range=2.0).tolist()))
                rows.append(torch.stack([truth, other])[:, :: max(1, (len(truth) - 1) // 4)])
        figures: dict[str, float | np.ndarray] = {"validation_error": fmean(errors)}
        if scores:
            figures |= {"psnr": fmean(scores), "psnr_copied": fmean(copied)}
            figures["continuations"] = _grid([row for row in rows if row.shape == rows[0].shape])
        return figures

    def _continued(
        self, x0: Tensor, text: Tensor, fps: float | None, generator: torch.Generator, *, frames: int
    ) -> Float[Tensor, "1 3 T H W"]:
        world = self.world
        given = world.given(x0[:, :, :1], x0.shape[2], generator=generator)
        levels = sigmas.schedule(world.config.prediction, STEPS)
        noise = levels[0].item() * torch.randn(*x0.shape, generator=generator).to(x0)
        made = samplers.res_2ab(lambda x, sigma: world.denoise(x, sigma, text, fps=fps, given=given), noise, levels)
        assert world.domains is not None
        return self.latents.codec.decode(world.domains.to_latents(made), frames=frames).float().clamp(-1, 1)

    def _data(self, video: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B C t h w"]:
        assert self._parallel is not None
        assert self.world.domains is not None
        latents = self.latents(video.to(self._parallel.device))
        return self.world.domains.to_data(latents, picture=video.shape[2] == PICTURE_FRAMES)

    def _text(self, captions: Sequence[str | None]) -> Float[Tensor, "B S K"]:
        """Embeddings of captions; what has none is no text, which is zeros."""
        assert self._parallel is not None
        encoder = self.world.text_encoder or self.embeddings
        if encoder is None:
            config = self.world.config
            size = (len(captions), config.text_length, config.text_projection or config.text_width)
            return torch.zeros(size, device=self._parallel.device)
        said = [caption for caption in captions if caption]
        text = encoder.encode(said if said or encoder is self.embeddings else [""])
        if len(said) == len(captions):
            return text.to(self._parallel.device)
        rows = iter(text)
        nothing = torch.zeros(encoder.length, encoder.width)
        return torch.stack([(next(rows) if caption else nothing).to(self._parallel.device) for caption in captions])

    def _by_rate(self, rates: Sequence[float | None], *, picture: bool) -> list[tuple[float | None, list[int], float]]:
        """Rates, which rows have them, and the rows' share; as many in every process, for weights are gathered anew."""
        assert self._parallel is not None
        found: dict[float | None, list[int]] = {}
        for row, rate in enumerate(rates):
            found.setdefault(None if picture else self._rate(rate), []).append(row)
        groups = [(rate, rows, len(rows) / len(rates)) for rate, rows in found.items()]
        most = max(self._parallel.all(len(groups)))
        return groups + [(*groups[0][:2], 0.0)] * (most - len(groups))

    def _rate(self, rate: float | None) -> float:
        """Frames per second; clips that do not say have those that the model was made for."""
        return self.world.defaults.fps if rate is None else rate


def _grid(rows: list[Float[Tensor, "2 t H W 3"]]) -> UInt8[np.ndarray, "Y X 3"]:
    """Two rows a clip, frames from left to right: the truth, and below it what the model makes of the first frame."""
    pixels = rearrange(torch.stack(rows), "n two t h w c -> (n two h) (t w) c")
    return ((pixels.cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()

"""Objective of training tokenizers (arXiv 2501.03575, section 4.2): clips given back, in the sense of some terms."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from cosmos_posttrain import pca_start
from cosmos_posttrain.clip_pool import to_video
from cosmos_posttrain.data import Batch
from cosmos_posttrain.losses import perceptual_distance
from cosmos_posttrain.networks import feature_network
from cosmos_posttrain.optimizers import ParameterGroup
from cosmos_posttrain.parallel import Parallel, named_parameters
from cosmos_posttrain.recipes.terms import Terms
from cosmos_tokenizer import CausalTokenizer
from cosmos_tokenizer.metrics import psnr_per_frame

JUDGE = "efficientnet_lite0"
"""Feature network of the validation's perceptual distance, which no recipe has in its loss."""
PICTURES = 4
"""Most clips in the picture of reconstructions."""


class Reconstruction:
    """Objective of ``cosmos_posttrain.train``: a tokenizer gives back its clips, in the sense of some terms."""

    def __init__(
        self,
        model: CausalTokenizer,
        terms: Terms,
        *,
        trained: Literal["all", "decoder"],
        validation: Sequence[UInt8[np.ndarray, "T H W 3"]],
        judge: Path | None,
    ) -> None:
        """Hold the parts together.

        Args:
            model: to be trained.
            terms: of the loss.
            trained: which half.
            validation: clips kept aside.
            judge: weights of the feature network of the validation's perceptual distance, or None.
        """
        self.model, self.terms, self._validation = model.train(), terms, validation
        if trained == "decoder":
            assert model.encoder is not None
            model.encoder.requires_grad_(False)
        self._judge = None if judge is None else feature_network(JUDGE, judge)
        self._parallel: Parallel | None = None

    def shard(self, parallel: Parallel) -> None:
        """Wrap each residual block and both halves."""
        self._parallel = parallel
        for half in (self.model.encoder, self.model.decoder):
            assert half is not None
            for level in [*getattr(half, "down", []), *getattr(half, "up", [])]:
                for index, block in enumerate(level.block):
                    level.block[index] = parallel.block(block)
            parallel.whole(half)
        if self.terms.discriminator is not None:
            # Its gradient to the clips and the penalty on that gradient are taken around a module, past its hooks.
            parallel.whole(self.terms.discriminator, sharded=False)
        for network in [*self.terms.networks(), *([] if self._judge is None else [self._judge])]:
            network.to(parallel.device)

    def groups(self) -> list[ParameterGroup]:
        """The tokenizer's parameters, and the discriminator's at four times the rate (as the released stub has it)."""
        fixed = pca_start.scales(self.model)
        model = {
            name: value
            for name, value in named_parameters(self.model).items()
            if value.requires_grad or any(value is scale for scale in fixed)
        }
        groups = [ParameterGroup(parameters=model)]
        if self.terms.discriminator is not None:
            own = named_parameters(self.terms.discriminator)
            named = {f"discriminator.{name}": value for name, value in own.items()}
            groups.append(ParameterGroup(parameters=named, rate=4.0, averaged=False))
        return groups

    def loss(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Terms of a batch, and how many samples could not be read so far."""
        assert self._parallel is not None
        parallel = self._parallel
        video = batch.video.to(parallel.device)
        # The whole batch's loss is the mean over processes, and each holds the gradient of its own clips.
        found = self.terms(self.model(video), video, step, lambda squares: parallel.averaged(squares) / parallel.world)
        return found | {"skipped": torch.tensor(batch.skipped)}

    def validate(self) -> dict[str, float | np.ndarray]:
        """PSNR per frame in dB, perceptual distance where a network is at hand, and clips beside reconstructions."""
        if not self._validation:
            return {}
        assert self._parallel is not None
        scores, distances, pairs = [], [], []
        for frames in self._validation:
            video = to_video(frames[None]).to(self._parallel.device)
            made = self.model(video).float().clamp(-1, 1)
            first, second = (rearrange(clip[0], "c t h w -> t h w c") for clip in (video, made))
            scores.append(psnr_per_frame(first, second, data_range=2.0).mean().item())
            if self._judge is not None:
                distances.append(perceptual_distance(self._judge, made, video).mean().item())
            pairs.append(torch.stack([first[[0, -1]], second[[0, -1]]]))
        found: dict[str, float | np.ndarray] = {"psnr": fmean(scores)}
        if distances:
            found["perceptual_distance"] = fmean(distances)
        return found | {"reconstructions": _grid([pair for pair in pairs if pair.shape == pairs[0].shape][:PICTURES])}


def _grid(pairs: list[Tensor]) -> UInt8[np.ndarray, "H W 3"]:
    """One row a clip: its first frame and that frame's reconstruction, then its last ones."""
    rows = rearrange(torch.stack(pairs), "n two t h w c -> (n h) (t two w) c")
    return ((rows.cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()

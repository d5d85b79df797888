"""The tokenizer's loss: which terms, with which weights at which step (arXiv 2501.03575, section 4.2)."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cosmos_posttrain.losses import (
    PAPER_VGG19,
    RELEASED_VGG16,
    Adversarial,
    Gram,
    OpticalFlow,
    Perceptual,
    StepSchedule,
    VideoConsistency,
    activations,
    adaptive_weight,
    colour,
    equal_weights,
)
from cosmos_posttrain.losses.consistency import unchanged
from cosmos_posttrain.networks import PatchDiscriminator, feature_network, flow_network
from cosmos_posttrain.networks.raft import RAFT
from cosmos_posttrain.networks.sources import Features, network_file
from cosmos_tokenizer import CausalTokenizer, InputError, fsq

Squares = Callable[[Tensor], Tensor]
"""Squared lengths of gradients to this process's part of a batch, to those of the whole batch."""

_OFF = StepSchedule(values=(0.0,))


@dataclass(frozen=True, kw_only=True, slots=True)
class TermWeights:
    """Weight of each term over the steps of a run, and what terms are made of.

    `features`: the perceptual network; layers weigh as the paper has it for VGG-19, as the released code has it for
    VGG-16, and alike for others. `definition`: of Gram terms, the paper's or the released code's. `every`: they see
    every so many frames of a clip, beginning with another one at each step, since they cost more than a small
    tokenizer. `adversarial` multiplies the adaptive weight; `r1` is taken of the discriminator every step where it
    is positive. `window` and `window_step`: frames of consistency's windows.
    """

    colour: StepSchedule = StepSchedule(values=(1.0,))
    perceptual: StepSchedule = _OFF
    gram: StepSchedule = _OFF
    flow: StepSchedule = _OFF
    consistency: StepSchedule = _OFF
    adversarial: StepSchedule = _OFF
    r1: float = 0.0
    features: Literal["vgg16", "vgg19", "mobilenet_v2", "efficientnet_lite0"] = "mobilenet_v2"
    definition: Literal["paper", "released"] = "released"
    every: int = 1
    discriminator_width: int = 32
    discriminator_layers: int = 3
    window: int = 9
    window_step: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            weight = getattr(self, field.name)
            for value in weight.values if isinstance(weight, StepSchedule) else ():
                if not 0 <= value < math.inf:
                    raise InputError(f"terms.{field.name} has weight {value}: give finite weights from 0 up")
        if self.every < 1:
            raise InputError(f"terms.every is {self.every}: give a number of frames from 1 up")
        if not 0 <= self.r1 < math.inf:
            raise InputError(f"terms.r1 is {self.r1}: give a finite weight from 0 up")

    def used(self) -> list[str]:
        """Names of the terms that have a weight at some step."""
        schedules = {field.name: getattr(self, field.name) for field in fields(self)}
        return [name for name, value in schedules.items() if isinstance(value, StepSchedule) and max(value.values) > 0]

    def check_windows(self, frames: Sequence[int]) -> None:
        """Raise InputError where consistency has a weight and clips of none of these lengths hold two windows."""
        least = self.window + self.window_step
        if "consistency" in self.used() and max(frames) < least:
            raise InputError(
                f"terms.consistency compares windows, and two of terms.window={self.window} frames, "
                f"terms.window_step={self.window_step} apart, take {least}: set data.frames, now {list(frames)}, to as "
                "many, or smaller windows"
            )


class Terms:
    """The terms that a run can compute, with the networks that were found for them."""

    def __init__(
        self, weights: TermWeights, model: CausalTokenizer, networks: Path | None, say: Callable[[str], None]
    ) -> None:
        """Load the networks; a term whose network is not at hand is named and left out.

        Args:
            weights: which terms.
            model: the tokenizer, which video consistency runs again.
            networks: folder with ``<name>.safetensors``, ``.pth`` or ``.pt`` of the networks, or None.
            say: takes a line for each term that is left out.

        Raises:
            InputError: consistency's windows hold no whole latent frames, or no term is left.
        """
        self.weights = weights
        used = weights.used()
        if "consistency" in used and (weights.window - 1) % model.geometry.temporal:
            raise InputError(
                f"terms.window is {weights.window}: give one more than a multiple of the {model.geometry.temporal} "
                "frames of a latent one"
            )
        self.digests: dict[str, str] = {}
        """SHA-256 of each frozen network's file, by its name."""
        self._features: Features | None = None
        self._flow: RAFT | None = None
        if "perceptual" in used or "gram" in used:
            found = self._found(networks, weights.features, say, "perceptual and Gram terms")
            self._features = None if found is None else feature_network(weights.features, found)
        if "flow" in used:
            found = self._found(networks, "raft_large", say, "the optical flow term")
            self._flow = None if found is None else flow_network(found)
        layers = {"vgg16": RELEASED_VGG16, "vgg19": PAPER_VGG19}.get(weights.features)
        if self._features is not None:
            layers = equal_weights(self._features) if layers is None else layers
            self._perceptual = Perceptual(network=self._features, weights=layers)
            self._gram = Gram(network=self._features, weights=layers, definition=weights.definition)
        levels = model.config.levels
        self._consistency = VideoConsistency(
            model=model,
            window=weights.window,
            step=weights.window_step,
            quantise=(lambda z: fsq.quantize(z, levels)) if levels else unchanged,
        )
        self.discriminator: nn.Module | None = None
        if "adversarial" in used:
            self.discriminator = PatchDiscriminator(
                width=weights.discriminator_width, layers=weights.discriminator_layers
            )
        self._check_some_term_is_left()

    def _found(self, folder: Path | None, name: str, say: Callable[[str], None], what: str) -> Path | None:
        path = None if folder is None else network_file(folder, name)
        if path is not None and path.is_file():
            self.digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            return path
        where = "no --networks folder is given" if path is None else f"there is no {path}"
        say(f"without {what}: the weights of {name} are not at hand ({where})")
        return None

    def _check_some_term_is_left(self) -> None:
        """Raise InputError where at some step no term has both a weight and its network."""
        used = self.weights.used()
        missing = {"adversarial"}  # it trains nothing alone: its share follows from the gradient of the others
        missing |= set() if self._features is not None else {"perceptual", "gram"}
        missing |= set() if self._flow is not None else {"flow"}
        changes = {0, *(step for name in used for step in getattr(self.weights, name).boundaries)}
        for step in sorted(changes):
            left = {name for name in used if getattr(self.weights, name).at(step)}
            if not left - missing:
                raise InputError(
                    f"from step {step} on no term of the loss is left; set terms.colour, or give --networks with the "
                    "networks of the others"
                )
            if "adversarial" in left and left - missing == {"consistency"}:
                raise InputError(
                    f"from step {step} on terms.adversarial stands beside terms.consistency alone, which says nothing "
                    "of the reconstruction that it is weighed by; set terms.colour too"
                )

    def networks(self) -> list[nn.Module]:
        """The frozen ones, to be put on the device."""
        return [network for network in (self._features, self._flow) if network is not None]

    def __call__(self, reconstruction: Tensor, video: Tensor, step: int, whole: Squares) -> dict[str, Tensor]:
        """``loss``, the weighted sum at this step, and each term without its weight."""
        weight = {name: getattr(self.weights, name).at(step) for name in self.weights.used()}
        terms: dict[str, Tensor] = {}
        if weight.get("colour"):
            terms["colour"] = colour(reconstruction, video)
        if self._features is not None and (weight.get("perceptual") or weight.get("gram")):
            seen = slice(step % min(self.weights.every, video.shape[2]), None, self.weights.every)
            clips = (clip[:, :, seen] for clip in (reconstruction, video))
            mine, theirs = (activations(clip, self._features, self._perceptual.weights) for clip in clips)
            if weight.get("perceptual"):
                terms["perceptual"] = self._perceptual.of(mine, theirs)
            if weight.get("gram"):
                terms["gram"] = self._gram.of(mine, theirs)
        if self._flow is not None and weight.get("flow"):
            terms["flow"] = OpticalFlow(network=self._flow)(reconstruction, video)
        if weight.get("consistency"):
            terms["consistency"] = self._consistency(reconstruction, video)
        loss = torch.stack([weight[name] * value for name, value in terms.items()]).sum()
        if self.discriminator is not None and weight.get("adversarial"):
            terms |= self._game(reconstruction, video)
            share = adaptive_weight(loss, terms["adversarial"], reconstruction, whole=whole)
            loss = loss + weight["adversarial"] * share * terms["adversarial"] + terms["discriminator"]
        return {"loss": loss, **terms}

    def _game(self, reconstruction: Tensor, video: Tensor) -> dict[str, Tensor]:
        """Both sides at once: neither term leaves a gradient in the other side's weights."""
        assert self.discriminator is not None
        game = Adversarial(discriminator=self.discriminator)
        terms = {
            "adversarial": game(reconstruction, video),
            "discriminator": game.discriminator_loss(reconstruction, video),
        }
        if self.weights.r1:
            terms["discriminator"] = terms["discriminator"] + self.weights.r1 * game.r1(video)
        return terms

"""The config that the shapes of a native checkpoint say: any width, depth and conditioning."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from cosmos_diffusion.config import DiTConfig
from cosmos_diffusion.families import completed
from cosmos_tokenizer import InputError

Shape = tuple[int, ...]

_PATCH = (1, 2, 2)
_MASKS_AND_RAYS = {
    0: (False, False, 0),
    1: (False, True, 0),
    2: (True, True, 0),
    6: (False, False, 6),
    7: (False, True, 6),
    8: (True, True, 6),
}
"""Channels that no table of their own accounts for: condition mask, padding mask, rays."""


class Shapes:
    """Shapes of a file under our names, and errors under its own."""

    def __init__(self, shapes: Mapping[str, Shape], there: Callable[[str], str], blocks: int) -> None:
        self._shapes, self._there, self.blocks = shapes, there, blocks

    def find(self, name: str) -> Shape | None:
        """Shape of a parameter, if it is there."""
        return self._shapes.get(self._there(name))

    def size(self, name: str, axis: int, axes: int = 2) -> int:
        """Size of a parameter that must be there, with so many axes.

        Raises:
            InputError: it is not there, or has another number of them.
        """
        shape = self.find(name)
        if shape is None:
            raise InputError(f"key {self._there(name)} is missing: the file is truncated or of another network")
        if len(shape) != axes or not all(shape):
            raise self.misshapen(name)
        return shape[axis]

    def vote(self, *places: tuple[str, int]) -> int:
        """The size that most blocks have, so that one damaged tensor does not speak for the network."""
        sizes = Counter[int]()
        for index in range(self.blocks):
            for name, axis in places:
                shape = self.find(f"blocks.{index}.{name}")
                sizes.update([] if shape is None or len(shape) <= axis or not all(shape) else [shape[axis]])
        if not sizes:
            raise InputError(
                f"key {self._there(f'blocks.0.{places[0][0]}')} is missing: the file is truncated or of another network"
            )
        return sizes.most_common(1)[0][0]

    def misshapen(self, name: str) -> InputError:
        """What to raise of a shape that no network has."""
        return InputError(f"key {self._there(name)} has shape {self.find(name)}, which no network here has")


def config_of(shapes: Shapes, given: DiTConfig | None, belongs: Callable[[DiTConfig], bool]) -> DiTConfig:
    """Config of the network that parameters are of.

    Channels that stand for no table are read as the released nets have them: one is the padding mask, two are the
    condition mask and it, six more are rays.

    Args:
        shapes: of the parameters.
        given: supplies what shapes cannot say; else the nearest released network does, see ``families``.
        belongs: whether a preset may be of such a file.

    Raises:
        InputError: the shapes are of no network, or ``given`` contradicts them.
    """
    width = shapes.vote(*((f"self_attention.{layer}.weight", axis) for layer in ("q", "out") for axis in (0, 1)))
    head = shapes.vote(("self_attention.q_norm.weight", 0), ("self_attention.k_norm.weight", 0))
    if width % head:
        raise shapes.misshapen("blocks.0.self_attention.q_norm.weight")
    inner = shapes.vote(("up.weight", 0), ("down.weight", 1))
    known: dict[str, Any] = {
        "blocks": shapes.blocks,
        "width": width,
        "heads": width // head,
        "mlp_ratio": given.mlp_ratio if given and _inner(width, given.mlp_ratio) == inner else _ratio(width, inner),
        "adaln_rank": shapes.vote(("modulations.0.down.weight", 0), ("modulations.0.up.weight", 1)),
        "text_width": shapes.vote(("cross_attention.k.weight", 1), ("cross_attention.v.weight", 1)),
        "text_projection": shapes.size("text.weight", 1) if shapes.find("text.weight") else 0,
    }
    patch = given.patch if given else _PATCH
    known |= _position(shapes, given, patch) | _tables(shapes) | _channels(shapes, given, patch)
    return completed(known, given, belongs)


def _position(shapes: Shapes, given: DiTConfig | None, patch: tuple[int, int, int]) -> dict[str, Any]:
    if shapes.find("position.t"):
        sizes = (shapes.size(f"position.{axis}", 0) for axis in "thw")
        return {"position": "learned", "grid": tuple(size * cells for size, cells in zip(sizes, patch, strict=True))}
    if given and given.position != "learned":
        return {"position": given.position}
    # Released nets with views have fixed sines, all others tables or nothing.
    return {"position": "sincos" if shapes.find("channels.views.weight") else "none"}


def _tables(shapes: Shapes) -> dict[str, Any]:
    known: dict[str, Any] = {"views": 0, "token_channels": 0, "trajectory_channels": 0, "action_numbers": 0}
    if shapes.find("channels.views.weight"):
        known["views"], known["view_channels"] = (shapes.size("channels.views.weight", axis) for axis in (0, 1))
    if shapes.find("channels.tokens.weight"):
        known["token_codes"], known["token_channels"] = (shapes.size("channels.tokens.weight", axis) for axis in (0, 1))
    if shapes.find("channels.trajectory.weight"):
        known["trajectory_channels"] = shapes.size("channels.trajectory.weight", 0)
    if shapes.find("noise.action_shared.up.weight"):
        known["action_numbers"] = shapes.size("noise.action_shared.up.weight", 1)
    return known


def _channels(shapes: Shapes, given: DiTConfig | None, patch: tuple[int, int, int]) -> dict[str, Any]:
    cells = math.prod(patch)
    outputs, inputs = shapes.size("last.weight", 0), shapes.size("patch.weight", 1)
    for name, features in (("last.weight", outputs), ("patch.weight", inputs)):
        if features % cells:
            raise shapes.misshapen(name)
    latent, channels = outputs // cells, inputs // cells
    if given is not None:
        if given.input_channels != channels:
            raise InputError(f"the config given has {given.input_channels} input channels, and the file {channels}")
        return {"latent_channels": latent}
    tables = _tables(shapes)
    rest = channels - latent - tables["token_channels"] - tables.get("view_channels", 0) - tables["trajectory_channels"]
    if rest not in _MASKS_AND_RAYS:
        raise shapes.misshapen("patch.weight")
    masks = dict(zip(("condition_mask", "padding_mask", "camera_channels"), _MASKS_AND_RAYS[rest], strict=True))
    return {"latent_channels": latent} | masks


def _inner(width: int, ratio: float) -> int:
    return int(width * ratio)


def _ratio(width: int, inner: int) -> float:
    ratio = inner / width
    return ratio if _inner(width, ratio) == inner else math.nextafter(ratio, math.inf)

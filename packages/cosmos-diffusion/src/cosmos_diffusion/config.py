"""Shape of a diffusion world model's network (arXiv 2501.03575, section 5.1), validated once and then immutable."""

from dataclasses import dataclass
from typing import Any, Literal

from cosmos_tokenizer import InputError

Prediction = Literal["edm", "flow", "rectified"]
Position = Literal["learned", "sincos", "none"]
ActionBranch = Literal["modulation", "both"]

_WORDS = {
    "position": ("learned", "sincos", "none"),
    "prediction": ("edm", "flow", "rectified"),
    "action_branch": ("modulation", "both"),
}
_LARGEST = 1 << 20
"""Far beyond any network, and small enough that a damaged file is refused before anything of its size is built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiTConfig:
    """Everything that decides the network's graph, its parameter shapes, and what its output means.

    Sizes: `width` channels of a token in `heads` attention heads, `blocks` times, with an inner width of
    `mlp_ratio * width` and modulations through `adaln_rank` channels. `patch` latents (frames, rows, columns) are a
    token; `grid` is the largest clip in latents. Text is `text_length` vectors of `text_width`, brought there from
    `text_projection` where that is not 0.

    Positions: rotary frequencies are stretched by `rope_ratio` (time, rows, columns), with time in seconds where
    `rope_fps`; `position` is added to the tokens before every block.

    Beside the latents a token sees: `condition_mask`, which frames are given; `camera_channels` of Plücker rays;
    `token_channels` of an embedding of `token_codes` discrete tokens; `padding_mask`, which pixels are padding;
    `view_channels` of an embedding of which of `views` it is of; `trajectory_channels` of a path. An action of
    `action_numbers` joins the noise level, in the modulations alone or in both branches of it.

    `prediction`: what turns the output into a clip; see ``preconditioning``.

    Raises:
        InputError: a value is of another type or out of range, or two do not go together.
    """

    blocks: int
    width: int
    heads: int
    mlp_ratio: float = 4.0
    adaln_rank: int = 256
    latent_channels: int = 16
    text_width: int = 1024
    text_length: int = 512
    text_projection: int = 0
    patch: tuple[int, int, int] = (1, 2, 2)
    grid: tuple[int, int, int] = (128, 240, 240)
    rope_ratio: tuple[float, float, float] = (2.0, 1.0, 1.0)
    rope_fps: bool = True
    position: Position = "learned"
    condition_mask: bool = False
    camera_channels: int = 0
    token_channels: int = 0
    token_codes: int = 64000
    padding_mask: bool = True
    views: int = 0
    view_channels: int = 6
    trajectory_channels: int = 0
    action_numbers: int = 0
    action_branch: ActionBranch = "both"
    prediction: Prediction = "edm"

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            _check(name, getattr(self, name))
        if self.width % self.heads:
            raise InputError(f"heads is {self.heads}: it must divide the width, {self.width}")
        if self.mlp_width < 1:
            raise InputError(
                f"mlp_ratio is {self.mlp_ratio}: of width {self.width} it leaves the perceptron no channel"
            )
        if self.head_width < 12 or self.head_width % 2:
            raise InputError(
                f"width {self.width} in {self.heads} heads is {self.head_width} each: it must be even, from 12 up"
            )
        for size, patch in zip(self.grid, self.patch, strict=True):
            if size % patch:
                raise InputError(f"grid is {self.grid}: each number must be a multiple of patch, {self.patch}")
        if self.patch[0] != 1 and (self.views or self.condition_mask):
            raise InputError(f"patch is {self.patch}: views and condition_mask need one latent frame a token")
        if self.trajectory_channels and not self.views:
            raise InputError("trajectory_channels are of networks with views: set views")

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def mlp_width(self) -> int:
        """Inner channels of a block's multilayer perceptron."""
        return int(self.width * self.mlp_ratio)

    @property
    def input_channels(self) -> int:
        """Channels that are patched together: latents, masks, rays, token embeddings, views and trajectory."""
        views = self.view_channels + self.trajectory_channels if self.views else 0
        masks = int(self.condition_mask) + int(self.padding_mask)
        return self.latent_channels + masks + self.camera_channels + self.token_channels + views

    @classmethod
    def from_dict(cls, fields: dict[str, object]) -> "DiTConfig":
        """Config from decoded JSON, where tuples came back as lists.

        Raises:
            InputError: a field is unknown, missing, of another type or absurdly large.
        """
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
        for name in values.keys() & cls.__dataclass_fields__.keys():  # before a run-time type checker sees them
            _check(name, values[name])
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"not the config of a diffusion network: {error}") from error


def _check(name: str, value: object) -> None:
    if name in _WORDS:
        if value not in _WORDS[name]:
            raise InputError(f"{name} is {value!r}: use {' or '.join(_WORDS[name])}")
    elif name in ("rope_fps", "condition_mask", "padding_mask"):
        if not isinstance(value, bool):
            raise InputError(f"{name} is {value!r}: it must be true or false")
    elif name in ("patch", "grid"):
        if not (isinstance(value, tuple) and len(value) == 3 and all(_whole(number, 1) for number in value)):
            raise InputError(f"{name} is {str(value)[:80]}: give three whole numbers from 1 up")
    elif name == "rope_ratio":
        if not (isinstance(value, tuple) and len(value) == 3 and all(_positive(number) for number in value)):
            raise InputError(f"{name} is {str(value)[:80]}: give three positive numbers")
    elif name == "mlp_ratio":
        if not _positive(value):
            raise InputError(f"{name} is {value!r}: it must be a positive number")
    else:
        least = 0 if name in _MAY_BE_ZERO else 1
        if not _whole(value, least):
            raise InputError(f"{name} is {str(value)[:80]}: it must be a whole number from {least} to {_LARGEST}")


_MAY_BE_ZERO = (
    "text_projection",
    "camera_channels",
    "token_channels",
    "views",
    "trajectory_channels",
    "action_numbers",
)


def _whole(value: object, least: int) -> bool:
    return type(value) is int and least <= value <= _LARGEST


def _positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < _LARGEST  # pyright: ignore[reportOperatorIssue]

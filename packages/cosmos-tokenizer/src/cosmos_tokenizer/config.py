"""Shape of a causal wavelet tokenizer (arXiv 2501.03575, section 4), validated once and then immutable."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from cosmos_tokenizer.errors import InputError

Media = Literal["image", "video"]
Kind = Literal["continuous", "discrete"]

# Far beyond any network, and small enough that a damaged file is refused before anything of its size is built.
_LARGEST = {"encoder_blocks": 1024, "decoder_blocks": 1024}
_LARGEST_WIDTH = 65536


@dataclass(frozen=True, slots=True)
class Resample:
    """Whether one resolution level halves (encoder) or doubles (decoder) space and time."""

    spatial: bool
    temporal: bool

    def __bool__(self) -> bool:
        return self.spatial or self.temporal


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerConfig:
    """Everything that decides the network's graph and its parameter shapes.

    The encoder runs a Haar wavelet patching by ``patch_size`` along each axis, then ``len(channel_multipliers)``
    resolution levels; what the patching leaves of the compression is done by down-sampling inside the levels.
    The decoder mirrors it.

    Raises:
        InputError: a value is of another type or out of range, or the levels cannot carry the compression asked for.
    """

    media: Media
    kind: Kind
    spatial_compression: int
    temporal_compression: int
    patch_size: int
    channels: int = 128
    channel_multipliers: tuple[int, ...] = (2, 4, 4)
    encoder_blocks: int = 2
    decoder_blocks: int = 3
    z_channels: int = 16
    latent_channels: int = 16
    levels: tuple[int, ...] = ()
    norm_groups: int = 1
    legacy_upsample: bool = False
    """Time is doubled from the lowest resolution on, as in nets trained before September 2024."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            _check_type(name, getattr(self, name))
        if self.media not in ("image", "video"):
            raise InputError(f"media is {self.media!r}: use 'image' or 'video'")
        if self.kind not in ("continuous", "discrete"):
            raise InputError(f"kind is {self.kind!r}: use 'continuous' or 'discrete'")
        for name in ("spatial_compression", "temporal_compression", "patch_size"):
            value = getattr(self, name)
            if value < 1 or value & (value - 1):
                raise InputError(f"{name} is {value}: it must be a power of two")
        for name in ("channels", "encoder_blocks", "decoder_blocks", "z_channels", "latent_channels", "norm_groups"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if not self.channel_multipliers or min(self.channel_multipliers) < 1:
            raise InputError(f"channel_multipliers is {self.channel_multipliers}: give at least one positive number")
        if self.media == "image" and self.temporal_compression != 1:
            raise InputError(f"temporal_compression is {self.temporal_compression}: an image tokenizer has 1")
        if self.kind == "discrete" and (len(self.levels) != self.latent_channels or min(self.levels) < 2):
            raise InputError(f"levels is {self.levels}: give {self.latent_channels} numbers (one a channel), each >= 2")
        if self.kind == "continuous" and self.levels:
            raise InputError(f"levels is {self.levels}: a continuous tokenizer has none")
        for width in {self.channels, *self.widths}:
            if width % self.norm_groups:
                raise InputError(f"norm_groups is {self.norm_groups}: it must divide every width, and {width} is one")
        for plan in (self.downsamples, self.upsamples):
            space = self.patch_size * 2 ** sum(level.spatial for level in plan)
            time = self.time_patch * 2 ** sum(level.temporal for level in plan)
            if (space, time) != (self.spatial_compression, self.temporal_compression):
                raise InputError(
                    f"{len(plan)} levels after a patch of {self.patch_size} give a compression of "
                    f"{time}x{space}x{space}, not {self.temporal_compression}x{self.spatial_compression}x"
                    f"{self.spatial_compression}: change patch_size or the number of channel_multipliers"
                )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each resolution level, highest resolution first."""
        return tuple(self.channels * multiplier for multiplier in self.channel_multipliers)

    @property
    def time_patch(self) -> int:
        """Frames that one wavelet patch takes: ``patch_size`` for video, 1 for images."""
        return self.patch_size if self.media == "video" else 1

    @property
    def patch_channels(self) -> int:
        """Wavelet coefficients of one patch, over the three colours."""
        return 3 * self.patch_size**2 * self.time_patch

    @property
    def codebook_size(self) -> int:
        """Number of different indices of a discrete tokenizer; 1 for a continuous one."""
        return math.prod(self.levels)

    @property
    def downsamples(self) -> tuple[Resample, ...]:
        """What the encoder does after each level, highest resolution first."""
        space, time = self._halvings()
        last = len(self.channel_multipliers) - 1
        if self.media == "image":
            return tuple(Resample(spatial=i < space, temporal=False) for i in range(last + 1))
        return tuple(Resample(spatial=i < min(space, last), temporal=i < min(time, last)) for i in range(last + 1))

    @property
    def upsamples(self) -> tuple[Resample, ...]:
        """What the decoder does after each level, highest resolution first; it runs from the last to the first."""
        space, time = self._halvings()
        count = len(self.channel_multipliers)
        if self.media == "image":
            return tuple(Resample(spatial=i >= count - space, temporal=False) for i in range(count))
        plan: list[Resample] = []
        for depth in range(count):
            temporal = depth < time if self.legacy_upsample else 0 < depth < time + 1
            plan.append(Resample(spatial=temporal or (depth < space and space > time), temporal=temporal))
        return tuple(reversed(plan))

    def _halvings(self) -> tuple[int, int]:
        space = (self.spatial_compression // self.patch_size).bit_length() - 1
        time = (self.temporal_compression // self.time_patch).bit_length() - 1
        if space < 0 or time < 0:
            raise InputError(
                f"patch_size is {self.patch_size}: it compresses more than "
                f"{self.temporal_compression}x{self.spatial_compression}x{self.spatial_compression}"
            )
        return space, time

    @classmethod
    def from_dict(cls, fields: dict[str, object]) -> "TokenizerConfig":
        """Config from decoded JSON, where tuples came back as lists.

        Raises:
            InputError: a field is unknown, missing, of another type or absurdly large.
        """
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
        for name in values.keys() & cls.__dataclass_fields__.keys():  # before a run-time type checker sees them
            _check_type(name, values[name])
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"not a tokenizer config: {error}") from error


def _check_type(name: str, value: object) -> None:
    if name in ("media", "kind"):
        if not isinstance(value, str):
            raise InputError(f"{name} is {value!r}: it must be a word")
        return
    if name == "legacy_upsample":
        if not isinstance(value, bool):
            raise InputError(f"{name} is {value!r}: it must be true or false")
        return
    many = name in ("channel_multipliers", "levels")
    numbers = value if many and isinstance(value, tuple) else (value,)
    largest = _LARGEST.get(name, _LARGEST_WIDTH)
    whole = isinstance(value, tuple) == many and all(type(number) is int and number <= largest for number in numbers)
    if not whole or len(numbers) > 64:
        what = "a tuple (in JSON a list) of whole numbers" if many else "a whole number"
        raise InputError(f"{name} is {str(value)[:80]}: it must be {what} up to {largest}")

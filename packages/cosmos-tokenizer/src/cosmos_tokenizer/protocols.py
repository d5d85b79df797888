"""What world models ask of a video codec; ``CausalTokenizer`` is one, and anything with these members is another."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from cosmos_tokenizer.geometry import Geometry


@runtime_checkable
class ContinuousCodec(Protocol):
    """Clips to continuous latents and back. Satisfied without inheriting; check with ``check_codec``."""

    @property
    def geometry(self) -> Geometry:
        """Frames and sizes of clips against those of latents."""
        ...

    def encode(self, video: Float[Tensor, "B 3 T H W"], /) -> Float[Tensor, "B C t h w"]:
        """Clip in [-1, 1] to latents; no latent frame depends on later frames."""
        ...

    def decode(
        self, tokens: Float[Tensor, "B C t h w"], /, *, frames: int | None = None, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "B 3 T H W"]:
        """Latents to a clip, cut to ``frames`` and ``size`` where given."""
        ...


@runtime_checkable
class DiscreteCodec(Protocol):
    """Clips to int32 indices and back. Satisfied without inheriting; check with ``check_codec``."""

    @property
    def geometry(self) -> Geometry:
        """Frames and sizes of clips against those of indices."""
        ...

    def encode(self, video: Float[Tensor, "B 3 T H W"], /) -> Int[Tensor, "B t h w"]:
        """Clip in [-1, 1] to indices; none depends on later frames."""
        ...

    def decode(
        self, tokens: Int[Tensor, "B t h w"], /, *, frames: int | None = None, size: tuple[int, int] | None = None
    ) -> Float[Tensor, "B 3 T H W"]:
        """Indices to a clip, cut to ``frames`` and ``size`` where given."""
        ...

"""Video consistency term of NVIDIA's released training code, off in its recipes: windows that overlap must agree."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from cosmos_posttrain.losses.precision import in_float32
from cosmos_tokenizer import InputError


@runtime_checkable
class Codec(Protocol):
    """What the term asks of a tokenizer; ``cosmos_tokenizer.CausalTokenizer`` has it."""

    def encode_raw(self, video: Float[Tensor, "B 3 T H W"], /) -> Float[Tensor, "B C t h w"]:
        """Latents of a clip whose frames and sides need no padding."""
        ...

    def decode_raw(self, z: Float[Tensor, "B C t h w"], /) -> Float[Tensor, "B 3 T H W"]:
        """Clip of latents."""
        ...


def unchanged(z: Float[Tensor, "B C t h w"]) -> Float[Tensor, "B C t h w"]:
    """The way from encoder to decoder of a continuous tokenizer."""
    return z


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoConsistency:
    """Mean absolute difference of what neighbouring windows make of the frames, and of the latents, that they share.

    Latents are compared where they end on the same frame, which is nowhere unless ``step`` is a multiple of the
    temporal compression; their difference counts as many times as a latent value stands for samples.
    """

    model: Codec
    window: int
    """Frames of a window, one more than a multiple of the temporal compression."""
    step: int
    """Frames from one window's start to the next one's."""
    quantise: Callable[[Tensor], Tensor] = unchanged
    """What stands between encoder and decoder: for a discrete tokenizer its quantiser, with a gradient."""

    def __post_init__(self) -> None:
        if not 0 < self.step < self.window:
            raise InputError(
                f"windows of {self.window} frames every {self.step} do not overlap: the step is 1 to {self.window - 1}"
            )

    def __call__(
        self, reconstruction: Float[Tensor, "B 3 T H W"], video: Float[Tensor, "B 3 T H W"]
    ) -> Float[Tensor, ""]:
        """The term of a clip, of which ``reconstruction`` is no part.

        Where the clip does not hold two windows it is 0, with a gradient of 0 to ``reconstruction``.
        """
        batch, channels, frames, *_ = video.shape
        if frames < self.window + self.step:
            return reconstruction[:0].float().sum()
        windows = video.unfold(2, self.window, self.step)
        z = self.model.encode_raw(rearrange(windows, "b c m h w t -> (b m) c t h w").contiguous())
        rebuilt = self.model.decode_raw(self.quantise(z))
        loss = _disagreement(rebuilt.unflatten(0, (batch, -1)), self.step)
        samples, values = rebuilt[0].numel(), z[0].numel()
        compression = (self.window - 1) // max(z.shape[2] - 1, 1)
        if self.step % compression == 0 and self.step // compression < z.shape[2]:
            loss = loss + samples / values * _disagreement(z.unflatten(0, (batch, -1)), self.step // compression)
        return loss


@in_float32
def _disagreement(x_BMCTHW: Tensor, step: int) -> Tensor:
    return (x_BMCTHW[:, :-1, :, step:] - x_BMCTHW[:, 1:, :, : x_BMCTHW.shape[3] - step]).abs().mean()

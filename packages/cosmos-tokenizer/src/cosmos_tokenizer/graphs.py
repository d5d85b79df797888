"""One half of a tokenizer as a pure function of tensors, which is what an exported file can hold.

A step of an endless clip (see ``streaming``) takes what the step before left and returns what the next one needs.
"""

from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from cosmos_tokenizer import fsq_reference
from cosmos_tokenizer.attention import TemporalAttention
from cosmos_tokenizer.cache import FrameCache
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.model import CausalTokenizer

Part = Literal["encoder", "decoder"]


class _Graph(nn.Module):
    def __init__(self, model: CausalTokenizer, part: Part) -> None:
        super().__init__()
        half = model.encoder if part == "encoder" else model.decoder
        if half is None:
            raise InputError(f"this checkpoint holds no {part}: load one that does")
        self.network, self.part, self.config, self.dtype = half, part, model.config, model.dtype

    def _run(self, x: Tensor, cache: FrameCache | None) -> Tensor:
        discrete, still, levels = self.config.kind == "discrete", self.config.media == "image", self.config.levels
        if discrete and self.part == "decoder":
            x = fsq_reference.codes_of(x, levels, self.dtype)
        y = self.network(x.unsqueeze(2) if still else x, cache)
        if discrete and self.part == "encoder":
            y = fsq_reference.indices_of(fsq_reference.quantize(y, levels), levels)
        return y.squeeze(-3) if still else y


class ClipGraph(_Graph):
    """One half on a whole clip: what ``encode`` and ``decode`` do, without padding and cropping.

    Args:
        model: tokenizer that has the half; its folded form is the one with the fewest operations.
        part: the half.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Video to latents or indices, or back; of an image tokenizer without the time axis."""
        return self._run(x, None)


class StepGraph(_Graph):
    """One half on the next piece of an endless clip, with the tensors that pass from step to step.

    Args:
        model: video tokenizer that has the half.
        part: the half.
        window: latent frames that temporal attention looks back on, the present one included.
    """

    def __init__(self, model: CausalTokenizer, part: Part, *, window: int) -> None:
        super().__init__(model, part)
        self.window = window
        self.attentions = {layer.key for layer in self.network.modules() if isinstance(layer, TemporalAttention)}

    def forward(self, x: Tensor, memory: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Result and memory of the next piece; without a memory, of the first.

        Frames in a memory are ``B T H W C``, keys and values of attention ``2 H W T C``.
        """
        cell = self.config.spatial_compression if self.part == "encoder" else 1
        rows, columns = x.shape[-2] // cell, x.shape[-1] // cell
        held = {} if memory is None else dict(memory)
        for name in self.attentions & held.keys():
            held[name] = rearrange(held[name], "n h w s c -> n (h w) 1 s c")
        cache = FrameCache(window=self.window, tensors=held)
        y = self._run(x, cache)
        for name in self.attentions:
            held[name] = rearrange(cache.tensors[name], "n (h w) 1 s c -> n h w s c", h=rows, w=columns)
        return y, dict(sorted(held.items()))

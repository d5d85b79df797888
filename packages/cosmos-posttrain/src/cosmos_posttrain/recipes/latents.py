"""Clips to latents at the scale of a diffusion model's data, each clip encoded once (arXiv 2501.03575, section 5.1)."""

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cosmos_diffusion.domains import Domains
from cosmos_posttrain.parallel import Parallel
from cosmos_tokenizer import ContinuousCodec, InputError, LatentStatistics

PICTURE_FRAMES = 1


class Latents:
    """Encodes clips, and keeps what it encoded in half precision for when the very same pixels come again.

    Args:
        codec: the tokenizer, which is not trained; it is put on the run's device with ``to``.
        keep: bytes of latents kept at most; the least recently used go first. 0 keeps none.
    """

    def __init__(self, codec: ContinuousCodec, *, keep: int) -> None:
        self.codec, self._keep = codec, keep
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._bytes = 0

    def to(self, device: torch.device) -> None:
        """Put the codec on the device."""
        if isinstance(self.codec, nn.Module):
            self.codec.to(device)

    @torch.no_grad()
    def __call__(self, video: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B C t h w"]:
        """Latents of clips in [-1, 1], in float32 and on the clips' device; the same whether kept or not."""
        with torch.autocast(video.device.type, enabled=False):  # a clip has the same latents at any precision of a pass
            return self._of(video).float()

    def _of(self, video: Float[Tensor, "B 3 T H W"]) -> Float[Tensor, "B C t h w"]:
        keys = [blake2b(clip.cpu().contiguous().numpy().data, digest_size=16).digest() for clip in video]
        new = {key: row for row, key in enumerate(keys) if key not in self._kept}
        found: dict[bytes, Tensor] = {}
        if new:
            encoded = self.codec.encode(video[list(new.values())]).half()
            found = dict(zip(new, encoded, strict=True))
        latents = torch.stack([found[key] if key in found else self._kept[key].to(video.device) for key in keys])
        for key in keys:
            if key in found:
                self._remember(key, found[key])
            elif key in self._kept:
                self._kept.move_to_end(key)
        return latents

    def _remember(self, key: bytes, latents: Tensor) -> None:
        if key in self._kept or latents.nbytes > self._keep:
            return
        self._kept[key] = latents.to("cpu", copy=True)  # a view would keep the whole batch
        self._bytes += latents.nbytes
        while self._bytes > self._keep:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= gone.nbytes


def measure_domains(
    latents: Iterable[Float[Tensor, "_B C _t _h _w"]], sigma_data: float, parallel: Parallel
) -> Domains:
    """Mean and deviation of video latents by channel and frame, and of pictures' by channel, over all processes.

    Where no batch is of pictures, the first frames of videos stand for them: both are encoded alone.

    Args:
        latents: batches of this process, of pictures or of videos; at least one.
        sigma_data: of the model.
        parallel: the processes, which must all ask.

    Raises:
        InputError: no batch is of videos or of pictures, or a channel is the same everywhere.
    """
    sums: dict[bool, Tensor] = {}
    for z_BCTHW in latents:
        z = z_BCTHW.double().cpu()
        each = z.new_full((z.shape[1], z.shape[2]), z.shape[0] * z.shape[3] * z.shape[4])
        part = torch.stack([z.sum((0, 3, 4)), z.square().sum((0, 3, 4)), each])
        _add(sums, z.shape[2] == PICTURE_FRAMES, part)
    shared: dict[bool, Tensor] = {}
    for theirs in parallel.all(sums):
        for picture, part in theirs.items():
            _add(shared, picture, part)
    if not shared:
        raise InputError("no latents to measure: the data gave no batch")
    video = shared.get(False, shared.get(True))
    picture = shared.get(True, video)
    assert video is not None
    assert picture is not None
    return Domains(video=_statistics(video), picture=_statistics(picture[:, :, :PICTURE_FRAMES]), sigma_data=sigma_data)


def _add(sums: dict[bool, Tensor], picture: bool, part: Float[Tensor, "3 C t"]) -> None:
    """To what there is of pictures or of videos, whose lengths may differ."""
    before = sums.get(picture, part[:, :, :0])
    longest = max(before.shape[2], part.shape[2])
    sums[picture] = _longer(before, longest) + _longer(part, longest)


def _longer(part: Float[Tensor, "3 C t"], frames: int) -> Float[Tensor, "3 C T"]:
    return torch.nn.functional.pad(part, (0, frames - part.shape[2]))


def _statistics(sums: Float[Tensor, "3 C t"]) -> LatentStatistics:
    total, squares, count = sums
    mean = total / count
    deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
    if not (deviation > 0).all():
        raise InputError("a channel of the latents is the same in all data: give more, or other, clips")
    return LatentStatistics(mean, deviation)

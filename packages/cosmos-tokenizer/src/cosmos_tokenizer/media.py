"""One door for pictures and videos, and the step between 8-bit frames and the model's [-1, 1]."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cosmos_tokenizer.images import check_image_name, is_image, read_image, write_image
from cosmos_tokenizer.video import Footage, check_video_name, open_video, video_writer


@contextmanager
def open_media(path: Path | str) -> Iterator[Footage]:
    """Open a picture as one frame without a rate, and anything else as a video; see the two readers for errors."""
    if is_image(path):
        picture = read_image(path)
        yield Footage(frames=iter([picture]), size=(picture.shape[0], picture.shape[1]), rate=None, announced=1)
    else:
        with open_video(path) as footage:
            yield footage


@contextmanager
def media_writer(
    path: Path | str, *, size: tuple[int, int], rate: Fraction | None
) -> Iterator[Callable[[UInt8[np.ndarray, "T H W 3"]], None]]:
    """Open a PNG or JPEG where there is no rate and an MP4 where there is; see the two writers for errors."""
    if rate is None:
        yield lambda frames: write_image(path, frames[0])
    else:
        with video_writer(path, size=size, rate=rate) as add:
            yield add


def check_media_name(path: Path | str, *, still: bool) -> None:
    """Raise InputError unless `path` ends in what such a clip is written as."""
    if still:
        check_image_name(path)
    else:
        check_video_name(path)


def in_pieces(frames: Iterator[UInt8[np.ndarray, "H W 3"]], length: int) -> Iterator[UInt8[np.ndarray, "T H W 3"]]:
    """The first frame alone, which is what a causal net begins with, then pieces of `length` frames and the rest."""
    count = 1
    while piece := list(itertools.islice(frames, count)):
        yield np.stack(piece)
        count = length


def to_clip(frames: UInt8[np.ndarray, "T H W 3"], device: torch.device | str = "cpu") -> Float[Tensor, "1 3 T H W"]:
    """Scale 0..255 to [-1, 1] in float32."""
    frames_THWC = torch.from_numpy(frames).to(device)
    return (frames_THWC.permute(3, 0, 1, 2).float() / 127.5 - 1)[None].contiguous()


def to_frames(clip: Float[Tensor, "1 3 T H W"]) -> UInt8[np.ndarray, "T H W 3"]:
    """Scale [-1, 1] to 0..255, rounded to nearest; what lies outside is clamped."""
    frames_CTHW = ((clip[0].float() + 1) * 127.5).round().clamp(0, 255)
    return frames_CTHW.permute(1, 2, 3, 0).to(torch.uint8).cpu().contiguous().numpy()

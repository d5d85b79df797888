"""The frames that a clip is to begin with, from files: the last of a video, or a picture."""

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_tokenizer import InputError
from cosmos_tokenizer.images import is_image, read_image
from cosmos_tokenizer.media import to_clip
from cosmos_tokenizer.video import open_video


def read_last_frames(path: str | Path, count: int, *, least: int = 1) -> tuple[Float[Tensor, "1 3 T H W"], Fraction]:
    """The last frames of a video in [-1, 1], at most ``count``, in the memory of those alone; and its rate.

    Raises:
        InputError: it is no video, damaged, a picture, or has fewer than ``least`` frames.
    """
    if is_image(path):
        raise InputError(f"{path}: is a picture; give it as --image")
    with open_video(path) as footage:
        frames = deque(footage.frames, maxlen=count)
        rate = footage.rate
    if len(frames) < least:
        raise InputError(f"{path}: has {len(frames)} frames, and {least} are to be given: use fewer --condition-frames")
    assert rate is not None
    return to_clip(np.stack(frames)), rate


def read_last_frames_of_views(
    paths: Sequence[str], count: int, *, least: int = 1
) -> tuple[Float[Tensor, "1 3 T H W"], Fraction]:
    """The same of several views, as many frames of each, one view behind another; the rate is the first one's.

    Raises:
        InputError: also where their sizes differ.
    """
    clips, rates = zip(*(read_last_frames(path, count, least=least) for path in paths), strict=True)
    frames = min(clip.shape[2] for clip in clips)
    for path, clip in zip(paths, clips, strict=True):
        if clip.shape[3:] != clips[0].shape[3:]:
            size, first = ("x".join(map(str, each.shape[3:])) for each in (clip, clips[0]))
            raise InputError(f"{path}: is {size}, and {paths[0]} is {first}: views must be of one size")
    return torch.cat([clip[:, :, -frames:] for clip in clips], dim=2), rates[0]


def read_picture(path: str | Path) -> Float[Tensor, "1 3 1 H W"]:
    """A picture in [-1, 1] as a clip of one frame.

    Raises:
        InputError: it is no picture, or damaged.
    """
    if not is_image(path) and Path(path).is_file():
        raise InputError(f"{path}: is not named as a picture; give a video as --video")
    return to_clip(read_image(path)[None])

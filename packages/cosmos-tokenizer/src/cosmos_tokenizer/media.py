"""One door for pictures and videos, and the step between 8-bit frames and the model's [-1, 1]."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cosmos_tokenizer.images import is_image, read_image, write_image
from cosmos_tokenizer.video import Video, read_video, write_video


def read_media(path: Path | str, *, room: int | None = None) -> Video:
    """Read a picture as one frame without a rate, and anything else as a video; see the two readers for errors."""
    if is_image(path):
        return Video(frames=read_image(path)[None], rate=None)
    return read_video(path, room=room)


def write_media(path: Path | str, media: Video) -> None:
    """Write a still as PNG or JPEG and a video as MP4, whole or not at all; see the two writers for errors."""
    if media.rate is None:
        write_image(path, media.frames[0])
    else:
        write_video(path, media)


def to_clip(frames: UInt8[np.ndarray, "T H W 3"], device: torch.device | str = "cpu") -> Float[Tensor, "1 3 T H W"]:
    """Scale 0..255 to [-1, 1] in float32."""
    frames_THWC = torch.from_numpy(frames).to(device)
    clip = torch.empty((1, 3, *frames.shape[:3]), device=device)
    for index, frame_HWC in enumerate(frames_THWC):
        clip[0, :, index] = frame_HWC.permute(2, 0, 1).float() / 127.5 - 1
    return clip


def to_frames(clip: Float[Tensor, "1 3 T H W"]) -> UInt8[np.ndarray, "T H W 3"]:
    """Scale [-1, 1] to 0..255, rounded to nearest; what lies outside is clamped."""
    _, _, count, height, width = clip.shape
    frames = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        frame_CHW = ((clip[0, :, index].float() + 1) * 127.5).round().clamp(0, 255)
        frames[index] = frame_CHW.permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    return frames

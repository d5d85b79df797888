"""Frames of a video file decoded by a GPU (NVDEC, through PyNvVideoCodec), as `reading.decode` gives them.

Not yet run on a GPU: its tests check it against a stand-in for PyNvVideoCodec, and the real one where that works.
"""

import ctypes
import importlib
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media.picture import Picture
from cosmos_curate.media.reading import Shown, decode, read_index


def decode_on_gpu(path: Path | str, *, gpu: int = 0) -> Generator[Shown, None, None]:
    """Yield what `reading.decode` does; NVDEC gives the frames and the file's index the times.

    What it is not made for is decoded by the CPU: other than 8 bits in 4:2:0, odd sizes, and files without timestamps.

    Args:
        gpu: number of the device.

    Raises:
        InputError: PyNvVideoCodec is not installed, or finds no GPU.
        Unusable: see `reading.decode`; also, behind the last frame, where there were not as many as the index says.
    """
    library = _library()
    with closing(decode(path)) as frames:
        model = next(frames).picture
    times = read_index(path).times_s
    if (
        model.pixel_format not in ("yuv420p", "yuvj420p")
        or model.coded_size[0] % 2
        or model.coded_size[1] % 2
        or not times
    ):
        yield from decode(path)
        return
    demuxer = library.CreateDemuxer(filename=str(path))
    decoder = library.CreateDecoder(gpuid=gpu, codec=demuxer.GetNvCodecId(), usedevicememory=False)
    convert = VideoReformatter()
    count = 0
    for packet in demuxer:
        for surface in decoder.Decode(packet):
            if count < len(times):
                frame = model.blank("nv12")
                _copy(surface, frame)
                yield Shown(times[count], Picture(frame, model.orientation, convert))
            count += 1
    if count != len(times):
        raise Unusable(f"decodes to {count} frames on a GPU, and its index says {len(times)}")


def _library() -> Any:  # noqa: ANN401
    """Import PyNvVideoCodec, which fails in many ways where there is no driver."""
    try:
        return importlib.import_module("PyNvVideoCodec")
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            "PyNvVideoCodec does not work here: it needs an NVIDIA GPU with its driver, and "
            f"`pip install cosmos-curate[gpu]` ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error


def _copy(surface: Any, target: av.VideoFrame) -> None:  # noqa: ANN401
    """Copy a surface in host memory, NV12 without padding, as the decoder will use it again."""
    height, width = target.height, target.width
    if surface.framesize() != height * width * 3 // 2:
        raise Unusable(f"gives surfaces of {surface.framesize()} bytes on a GPU, and not {width}x{height} in NV12")
    address = ctypes.cast(surface.GetPtrToPlane(0), ctypes.POINTER(ctypes.c_uint8))
    pixels = np.ctypeslib.as_array(address, shape=(height * 3 // 2, width))
    for plane, rows in zip(target.planes, (pixels[:height], pixels[height:]), strict=True):
        buffer: Any = plane  # av's types do not say that it is one
        np.frombuffer(buffer, np.uint8).reshape(-1, plane.line_size)[: len(rows), :width] = rows

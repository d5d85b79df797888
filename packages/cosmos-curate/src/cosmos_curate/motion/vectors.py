"""Motion vectors that a decoder hands out: a cheap hint of motion, the encoder's as much as the scene's."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.stream import VideoStream

from cosmos_curate.errors import Unusable

SECONDS = 1
"""Decoded behind each key frame; the rest of the file is skipped."""


def measure_vectors(path: str | Path) -> float | None:
    """Return the mean length of the motion vectors, as a share of the diagonal a second.

    Those of P frames within a second of each key frame count, each by its block's area, over the time since the last
    I or P frame; a block without a vector counts for nothing.

    Returns:
        None where the codec hands out none (all but h264 and the MPEGs), and for a clip without a P frame.

    Raises:
        Unusable: the file does not decode.
    """
    moved = covered = 0.0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            context = stream.codec_context
            context.skip_frame = "NONREF"
            context.options = {"flags2": "+export_mvs", "skip_loop_filter": "all"}
            base = stream.time_base or Fraction(1, 1)
            before: float | None = None
            for frame in frames_behind_keys(container, stream):
                if frame is None:
                    before = None
                    continue
                if frame.pict_type not in (PictureType.I, PictureType.P) or frame.pts is None:
                    continue
                now = float(frame.pts * base)
                vectors = frame.side_data.get("MOTION_VECTORS")
                if frame.pict_type == PictureType.P and vectors is not None and before is not None:
                    table = vectors.to_ndarray()
                    table = table[table["source"] < 0]
                    area = table["w"].astype(np.float64) * table["h"]
                    lengths = np.hypot(table["motion_x"], table["motion_y"]) / np.maximum(table["motion_scale"], 1)
                    diagonal = np.hypot(frame.height, frame.width)
                    moved += float((area * lengths).sum() / diagonal / (now - before))
                    covered += float(area.sum())
                before = now
    except (FFmpegError, IndexError) as error:
        raise Unusable(f"motion vectors cannot be read: {error}") from error
    return moved / covered if covered else None


def frames_behind_keys(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame | None]:
    """Yield the frames of the first seconds behind each key frame, and None where some were left out."""
    context = stream.codec_context
    base = stream.time_base or Fraction(1, 1)
    key: int | None = None
    skipping = False
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        if packet.is_keyframe:
            if skipping:
                context.flush_buffers()
                skipping = False
                yield None
            key = packet.pts
        if skipping or key is None:
            continue
        if (packet.pts - key) * base > SECONDS:
            yield from context.decode(None)
            skipping = True
            continue
        yield from packet.decode()
    if not skipping:
        yield from context.decode(None)

"""What a source video is, before anything is done with it: size as shown, codec, rate, rotation, bars, duration."""

import functools
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass

import numpy as np

from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.media.letterbox import find_letterbox
from cosmos_curate.media.reading import decode, open_video, read_index
from cosmos_curate.stage import Columns, Item, Process, Stage

_UNEVEN_S = 0.0015
"""Gaps between frames differ by less where only rounding to a millisecond makes them differ."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """What a source may be.

    Args:
        max_side: pixels; a video with a longer side is refused before it is decoded.

    Raises:
        InputError: a side below 16.
    """

    max_side: int = 16384

    def __post_init__(self) -> None:
        if self.max_side < 16:
            raise InputError(f"max_side is {self.max_side}; give at least 16 pixels")


def probe_stage(config: ProbeConfig | None = None) -> Stage:
    """Return the stage that tells what a source is, or that it is unusable: it decodes the first frame and some more.

    It writes the columns of the schema that begin with `source_`, `variable_rate`, `rotation` (degrees clockwise) and
    `letterbox` (pixels of the picture as shown), and `source_duration_s`, from the first frame to the end of the last.
    """
    config = config or ProbeConfig()
    return Stage(
        name="probe",
        version=1,
        over="source",
        open=functools.partial(_open, config),
        writes=(
            "source_width",
            "source_height",
            "source_codec",
            "source_bit_rate",
            "variable_rate",
            "rotation",
            "letterbox",
            "source_duration_s",
        ),
        settings=asdict(config),
    )


def _open(config: ProbeConfig) -> Process:
    return functools.partial(_probe, config)


def _probe(config: ProbeConfig, item: Item, frames: Mapping[Sampling, Frames]) -> Columns:
    container, stream = open_video(item.path)
    with container:
        codec = stream.codec_context
        _check_size(codec.width, codec.height, config)
        name = codec.codec.canonical_name
    with closing(decode(item.path)) as shown:
        first = next(shown)
    picture = first.picture
    _check_size(picture.width, picture.height, config)
    index = read_index(item.path)
    if index.times_s:
        start_s, end_s = index.times_s[0], index.end_s
    else:
        start_s, end_s = first.time_s, _end_s(item.path)
    gaps = np.diff(index.times_s)
    return {
        "source_width": picture.width,
        "source_height": picture.height,
        "source_codec": name,
        "source_bit_rate": round(8 * index.bytes / (end_s - start_s)),
        "variable_rate": bool(gaps.size and gaps.max() - gaps.min() > _UNEVEN_S),
        "rotation": picture.orientation.degrees,
        "letterbox": find_letterbox(item.path, index),
        "source_duration_s": end_s - start_s,
    }


def _check_size(width: int, height: int, config: ProbeConfig) -> None:
    if max(width, height) > config.max_side:
        raise Unusable(f"is {width}x{height} pixels: a side is longer than {config.max_side}")


def _end_s(path: str) -> float:
    """Return the end of the last frame by decoding them all."""
    times = [shown.time_s for shown in decode(path)]
    return times[-1] + (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else times[0] + 1 / 25

"""The stage that finds the shots of a source video, and the choice of its detector (arXiv 2501.03575, section 3.1)."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.media.gpu_reading import decode_on_gpu
from cosmos_curate.media.reading import Shown, decode
from cosmos_curate.models.cache import sha256
from cosmos_curate.shots import autoshot, transnetv2
from cosmos_curate.shots.content import ADAPTIVE_THRESHOLD, CONTENT_THRESHOLD, adaptive_detector, content_detector
from cosmos_curate.shots.shot import Detect
from cosmos_curate.shots.stride import stride_detector
from cosmos_curate.shots.windows import detector as network_detector
from cosmos_curate.stage import Columns, Item, Process, Resources, Stage

VERSION = 1
THRESHOLDS = {
    "transnetv2": 0.4,
    "autoshot": 0.4,
    "content": CONTENT_THRESHOLD,
    "adaptive": ADAPTIVE_THRESHOLD,
    "panda": CONTENT_THRESHOLD,
    "stride": None,
}
"""Detectors by name, with the threshold of arXiv 2501.03575 where it has one."""


@dataclass(frozen=True, kw_only=True)
class ShotConfig:
    """What finds the shots.

    Args:
        detector: one of THRESHOLDS: TransNetV2, AutoShot, PySceneDetect's content or adaptive detector, Panda-70M's
            cutting and stitching, or pieces of fixed length.
        threshold: a probability for the first two, the change that the others call a cut; None for the detector's own.
        weights: a checkpoint by path: AutoShot needs one, TransNetV2 has its own.
        stride_s: length of the pieces of detector stride.
        decoder: "cpu", or "nvdec" for the decoder of a GPU (pip install cosmos-curate[gpu]), one worker to each.
    """

    detector: str = "transnetv2"
    threshold: float | None = None
    weights: str | None = None
    stride_s: float = 10.0
    decoder: str = "cpu"

    def __post_init__(self) -> None:
        if self.decoder not in ("cpu", "nvdec"):
            raise InputError(f"decoder is {self.decoder!r}: choose cpu or nvdec")
        if self.detector not in THRESHOLDS:
            raise InputError(f"detector is {self.detector!r}: choose one of {', '.join(THRESHOLDS)}")
        networks = self.detector in ("transnetv2", "autoshot")
        if self.threshold is not None:
            if self.detector == "stride":
                raise InputError(f"threshold is {self.threshold}: detector stride takes none")
            if not 0 < self.threshold < (1 if networks else 256):
                raise InputError(
                    f"threshold is {self.threshold}: detector {self.detector} takes one between 0 and "
                    f"{1 if networks else 256}"
                )
        if self.weights is not None and not networks:
            raise InputError(f"weights is {self.weights!r}: detector {self.detector} takes none")
        if self.weights is None and self.detector == "autoshot":
            raise InputError("detector autoshot has no weights: give the path of the authors' checkpoint as weights")
        if self.weights is not None and not Path(self.weights).is_file():
            raise InputError(f"weights is {self.weights!r}: there is no such file")
        if not (math.isfinite(self.stride_s) and self.stride_s > 0):
            raise InputError(f"stride_s is {self.stride_s}: give seconds above 0")


def open_detector(config: ShotConfig) -> Detect:
    """Return the detector, its model loaded.

    Raises:
        InputError: the weights are not those of its network.
    """
    threshold = THRESHOLDS[config.detector] if config.threshold is None else config.threshold
    weights = None if config.weights is None else Path(config.weights)
    match config.detector:
        case "transnetv2":
            return network_detector(transnetv2.open_network(weights), threshold or 0.0)
        case "autoshot" if weights is not None:
            return network_detector(autoshot.open_network(weights), threshold or 0.0)
        case "content":
            return content_detector(threshold or 0.0)
        case "adaptive":
            return adaptive_detector(threshold or 0.0)
        case "panda":
            from cosmos_curate.content.efficientnet import open_embedder
            from cosmos_curate.shots.panda import panda_detector

            return panda_detector(threshold or 0.0, open_embedder())
        case _:
            return stride_detector(config.stride_s)


def shots_stage(config: ShotConfig = ShotConfig()) -> Stage:
    """Return the stage over source videos that writes their shots and the times of their frames.

    `shots` are [first, end) by frames; `frame_times_s` has when each frame is shown on the video's own clock, and when
    the last gives way: after the time that the file gives it, else after the median step between frames.

    Raises:
        InputError: the package with the weights is not installed.
    """
    weights = {}
    if config.detector == "transnetv2" and config.weights is None:
        weights["transnetv2"] = sha256(transnetv2.installed_weights())
    elif config.weights is not None:
        weights[config.detector] = sha256(Path(config.weights))
    elif config.detector == "panda":
        from cosmos_curate.content.efficientnet import weights_file

        weights["efficientnet-lite0"] = sha256(weights_file())
    threshold = THRESHOLDS[config.detector] if config.threshold is None else config.threshold
    settings: dict[str, object] = {"detector": config.detector, "threshold": threshold}
    on_gpu = config.decoder == "nvdec"
    if on_gpu:
        settings["decoder"] = config.decoder
    if config.detector == "stride":
        settings["stride_s"] = config.stride_s
    return Stage(
        name="shots",
        version=VERSION,
        over="source",
        open=functools.partial(_open, config),
        writes=("shots", "frame_times_s", "detector"),
        settings=settings,
        weights=weights,
        resources=Resources(cpus=1, nvdec=1 if on_gpu else 0),
    )


def _open(config: ShotConfig) -> Process:
    detect = open_detector(config)

    def process(item: Item, frames: Mapping[Sampling, Frames]) -> Columns:
        clock = Clock(item.path, decode_on_gpu if config.decoder == "nvdec" else decode)
        shots = detect(clock.reading)
        return {
            "shots": [shot._asdict() for shot in shots],
            "frame_times_s": clock.frame_times_s(),
            "detector": config.detector,
        }

    return process


class Clock:
    """Decodes a video as often as a detector asks, and notes the times of its frames."""

    def __init__(self, path: str | Path, decoding: Callable[[str | Path], Iterator[Shown]]) -> None:
        self._path, self._decoding = path, decoding
        self._times: list[float] = []
        self._last_s: float | None = None

    def reading(self) -> Iterator[Shown]:
        """Yield the video's frames from its first.

        Raises:
            Unusable: see `cosmos_curate.media.reading.decode`.
        """
        times = []
        for shown in self._decoding(self._path):
            times.append(shown.time_s)
            self._last_s = shown.picture.duration_s
            yield shown
        self._times = times

    def frame_times_s(self) -> Float64[np.ndarray, "edges"]:
        """Return when each frame is shown and when the last gives way, after one whole reading."""
        steps = np.diff(self._times)
        last = self._last_s or (float(np.median(steps)) if len(steps) else 1 / 25)
        return np.array([*self._times, self._times[-1] + last], np.float64)

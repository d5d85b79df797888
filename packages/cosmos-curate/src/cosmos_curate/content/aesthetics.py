"""Aesthetic score of a clip by a scorer that the user has: the paper keeps 3.5 and more (arXiv 2501.03575, 3.2).

None ships, and no scale is made up in its place: without one the column is null, and a rule on it drops nothing.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from cosmos_curate.content.linear import Linear, load_linear
from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.models import cache
from cosmos_curate.stage import Columns, Item, Process, Stage

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
REDUCTIONS = {"min": np.min, "mean": np.mean}


@dataclass(frozen=True, kw_only=True)
class AestheticConfig:
    """Which scorer, and how it sees a clip.

    A model is an ONNX file of one input, RGB `N 3 side side` in float32, and gives the score of each frame, `N` or
    `N 1`; or with `linear` the embedding of each frame, `N D`, as image encoders of CLIP do.

    Args:
        model: its file; None for no score.
        linear: weights over the embedding, which is brought to length 1 first: the LAION aesthetic predictors' .pth
            files (one layer, or several with nothing between), or an .npz of the same names.
        reduction: "min" or "mean" over frames.
        frames: at most so many, spread evenly.
        side: of the input: the shorter side is scaled to it, and the middle is cut out.
        mean: of each colour from 0 to 1, subtracted; CLIP's.
        deviation: of each colour, divided by; CLIP's.
    """

    model: str | None = None
    linear: str | None = None
    reduction: str = "min"
    frames: int = 8
    side: int = 224
    mean: tuple[float, float, float] = CLIP_MEAN
    deviation: tuple[float, float, float] = CLIP_DEVIATION

    def __post_init__(self) -> None:
        if self.linear is not None and self.model is None:
            raise InputError("aesthetic linear weights need a model that embeds frames: give both")
        if self.reduction not in REDUCTIONS:
            raise InputError(f"aesthetic reduction must be {' or '.join(REDUCTIONS)}, not {self.reduction!r}")
        if self.frames < 1 or self.side < 1:
            raise InputError(f"aesthetic frames and side must be 1 or more, not {self.frames} and {self.side}")
        if not all(value > 0 for value in self.deviation):
            raise InputError(f"aesthetic deviation must be above 0, not {self.deviation}")

    @property
    def sampling(self) -> Sampling:
        """The frames it wants."""
        return Sampling(rate=None, most=self.frames, short_side=self.side)


def aesthetic_stage(config: AestheticConfig) -> Stage:
    """Return the stage over clips that writes `aesthetic`, null without a model.

    Raises:
        InputError: a file is missing.
    """
    files = {"aesthetic": config.model, "aesthetic_linear": config.linear}
    for path in files.values():
        if path is not None and not Path(path).is_file():
            raise InputError(f"no aesthetic model at {path}")
    return Stage(
        name="aesthetic",
        version=1,
        over="clip",
        open=functools.partial(open_aesthetic, config),
        writes=("aesthetic",),
        samplings=() if config.model is None else (config.sampling,),
        settings={}
        if config.model is None
        else {
            "reduction": config.reduction,
            "frames": config.frames,
            "side": config.side,
            "mean": list(config.mean),
            "deviation": list(config.deviation),
        },
        weights={name: cache.sha256(Path(path)) for name, path in files.items() if path is not None},
    )


def open_aesthetic(config: AestheticConfig) -> Process:
    """Load the scorer; return the stage's function."""
    if config.model is None:
        return lambda item, frames: {"aesthetic": None}
    score = open_scorer(config)
    reduce = REDUCTIONS[config.reduction]

    def process(item: Item, frames: Mapping[Sampling, Frames]) -> Columns:
        return {"aesthetic": float(reduce(score(frames[config.sampling].pixels)))}

    return process


def open_scorer(config: AestheticConfig) -> Callable[[UInt8[np.ndarray, "T H W 3"]], Float32[np.ndarray, "T"]]:
    """Return the function from RGB frames to a score each.

    Raises:
        InputError: the model cannot be loaded, takes another input or gives another output.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

    path = Path(config.model or "")
    try:
        session = cache.open_session(path)
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise InputError(f"{path} is no ONNX model: {str(error).splitlines()[0]}") from None
    linear = None if config.linear is None else load_linear(Path(config.linear))
    inputs, output = session.get_inputs(), session.get_outputs()[0].name
    side = config.side
    shape = inputs[0].shape if len(inputs) == 1 else []
    fits = len(shape) == 4 and all(
        not isinstance(n, int) or n == m for n, m in zip(shape[1:], (3, side, side), strict=True)
    )
    if not fits or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise InputError(f"{path} must take float32 frames N x 3 x {side} x {side}, and takes {found}: set side to fit")
    one_by_one = shape[0] == 1

    def score(frames: UInt8[np.ndarray, "T H W 3"]) -> Float32[np.ndarray, "T"]:
        ready = prepare(frames, config)
        parts = [ready[row : row + 1] for row in range(len(ready))] if one_by_one else [ready]
        found = np.concatenate(
            [np.asarray(session.run([output], {inputs[0].name: part})[0], np.float32) for part in parts]
        )
        return scores(found, len(frames), linear, path)

    return score


def scores(found: np.ndarray, count: int, linear: Linear | None, path: Path) -> Float32[np.ndarray, "T"]:
    """Return a score for each frame from the model's output.

    Raises:
        InputError: the output has another shape.
    """
    if linear is None:
        if found.size != count:
            raise InputError(
                f"{path} must give one score a frame, and gives {found.shape[1:]}: with an encoder, give linear"
            )
        return found.reshape(count)
    if found.shape != (count, len(linear.weight)):
        raise InputError(
            f"{path} must give {len(linear.weight)} numbers a frame for these weights, not {found.shape[1:]}"
        )
    length = np.sqrt((found * found).sum(1, keepdims=True))
    return (found / np.maximum(length, 1e-12) * linear.weight).sum(1) + linear.bias


def prepare(frames: UInt8[np.ndarray, "T H W 3"], config: AestheticConfig) -> Float32[np.ndarray, "T 3 S S"]:
    """Scale the shorter side, cut the middle out and normalise, as CLIP's preprocessing does."""
    import cv2

    height, width = frames.shape[1:3]
    scale = config.side / min(height, width)
    size = max(config.side, round(width * scale)), max(config.side, round(height * scale))
    left, top = (size[0] - config.side) // 2, (size[1] - config.side) // 2
    ready = np.empty((len(frames), config.side, config.side, 3), np.float32)
    for index, frame in enumerate(frames):
        scaled = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        ready[index] = scaled[top : top + config.side, left : left + config.side]
    ready = (ready / 255 - np.array(config.mean, np.float32)) / np.array(config.deviation, np.float32)
    return np.ascontiguousarray(ready.transpose(0, 3, 1, 2), np.float32)

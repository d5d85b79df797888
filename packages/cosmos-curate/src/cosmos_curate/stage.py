"""What a stage is: a plain function over one item, with its resources, its columns and a version declared beside it.

The key of a result is (item, stage name, version, settings, weights): equal keys, equal results, so that nothing
is done twice and a changed model re-runs its own stage alone.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cosmos_curate.media.frames import Frames, Sampling

Value = bool | int | float | str | list[str] | list[int] | list[float] | list[dict[str, Any]] | np.ndarray | None
"""What a column may hold; arrays are embeddings (float16) and go beside the manifest."""
Columns = Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one worker of a stage occupies; stages with equal resources run in one worker, one behind another.

    Args:
        cpus: cores.
        gpus: GPUs, fractions included.
        nvdec: hardware decoders, as shares of one GPU's.
        network: concurrent requests to services outside.
    """

    cpus: int | float = 1
    gpus: int | float = 0
    nvdec: int | float = 0
    network: int | float = 0


@dataclass(frozen=True, kw_only=True)
class Item:
    """One video or one clip on its way through the stages.

    Args:
        id: from bytes: the video's sha256, or the clip's id.
        path: local file to read; the source video, or the clip's own mp4.
        columns: what earlier stages wrote.
    """

    id: str
    path: str
    columns: Columns = field(default_factory=dict)


Process = Callable[[Item, Mapping[Sampling, Frames]], Columns]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A function over items, and what a scheduler must know of it.

    Args:
        name: lower-case, unique in a pipeline.
        version: raised whenever equal settings would give other values.
        over: "source" for videos, "clip" for clips.
        open: makes the function, once a worker: loads models there. It must survive pickling: a module-level
            function or a `functools.partial` of one.
        reads: columns that the function needs.
        writes: columns that it returns, all of them each time; None where a value does not apply.
        samplings: frames that it wants of each item; one decoding serves all stages of a worker.
        settings: everything that changes values, as JSON takes it.
        weights: sha256 of each file of weights, by name.
    """

    name: str
    version: int
    over: str
    open: Callable[[], Process]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...]
    samplings: tuple[Sampling, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()

    def key(self, item: str) -> str:
        """Name of the stage's result for the item of this id: 64 hexadecimal digits."""
        text = json.dumps(
            [item, self.name, self.version, dict(self.settings), dict(self.weights)], sort_keys=True, ensure_ascii=True
        )
        return hashlib.sha256(text.encode()).hexdigest()


def check_stage(stage: Stage, item: Item, frames: Mapping[Sampling, Frames]) -> None:
    """Raise AssertionError, saying what is wrong, unless the stage keeps its word on the item: the conformance check.

    It writes just the columns that it declares, the same ones twice, survives pickling, and has JSON settings.
    """
    import pickle

    first = pickle.loads(pickle.dumps(stage)).open()(item, frames)
    second = stage.open()(item, frames)
    assert set(first) == set(stage.writes), f"{stage.name} declares {sorted(stage.writes)} and wrote {sorted(first)}"
    for name in stage.writes:
        assert same(first[name], second[name]), f"{stage.name}: {name} is {first[name]!r}, then {second[name]!r}"
    assert len(stage.key(item.id)) == 64


def same(one: Value, other: Value) -> bool:
    """Whether two values of a column are equal to the bit; not a number equals itself."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return json.dumps(one) == json.dumps(other)

"""Everything that a run can be told, in one frozen tree of settings; each part is validated where it is defined."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cosmos_curate.captions.stage import CaptionConfig
from cosmos_curate.content.aesthetics import AestheticConfig
from cosmos_curate.content.stage import ContentConfig
from cosmos_curate.errors import InputError
from cosmos_curate.media.transcode import TranscodeConfig
from cosmos_curate.motion.config import MotionConfig
from cosmos_curate.overlay.stage import OverlayConfig
from cosmos_curate.quality.stage import QualityConfig
from cosmos_curate.selection import SelectConfig
from cosmos_curate.shards.plan import ShardConfig
from cosmos_curate.shots.cutting import CutConfig
from cosmos_curate.shots.stage import ShotConfig
from cosmos_curate.text_embeddings.t5 import TextEmbeddingConfig

C = TypeVar("C")


@dataclass(frozen=True, kw_only=True)
class FinishConfig:
    """What is decided without inference, so that it can be decided again on a finished run.

    Args:
        lance: write the manifest as a Lance dataset too, `manifest.lance` (pip install cosmos-curate[lance]).
    """

    select: SelectConfig = field(default_factory=SelectConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)
    text_embedding: TextEmbeddingConfig = field(default_factory=TextEmbeddingConfig)
    lance: bool = False


@dataclass(frozen=True, kw_only=True)
class RunConfig(FinishConfig):
    """A run from a folder of videos to shards.

    Args:
        folder: path or address (`s3://`, `gs://`) of the videos; searched through its folders.
        out: path or address of the output; a second run there goes on from what is done.
        executor: "local", in this process, or "ray".
        cpus: cores that the local executor uses; None for all that this process may.
        attempts: for each stage of each item before it is put aside.
        retry: whether to try again what an earlier run put aside.
        max_quarantine: share of videos and clips, from 0 to 1, above which the run counts as failed.
        metrics_port: where Prometheus may ask while the run goes on; None for nowhere.

    Raises:
        InputError: a value out of range.
    """

    folder: str
    out: str
    shots: ShotConfig = field(default_factory=ShotConfig)
    cut: CutConfig = field(default_factory=CutConfig)
    transcode: TranscodeConfig = field(default_factory=TranscodeConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    content: ContentConfig = field(default_factory=ContentConfig)
    aesthetic: AestheticConfig = field(default_factory=AestheticConfig)
    overlay: OverlayConfig = field(default_factory=OverlayConfig)
    caption: CaptionConfig = field(default_factory=CaptionConfig)
    executor: str = "local"
    cpus: int | None = None
    attempts: int = 3
    retry: bool = False
    max_quarantine: float = 1.0
    metrics_port: int | None = None

    def __post_init__(self) -> None:
        if self.executor not in ("local", "ray"):
            raise InputError(f"executor {self.executor!r} is neither local nor ray")
        if self.attempts < 1:
            raise InputError(f"attempts {self.attempts} must be 1 or more")
        if not 0 <= self.max_quarantine <= 1:
            raise InputError(f"max_quarantine {self.max_quarantine} must be a share from 0 to 1")
        if self.cpus is not None and self.cpus < 1:
            raise InputError(f"cpus {self.cpus} must be 1 or more")


def changed(config: C, line: str) -> C:
    """Return the settings with one changed: `shots.threshold=0.5`; the value is JSON, or else taken as text.

    Raises:
        InputError: no such setting, or a value that does not fit it.
    """
    path, equals, text = line.partition("=")
    if not equals:
        raise InputError(f"setting {line!r} is not NAME=VALUE, such as shots.threshold=0.5")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return _changed(config, path.strip().split("."), value, line)


def to_json(config: object) -> Any:  # noqa: ANN401
    """Return settings as JSON takes them; of a backend that was plugged in, its class by name."""
    if dataclasses.is_dataclass(config):
        return {part.name: to_json(getattr(config, part.name)) for part in dataclasses.fields(config)}
    if isinstance(config, list | tuple):
        return [to_json(part) for part in config]
    if isinstance(config, Mapping):
        return {str(name): to_json(part) for name, part in config.items()}
    return config if config is None or isinstance(config, str | int | float) else type(config).__name__


def from_json(kind: type[C], value: Any) -> C:  # noqa: ANN401
    """Return settings of this class from what `to_json` gave.

    Raises:
        InputError: a setting that the class does not have, or a value that does not fit.
    """
    return _typed(kind, value, kind.__name__)


def _changed(config: Any, path: list[str], value: object, line: str) -> Any:  # noqa: ANN401
    names = [part.name for part in dataclasses.fields(config)]
    if path[0] not in names:
        raise InputError(f"setting {line!r}: there is no {path[0]!r}; there are {', '.join(names)}")
    if len(path) == 1:
        new = _typed(typing.get_type_hints(type(config))[path[0]], value, line)
    else:
        part = getattr(config, path[0])
        if not dataclasses.is_dataclass(part):
            raise InputError(f"setting {line!r}: {path[0]!r} has no parts")
        new = _changed(part, path[1:], value, line)
    return dataclasses.replace(config, **{path[0]: new})


def _typed(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """The value as an annotation wants it, tuples out of lists and settings out of mappings."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal and value in arguments:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and types.NoneType in arguments:
            return None
        found = [part for part in arguments if part is not types.NoneType]
        for part in found[:-1]:
            try:
                return _typed(part, value, where)
            except InputError:
                continue
        return _typed(found[-1], value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, Mapping) or not set(value) <= set(hints):
            raise InputError(f"{where}: {value!r} does not fit {kind.__name__}")
        return kind(**{name: _typed(hints[name], part, where) for name, part in value.items()})
    if origin is tuple and isinstance(value, list | tuple):
        repeated = len(arguments) == 2 and arguments[1] is Ellipsis
        kinds = [arguments[0]] * len(value) if repeated else list(arguments)
        if len(kinds) == len(value):
            return tuple(_typed(part, one, where) for part, one in zip(kinds, value, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = kind in (str, int, float, bool)
    if plain and type(value) is kind:
        return value
    if origin is Mapping and isinstance(value, Mapping):
        return {name: _typed(arguments[1], part, where) for name, part in value.items()}
    if kind is str and isinstance(value, int | float):
        return str(value)
    raise InputError(f"{where}: {value!r} is not {getattr(kind, '__name__', kind)}")

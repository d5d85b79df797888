"""Tokenizers as files that run without this package, of torch.export (``.pt2``) and ONNX (``.onnx``).

A file holds one half in its folded form and says what it is: JSON under ``cosmos-tokenizer`` in the metadata of an ONNX
file, under ``cosmos-tokenizer.json`` in the extra files of a torch.export one.
"""

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from cosmos_tokenizer._version import __version__
from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.graphs import ClipGraph, Part, StepGraph
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.streaming import WINDOW

Form = Literal["clip", "start", "next"]

METADATA = "cosmos-tokenizer"
SUFFIXES = (".pt2", ".onnx")
_LARGEST = 8192
"""Cells a side up to which a graph of any size is made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One graph to export: what goes in, which axes of that may differ from it later, what a step remembers."""

    form: Form
    graph: ClipGraph | StepGraph
    inputs: tuple[Any, ...]
    axes: tuple[Any, ...]
    memory: tuple[str, ...] = ()


def export(
    model: CausalTokenizer,
    path: str | Path,
    *,
    part: Part,
    frames: int | None = None,
    size: tuple[int, int] = (256, 256),
    dynamic: bool = False,
    steps: bool = False,
    window: int = WINDOW,
) -> tuple[Path, ...]:
    """Write one half to a file of torch.export or ONNX, as its suffix says, and return the paths written.

    The graph of a clip takes ``1 3 T H W`` (images: ``1 3 H W``) in the model's dtype and gives latents, or int32
    indices, of ``encode``; a decoder takes those and gives the clip. It neither pads nor crops.

    ``steps`` writes two graphs instead, beside each other, for a clip without end: ``NAME.start`` takes one frame (one
    latent frame) and gives its result and a memory; ``NAME.next`` takes the frames of one latent frame (one latent
    frame) and a memory, and gives a result and the next memory.

    Args:
        model: the tokenizer.
        path: ends in ``.pt2`` or ``.onnx``.
        part: "encoder" or "decoder".
        frames: of the clip, ``1 + temporal * n``; not for images and steps.
        size: height and width of the clip, whole cells.
        dynamic: the graph takes any height and width of at least 2 whole cells.
        steps: as above.
        window: of the steps, latent frames that temporal attention looks back on, the present one included; at least 2.

    Raises:
        InputError: the arguments do not go together, or a package that the format needs is missing.
        OSError: a file cannot be written.
    """
    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise InputError(f"{path}: the name must end in {' or '.join(SUFFIXES)}, which says what to write")
    if target.suffix == ".onnx":
        need("onnx", "onnxscript")
        if model.dtype == torch.bfloat16:
            raise InputError("onnxruntime has no convolution in bfloat16: export in float32 or float16, or to a .pt2")
    _check(model, frames, size, dynamic, steps, window)
    folded = model.fold()
    with torch.no_grad(), _quiet():
        if steps:
            plans = _steps(folded, part, size, dynamic, window)
        else:
            plans = [_clip(folded, part, frames or 1, size, dynamic)]
        made = [(_named(target, plan.form), _bytes_of(plan, target.suffix, model, part, window)) for plan in plans]
    for name, data in made:
        write_whole(name, data)
    return tuple(name for name, _ in made)


def need(*packages: str) -> None:
    """Raise an InputError where one of the packages of the extra `export` is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX files need {' and '.join(missing)}: pip install 'cosmos-tokenizer[export]'")


def _check(
    model: CausalTokenizer, frames: int | None, size: tuple[int, int], dynamic: bool, steps: bool, window: int
) -> None:
    geometry, still = model.geometry, model.config.media == "image"
    if steps and still:
        raise InputError("an image tokenizer has no past: export it without steps")
    if (steps or still) and frames not in (None, 1):
        takes = "a step takes the frames of one latent frame" if steps else "an image tokenizer takes one frame"
        raise InputError(f"frames is {frames}, and {takes}: leave it out")
    if not (steps or still):
        if frames is None:
            raise InputError("frames is missing: give the number of frames of the clip, or export steps")
        if frames != geometry.padded_frames(frames):
            raise InputError(f"{frames} frames fill no whole latent frames: give {geometry.padded_frames(frames)}")
    if tuple(size) != geometry.padded_size(*size):
        rows, columns = geometry.padded_size(*size)
        raise InputError(f"a size of {size[0]}x{size[1]} is not of whole cells: give {rows}x{columns}")
    if dynamic and min(geometry.latent_size(*size)) < 2:
        raise InputError(f"a graph of any size cannot be traced at {size[0]}x{size[1]}: give 2 cells a side or more")
    if window < 2:
        raise InputError(f"window is {window}: give at least 2 latent frames")


def _clip(model: CausalTokenizer, part: Part, frames: int, size: tuple[int, int], dynamic: bool) -> Plan:
    x = example(model, part, frames, size)
    return Plan(form="clip", graph=ClipGraph(model, part), inputs=(x,), axes=(_axes_of(model, part, x, dynamic),))


def _steps(model: CausalTokenizer, part: Part, size: tuple[int, int], dynamic: bool, window: int) -> list[Plan]:
    graph = StepGraph(model, part, window=window)
    first = example(model, part, 1, size)
    frames = model.config.temporal_compression if part == "encoder" else 1
    following = example(model, part, frames, size)
    _, memory = graph(first)
    rows = model.geometry.latent_size(*size)[0]
    h, w = _cells()
    axes: dict[str, dict[int, Any]] = {}
    for name, value in memory.items():
        attention = name in graph.attentions
        ratio = 1 if attention else value.shape[2] // rows
        axes[name] = dict(zip((1, 2) if attention else (2, 3), (ratio * h, ratio * w), strict=True)) if dynamic else {}
        if attention and window > 2:
            axes[name][3] = Dim("past", min=1, max=window - 1)
            memory[name] = torch.cat([value, value], dim=3)  # an axis of 1 is taken for fixed
    along = _axes_of(model, part, first, dynamic)
    return [
        Plan(form="start", graph=graph, inputs=(first,), axes=(along,), memory=tuple(memory)),
        Plan(form="next", graph=graph, inputs=(following, memory), axes=(along, axes), memory=tuple(memory)),
    ]


def example(model: CausalTokenizer, part: Part, frames: int, size: tuple[int, int]) -> Tensor:
    """Random input of a half for a clip of ``frames`` of this size (of a decoder: one latent frame per frame of 1)."""
    config, geometry = model.config, model.geometry
    axes = (*(() if config.media == "image" else (frames,)), *size)
    if part == "encoder":
        return torch.rand(1, 3, *axes, dtype=model.dtype, device=model.device) * 2 - 1
    grid = (*(() if config.media == "image" else (geometry.latent_frames(frames),)), *geometry.latent_size(*size))
    if config.kind == "discrete":
        total = torch.Size(config.levels).numel()
        return torch.randint(total, (1, *grid), dtype=torch.int32, device=model.device)
    return torch.randn(1, config.latent_channels, *grid, dtype=model.dtype, device=model.device)


def _cells() -> tuple[Any, Any]:
    return Dim("h", min=2, max=_LARGEST), Dim("w", min=2, max=_LARGEST)


def _axes_of(model: CausalTokenizer, part: Part, x: Tensor, dynamic: bool) -> dict[int, Any]:
    if not dynamic:
        return {}
    cell = model.config.spatial_compression if part == "encoder" else 1
    return {x.dim() - 2 + axis: cell * side for axis, side in enumerate(_cells())}


def _bytes_of(plan: Plan, suffix: str, model: CausalTokenizer, part: Part, window: int) -> memoryview | bytes:
    program = torch.export.export(plan.graph.eval(), plan.inputs, dynamic_shapes=plan.axes, strict=False)
    tokens = "indices" if model.config.kind == "discrete" else "latents"
    given, made = ("video", tokens) if part == "encoder" else (tokens, "video")
    held = plan.memory if plan.form == "next" else ()
    about = {
        "version": __version__,
        "config": asdict(model.config),
        "fingerprint": model.fingerprint[part],
        "part": part,
        "form": plan.form,
        "dtype": str(model.dtype).removeprefix("torch."),
        "window": None if plan.form == "clip" else window,
        "memory": plan.memory,
        "inputs": [given, *(f"memory.{name}" for name in held)],
        "outputs": [made, *(f"next.{name}" for name in plan.memory)],
    }
    return (_onnx if suffix == ".onnx" else _pt2)(program, about)


def _pt2(program: ExportedProgram, about: dict[str, Any]) -> memoryview:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={f"{METADATA}.json": json.dumps(about)})
    return buffer.getbuffer()


def _onnx(program: ExportedProgram, about: dict[str, Any]) -> bytes:
    made = torch.onnx.export(
        program, dynamo=True, input_names=about["inputs"], output_names=about["outputs"], verbose=False
    )
    assert made is not None
    proto = made.model_proto
    proto.metadata_props.add(key=METADATA, value=json.dumps(about))
    return proto.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters warn of their own deprecations, of weights that are views, and of a missing torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _named(target: Path, form: Form) -> Path:
    return target if form == "clip" else target.with_suffix(f".{form}{target.suffix}")

"""Exported files back in torch and onnxruntime, and how far what they compute is from the model they were made from."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.exporting import METADATA, example, need
from cosmos_tokenizer.graphs import Part
from cosmos_tokenizer.model import CausalTokenizer

MOST_APART = {torch.float64: 0.01, torch.float32: 0.01, torch.float16: 0.05, torch.bfloat16: 0.3}
"""How far a sound file's result may be from the model's: of its largest value, or as the share of its indices."""

Memory = dict[str, Tensor]
Run = Callable[[Tensor, Memory], tuple[Tensor, Memory]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What a file says of itself, and its graph: input and memory to result and next memory (both empty for clips)."""

    about: dict[str, Any]
    run: Run


def open_exported(path: str | Path) -> Exported:
    """Read a file that ``export`` wrote; ONNX runs in onnxruntime on the CPU.

    Raises:
        InputError: the file is no exported tokenizer, or onnxruntime is missing.
        OSError: it cannot be read.
    """
    if Path(path).suffix == ".onnx":
        need("onnxruntime")
        return _from_onnx(path)
    return _from_pt2(path)


def difference(
    model: CausalTokenizer, paths: Sequence[Path], part: Part, frames: int, size: tuple[int, int]
) -> tuple[float, bool]:
    """How far exported files are from the model on a random clip, and whether that is what rounding explains.

    Args:
        model: what was exported.
        paths: the file of a clip, or those of the first and the next steps, in this order.
        part: the half in them.
        frames, size: of the clip; whole latent frames and cells.

    Returns:
        The largest absolute difference, or of indices the share that differs; whether it is within `MOST_APART`.
    """
    files = [open_exported(path) for path in paths]
    x = example(model, part, frames, size)
    with torch.no_grad():
        wanted = _eager(model, part, x, files[0].about["window"])
        got = files[0].run(x, {})[0] if len(files) == 1 else _in_steps(files[0], files[1], x, part, model)
    got = got.to(wanted.device)
    if wanted.is_floating_point():
        apart, scale = float((got.float() - wanted.float()).abs().max()), float(wanted.float().abs().max())
    else:
        apart, scale = float((got != wanted).float().mean()), 1.0
    return apart, apart <= MOST_APART[model.dtype] * scale


def _eager(model: CausalTokenizer, part: Part, x: Tensor, window: int | None) -> Tensor:
    if window is None:
        return model.encode(x) if part == "encoder" else model.decode(x)
    stream = model.stream_encoder(window=window) if part == "encoder" else model.stream_decoder(window=window)
    found = stream.push(x)
    assert found is not None  # the clip is not empty
    return found


def _in_steps(start: Exported, following: Exported, x: Tensor, part: Part, model: CausalTokenizer) -> Tensor:
    unit = model.config.temporal_compression if part == "encoder" else 1
    y, memory = start.run(x.narrow(-3, 0, 1), {})
    found = [y]
    for piece in x.narrow(-3, 1, x.shape[-3] - 1).split(unit, dim=-3):
        y, memory = following.run(piece, memory)
        found.append(y)
    return torch.cat(found, dim=-3)


def _from_pt2(path: str | Path) -> Exported:
    extra = {f"{METADATA}.json": ""}
    program = torch.export.load(path, extra_files=extra)
    if not extra[f"{METADATA}.json"]:
        raise InputError(f"{path}: is of torch.export, and no tokenizer")
    about = json.loads(extra[f"{METADATA}.json"])
    graph = program.module()

    def run(x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        if about["form"] == "clip":
            return graph(x), {}
        return graph(x, memory) if memory else graph(x)

    return Exported(about=about, run=run)


def _from_onnx(path: str | Path) -> Exported:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    if METADATA not in said:
        raise InputError(f"{path}: is ONNX, and no tokenizer")
    about = json.loads(said[METADATA])

    def run(x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        given = [x, *(memory[name] for name in about["memory"])] if memory else [x]
        feed = {name: value.numpy(force=True) for name, value in zip(about["inputs"], given, strict=True)}
        y, *held = (torch.from_numpy(value) for value in session.run(about["outputs"], feed))
        return y, dict(zip(about["memory"], held, strict=True))

    return Exported(about=about, run=run)

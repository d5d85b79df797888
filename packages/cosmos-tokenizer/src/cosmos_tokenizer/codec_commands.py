"""The commands that move clips: encode, decode, reconstruct and evaluate. Each returns what `--json` prints."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cosmos_tokenizer import evaluate as evaluation
from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.checkpoint import load
from cosmos_tokenizer.cli import DEFAULT_MODEL
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.images import IMAGE_SUFFIXES, check_image_name, is_image
from cosmos_tokenizer.inputs import Inputs, find_inputs, plan_outputs
from cosmos_tokenizer.jsontext import to_json
from cosmos_tokenizer.media import read_media, to_clip, to_frames, write_media
from cosmos_tokenizer.memory import room_for_frames
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.presets import PRESETS
from cosmos_tokenizer.progress import Progress
from cosmos_tokenizer.report import ROWS, write_worst
from cosmos_tokenizer.sources import Source
from cosmos_tokenizer.tokens import Tokens, check_token_name, check_tokens, load_tokens, save_tokens
from cosmos_tokenizer.video import VIDEO_SUFFIXES, Video, check_video_name

MEDIA = "videos or pictures"


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A model ready to run, and its fingerprint as stored, which a change of dtype would alter."""

    name: str
    model: CausalTokenizer
    fingerprint: Mapping[str, str | None]


def encode(args: Namespace) -> dict[str, Any]:
    """Write a token file for every clip."""
    inputs = find_inputs(args.inputs, VIDEO_SUFFIXES | IMAGE_SUFFIXES, MEDIA)
    outputs = plan_outputs(inputs, args.output, lambda _: ".safetensors")
    for output in outputs:
        check_token_name(output)
    loaded = open_model(args)
    rows = []
    with _work(inputs) as progress:
        for path, output in zip(inputs.files, outputs, strict=True):
            with _named(path, progress):
                media = _read_for(loaded, path)
                tokens = _encoded(loaded, media, path, progress, 0.8)
                save_tokens(output, tokens)
                progress.advance(0.1)
            progress.say(f"{path} -> {output}: {tokens.frames} frames, {_shape(tokens.values)} {tokens.kind}")
            rows.append(_row(path, output, tokens))
    return {"model": loaded.name, "files": rows}


def decode(args: Namespace) -> dict[str, Any]:
    """Write a video or a picture, as it was, for every token file."""
    inputs = find_inputs(args.inputs, {".safetensors"}, "token files")
    outputs = plan_outputs(inputs, args.output, lambda path: ".png" if load_tokens(path).rate is None else ".mp4")
    if args.model is None:
        made_by = load_tokens(inputs.files[0]).model
        args.model = made_by if made_by in PRESETS else DEFAULT_MODEL
    loaded = open_model(args)
    rows = []
    with _work(inputs) as progress:
        for path, output in zip(inputs.files, outputs, strict=True):
            with _named(path, progress):
                tokens = load_tokens(path)
                _check_name(output, still=tokens.rate is None)
                check_tokens(tokens, loaded.model, fingerprint=loaded.fingerprint)
                progress.advance(0.1)
                media = _decoded(loaded, tokens, progress, 0.8)
                write_media(output, media)
                progress.advance(0.1)
            progress.say(f"{path} -> {output}: {_described(media)}")
            rows.append(_row(path, output, tokens))
    return {"model": loaded.name, "files": rows}


def reconstruct(args: Namespace) -> dict[str, Any]:
    """Write every clip as it looks after encoding and decoding."""
    inputs = find_inputs(args.inputs, VIDEO_SUFFIXES | IMAGE_SUFFIXES, MEDIA)
    outputs = plan_outputs(inputs, args.output, lambda path: ".png" if is_image(path) else ".mp4")
    for path, output in zip(inputs.files, outputs, strict=True):
        _check_name(output, still=is_image(path))
    loaded = open_model(args)
    rows = []
    with _work(inputs) as progress:
        for path, output in zip(inputs.files, outputs, strict=True):
            with _named(path, progress):
                tokens = _encoded(loaded, _read_for(loaded, path), path, progress, 0.4)
                media = _decoded(loaded, tokens, progress, 0.4)
                write_media(output, media)
                progress.advance(0.1)
            progress.say(f"{path} -> {output}: {_described(media)}")
            rows.append(_row(path, output, tokens))
    return {"model": loaded.name, "files": rows}


def evaluate(args: Namespace) -> dict[str, Any]:
    """Score every clip, print the table, and write the figures and the worst frames to `--out` where given."""
    inputs = find_inputs(args.inputs, VIDEO_SUFFIXES | IMAGE_SUFFIXES, MEDIA)
    if args.out is not None and Path(args.out).exists() and not Path(args.out).is_dir():
        raise InputError(f"{args.out}: is a file, and --out takes a folder")
    loaded = open_model(args)
    scores, samples = [], []
    with _work(inputs) as progress:
        for path in inputs.files:
            with _named(path, progress):
                frames = _read_for(loaded, path).frames
                if not scores:
                    evaluation.warm_up(loaded.model, frames)
                progress.advance(0.1)
                score, worst = evaluation.score_clip(
                    loaded.model, frames, str(path), progress=progress, samples=-(-ROWS // len(inputs.files))
                )
            scores.append(score)
            samples = sorted([*samples, *worst], key=lambda sample: sample.psnr)[:ROWS]
    print(evaluation.table(scores))
    result: dict[str, Any] = {
        "model": loaded.name,
        "device": str(loaded.model.device),
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "mean": evaluation.summary(scores),
        "files": [evaluation.row(score) for score in scores],
        "definitions": evaluation.DEFINITIONS,
    }
    if args.out is not None:
        figures, picture = Path(args.out) / "metrics.json", Path(args.out) / "worst.png"
        write_whole(figures, to_json(result, indent=2).encode())
        write_worst(picture, samples)
        print(f"{figures} and {picture} written")
        result["written"] = [str(figures), str(picture)]
    return result


def open_model(args: Namespace) -> Loaded:
    """Load `--model` on `--device`, and change its weights to `--dtype` where one is asked for.

    Raises:
        InputError: as for `load`.
    """
    model = load(source_of(args.model), preset=args.preset, device=args.device)
    fingerprint = model.fingerprint
    if args.dtype is not None:
        model = model.to(getattr(torch, args.dtype))
    return Loaded(name=str(args.model), model=model, fingerprint=fingerprint)


def source_of(text: str) -> Source:
    """Return what `load` takes: a pair of files where `ENCODER,DECODER` are two and not one file of that name."""
    encoder, comma, decoder = text.partition(",")
    return (encoder, decoder) if comma and not Path(text).exists() else text


@contextmanager
def _work(inputs: Inputs) -> Iterator[Progress]:
    with Progress(len(inputs.files)) as progress, torch.inference_mode():
        yield progress


@contextmanager
def _named(path: Path, progress: Progress) -> Iterator[None]:
    """Begin one file; errors that do not name a file yet name this one."""
    progress.start(str(path))
    try:
        yield
    except InputError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error


def _read_for(loaded: Loaded, path: Path) -> Video:
    media = read_media(path, room=room_for_frames(loaded.model))
    if loaded.model.config.media == "image" and media.rate is not None:
        raise InputError(
            f"{path}: is a video, and {loaded.name} takes pictures; use a video model such as nano-cv4x8x8"
        )
    return media


def _encoded(loaded: Loaded, media: Video, path: Path, progress: Progress, share: float) -> Tokens:
    progress.advance(0.1)
    with progress.follow(loaded.model.encoder, share):
        values = loaded.model.encode(to_clip(media.frames, loaded.model.device))[0]
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        raise InputError(f"{path}: its latents are not finite in {values.dtype}; try --dtype float32")
    return Tokens(
        values=values,
        frames=media.frames.shape[0],
        size=(media.frames.shape[1], media.frames.shape[2]),
        rate=media.rate,
        geometry=loaded.model.geometry,
        fingerprint=loaded.fingerprint,
        model=loaded.name,
        source=path.name,
    )


def _decoded(loaded: Loaded, tokens: Tokens, progress: Progress, share: float) -> Video:
    with progress.follow(loaded.model.decoder, share):
        values = tokens.values.to(loaded.model.device)[None]
        clip = loaded.model.decode(values, frames=tokens.frames, size=tokens.size)
    return Video(frames=to_frames(clip), rate=tokens.rate)


def _check_name(output: Path, *, still: bool) -> None:
    if still:
        check_image_name(output)
    else:
        check_video_name(output)


def _row(path: Path, output: Path, tokens: Tokens) -> dict[str, Any]:
    return {
        "input": str(path),
        "output": str(output),
        "frames": tokens.frames,
        "height": tokens.size[0],
        "width": tokens.size[1],
        "rate": None if tokens.rate is None else str(tokens.rate),
        "kind": tokens.kind,
        "token_shape": list(tokens.values.shape),
    }


def _described(media: Video) -> str:
    count, height, width, _ = media.frames.shape
    return (
        f"{width}x{height} picture" if media.rate is None else f"{count} frames of {width}x{height}, {media.rate} fps"
    )


def _shape(values: Tensor) -> str:
    return "x".join(map(str, values.shape))

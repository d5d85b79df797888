"""The commands that move clips: encode, decode, reconstruct and evaluate. Each returns what `--json` prints."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmos_tokenizer import evaluate as evaluation
from cosmos_tokenizer.atomic import write_whole
from cosmos_tokenizer.checkpoint import load
from cosmos_tokenizer.cli import DEFAULT_MODEL
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.folders import RATE, find_clips, open_clip
from cosmos_tokenizer.images import IMAGE_SUFFIXES, is_image
from cosmos_tokenizer.inputs import Inputs, find_inputs, plan_outputs
from cosmos_tokenizer.jsontext import to_json
from cosmos_tokenizer.media import check_media_name, in_pieces, media_writer
from cosmos_tokenizer.metrics import LPIPS, RESAMPLES, ImageFeatures, VideoFeatures
from cosmos_tokenizer.model import CausalTokenizer
from cosmos_tokenizer.observations import Networks, Observations, sentence
from cosmos_tokenizer.passes import Passes, passes_of
from cosmos_tokenizer.presets import PRESETS
from cosmos_tokenizer.progress import Progress
from cosmos_tokenizer.report import ROWS, write_worst
from cosmos_tokenizer.sources import Source
from cosmos_tokenizer.token_files import TokenInfo, TokenReader, token_writer
from cosmos_tokenizer.tokens import check_maker, check_range, check_token_name
from cosmos_tokenizer.video import VIDEO_SUFFIXES, Footage

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
    loaded = _open_folded(args)
    rows = []
    with _work(inputs) as progress:
        for path, output in zip(inputs.files, outputs, strict=True):
            with _clip(loaded, path, args, progress) as (footage, passes, counted), token_writer(output) as writer:
                for values in passes.encode(counted.each(in_pieces(footage.frames, passes.frames))):
                    writer.push(values[0])
                info = _info(loaded, footage, counted.frames, path, passes)
                writer.finish(info)
            row = _row(path, output, info, passes)
            progress.say(
                f"{path} -> {output}: {info.frames} frames, {'x'.join(map(str, row['token_shape']))} {row['kind']}"
            )
            rows.append(row)
    return {"model": loaded.name, "files": rows}


def decode(args: Namespace) -> dict[str, Any]:
    """Write a video or a picture, as it was, for every token file."""
    inputs = find_inputs(args.inputs, {".safetensors"}, "token files")
    outputs = plan_outputs(inputs, args.output, lambda path: ".png" if TokenReader(path).info.rate is None else ".mp4")
    if args.model is None:
        made_by = TokenReader(inputs.files[0]).info.model
        args.model = made_by if made_by in PRESETS else DEFAULT_MODEL
    loaded = _open_folded(args)
    rows = []
    with _work(inputs) as progress:
        for path, output in zip(inputs.files, outputs, strict=True):
            with _named(path, progress):
                reader = TokenReader(path)
                info = reader.info
                check_media_name(output, still=info.rate is None)
                check_maker(info, reader.kind, reader.shape, loaded.model, fingerprint=loaded.fingerprint)
                passes = passes_of(loaded.model, info.size, exact=args.exact, tile=args.tile)
                tokens = passes.split(_in_range(reader, loaded.model))
                with (
                    _counting(passes, info.frames, path, progress) as counted,
                    media_writer(output, size=info.size, rate=info.rate) as add,
                ):
                    for frames in counted.each(passes.decode(tokens, frames=info.frames)):
                        add(frames)
            progress.say(f"{path} -> {output}: {_described(info)}")
            rows.append(_row(path, output, info, passes))
    return {"model": loaded.name, "files": rows}


def reconstruct(args: Namespace) -> dict[str, Any]:
    """Write every clip as it looks after encoding and decoding."""
    inputs = find_inputs(args.inputs, VIDEO_SUFFIXES | IMAGE_SUFFIXES, MEDIA)
    outputs = plan_outputs(inputs, args.output, lambda path: ".png" if is_image(path) else ".mp4")
    for path, output in zip(inputs.files, outputs, strict=True):
        check_media_name(output, still=is_image(path))
    loaded = _open_folded(args)
    rows = []
    with _work(inputs) as progress:
        for path, output in zip(inputs.files, outputs, strict=True):
            with (
                _clip(loaded, path, args, progress) as (footage, passes, counted),
                media_writer(output, size=footage.size, rate=footage.rate) as add,
            ):
                written = 0
                for frames in passes.decode(passes.encode(counted.each(in_pieces(footage.frames, passes.frames)))):
                    add(frames[: counted.frames - written])  # behind the clip's end, the last latent frame is padding
                    written += len(frames)
                info = _info(loaded, footage, counted.frames, path, passes)
            progress.say(f"{path} -> {output}: {_described(info)}")
            rows.append(_row(path, output, info, passes))
    return {"model": loaded.name, "files": rows}


def evaluate(args: Namespace) -> dict[str, Any]:
    """Score every clip, print the table, and write the figures and the worst frames to `--out` where given."""
    inputs = find_clips(args.inputs)
    if args.out is not None and Path(args.out).exists() and not Path(args.out).is_dir():
        raise InputError(f"{args.out}: is a file, and --out takes a folder")
    _check_counts(args, inputs)
    loaded = _open_folded(args)
    observed = _observations(args, loaded.model)
    share = -(-ROWS // len(inputs.files))
    scores, samples = [], []
    with _work(inputs) as progress:
        if sequences := sum(path.is_dir() for path in inputs.files):
            progress.say(f"{sequences} folders of pictures are taken as clips of {RATE} frames per second")
        for path in inputs.files:
            with _clip(loaded, path, args, progress) as (footage, passes, counted):
                if not scores:
                    with open_clip(path) as again:
                        evaluation.warm_up(passes, again)
                watching = observed.begin(still=footage.rate is None)
                score, worst = evaluation.score_clip(
                    passes, footage, str(path), samples=share, done=counted, observed=watching
                )
            scores.append(score)
            samples = sorted([*samples, *worst], key=lambda sample: sample.psnr)[:ROWS]
    print(evaluation.table(scores, observed))
    distances = _distances(observed)
    result: dict[str, Any] = {
        "model": loaded.name,
        "device": str(loaded.model.device),
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "mean": evaluation.summary(scores, observed),
        **distances,
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


def _check_counts(args: Namespace, inputs: Inputs) -> None:
    """Refuse before the work begins: one picture, or one video, is no set that could be compared."""
    pictures = sum(is_image(path) and not path.is_dir() for path in inputs.files)
    for option, path, what, count in (
        ("--fid-network", args.fid_network, "pictures", pictures),
        ("--fvd-network", args.fvd_network, "videos", len(inputs.files) - pictures),
    ):
        if path is not None and count < 2:
            raise InputError(f"{option} compares sets of {what}, and the inputs hold {count}; give two or more")


def _observations(args: Namespace, model: CausalTokenizer) -> Observations:
    networks = Networks(
        fid=None if args.fid_network is None else ImageFeatures(args.fid_network, model.device),
        fvd=None if args.fvd_network is None else VideoFeatures(args.fvd_network, model.device),
        lpips=None if args.lpips_network is None else LPIPS(args.lpips_network, model.device),
    )
    return Observations(model.config.levels if model.config.kind == "discrete" else None, networks)


def _distances(observed: Observations) -> dict[str, Any]:
    """Print and return the distances of feature sets, of those that were asked for."""
    distances = {}
    for name, pairs in (("rFID", observed.pictures), ("rFVD", observed.clips)):
        if pairs is not None:
            with Progress(1) as progress:
                progress.start(f"interval of {name}")
                with progress.counting(RESAMPLES) as count:
                    distances[name.lower()] = pairs.result(done=count)
            print(sentence(name, distances[name.lower()]))
    return distances


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


def _open_folded(args: Namespace) -> Loaded:
    """Open the model in its inference form."""
    loaded = open_model(args)
    return replace(loaded, model=loaded.model.fold())


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


@contextmanager
def _clip(
    loaded: Loaded, path: Path, args: Namespace, progress: Progress
) -> Iterator[tuple[Footage, Passes, "_Counted"]]:
    """Begin a clip: its frames, its way through the model, and who counts them."""
    with _named(path, progress), open_clip(path) as footage:
        if loaded.model.config.media == "image" and footage.rate is not None:
            raise InputError(
                f"{path}: is a video, and {loaded.name} takes pictures; use a video model such as nano-cv4x8x8"
            )
        passes = passes_of(loaded.model, footage.size, exact=args.exact, tile=args.tile)
        with _counting(passes, footage.announced, path, progress) as counted:
            yield footage, passes, counted


class _Counted:
    """Counts the frames of one clip, for the progress bar, and says once that they are more than the window covers."""

    def __init__(self, passes: Passes, path: Path, progress: Progress, count: Callable[[int], None]) -> None:
        self.frames = 0
        self._passes, self._path, self._progress, self._count = passes, path, progress, count

    def __call__(self, more: int) -> None:
        before, self.frames = self.frames, self.frames + more
        if not self._passes.bounds(before) and self._passes.bounds(self.frames):
            window = self._passes.window
            self._progress.say(
                f"{self._path}: is longer than {self._passes.exact_frames} frames ({window} latent frames), so "
                f"temporal attention looks back {window} latent frames at most; --exact keeps them all, in memory that "
                "grows with the clip"
            )
        self._count(more)

    def each(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for piece in pieces:
            self(len(piece))
            yield piece


@contextmanager
def _counting(passes: Passes, announced: int | None, path: Path, progress: Progress) -> Iterator[_Counted]:
    with progress.counting(announced) as count:
        yield _Counted(passes, path, progress, count)


def _in_range(reader: TokenReader, model: CausalTokenizer) -> Iterator[Tensor]:
    for values in reader.parts():
        check_range(values, model)
        yield values


def _info(loaded: Loaded, footage: Footage, frames: int, path: Path, passes: Passes) -> TokenInfo:
    return TokenInfo(
        frames=frames,
        size=footage.size,
        rate=footage.rate,
        geometry=loaded.model.geometry,
        fingerprint=loaded.fingerprint,
        model=loaded.name,
        source=path.name,
        window=passes.window if passes.bounds(frames) else None,
        tile=None if passes.tiles is None else passes.tiles.size,
    )


def _row(path: Path, output: Path, info: TokenInfo, passes: Passes) -> dict[str, Any]:
    return {
        "input": str(path),
        "output": str(output),
        "frames": info.frames,
        "height": info.size[0],
        "width": info.size[1],
        "rate": None if info.rate is None else str(info.rate),
        "kind": passes.model.config.kind,
        "token_shape": list(passes.token_shape(info.frames)),
        "window": passes.window if passes.bounds(info.frames) else None,
    }


def _described(info: TokenInfo) -> str:
    size = f"{info.size[1]}x{info.size[0]}"
    return f"{size} picture" if info.rate is None else f"{info.frames} frames of {size}, {info.rate} fps"

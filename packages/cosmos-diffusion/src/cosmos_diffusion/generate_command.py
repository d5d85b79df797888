"""`cosmos-diffusion generate`: text, a video or a picture to a video of what happens, with metadata beside it."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cosmos_diffusion import lora
from cosmos_diffusion.checkpoint import load
from cosmos_diffusion.checkpoint_commands import config_of
from cosmos_diffusion.codecs import load_codec, what_to_give
from cosmos_diffusion.embedding_files import read_embedding
from cosmos_diffusion.generate_parts import guard_of, notices, settings_of, team_of, text_encoder_of, upsampler_of
from cosmos_diffusion.generation_files import METADATA, check_output, clip_files, clip_name, write_clip
from cosmos_diffusion.last_frames import read_last_frames_of_views, read_picture
from cosmos_diffusion.long_video import LongVideo
from cosmos_diffusion.long_video_command import chunk_frames, chunks_asked, write_long_video
from cosmos_diffusion.out_of_memory import Run, is_out_of_memory, way_out
from cosmos_diffusion.parallel import processes
from cosmos_diffusion.pipelines import Generation, Pipeline, Placement, Request, Settings, Text2World, Video2World
from cosmos_diffusion.pipelines.request import check_seeds, complete
from cosmos_diffusion.samplers import Callback
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import ContinuousCodec, InputError
from cosmos_tokenizer.progress import Progress

_MOST_FRAMES = 9
"""Frames of a video that are given where a person says nothing; the pipeline takes as many of them as fit."""

_READ = ("image", "config", "embeddings", "negative_embeddings", "upsampler_key_file", "lora", "model", "tokenizer")
"""Options that name what is read, a file or not."""


def generate(args: Namespace) -> dict[str, Any]:
    """Write the clips and say how each was made: what `--json` prints. Of several processes, the first one does."""
    with processes():
        first = not dist.is_initialized() or dist.get_rank() == 0
        args.json = args.json and first
        with nullcontext() if first else redirect_stdout(StringIO()):
            return _generate(args, write=first)


def _generate(args: Namespace, *, write: bool) -> dict[str, Any]:
    _check(args)
    video, rate = _given(args)
    settings = settings_of(args, rate)
    world, codec, source = _models(args, began=video is not None)
    chunk = chunk_frames(args, world.defaults.frames, codec.geometry)
    settings |= {} if chunk is None else {"frames": chunk}
    request = complete(world.config, world.defaults, codec.geometry, settings)
    check_output(args.out, frames=args.frames or request.frames, inputs=())
    if args.fps is not None or rate is None:
        rate = Fraction(str(request.fps))
    files: list[dict[str, Any]] = []
    with (
        _memory_errors(args, world, codec, request),
        _pipeline(args, world, codec, source, request, began=video is not None) as pipeline,
        Progress(len(args.seed) * request.steps * chunks_asked(args, codec.geometry, chunk)) as progress,
    ):
        progress.start(args.out)

        def listed(path: Path, names: list[Path], told: dict[str, Any]) -> None:
            files.append({"metadata": str(path.with_suffix(METADATA)), "out": [str(name) for name in names], **told})
            for line in notices(told):
                progress.say(line)
            guard = "on" if told["guard"]["on"] else "off"
            for name in names:
                size = f"{request.width}x{request.height}"
                progress.say(f"{name}: {told['frames']} frames of {size}, seed {told['seed']}, guard {guard}")

        def keep(made: Generation) -> None:
            told = _told(made)
            path = clip_name(args.out, told["seed"], len(args.seed))
            names = write_clip(path, made.video, told, rate=rate, views=told["views"]) if write else []
            listed(path, names, told)

        def step(_: object) -> None:
            progress.advance(1.0)

        if chunk is None:
            _run(args, pipeline, video, settings, step, keep)
        else:
            maker = LongVideo(pipeline, callback=step, **_words(args), **settings)
            for seed in args.seed:
                path = clip_name(args.out, seed, len(args.seed))
                listed(path, *write_long_video(maker, args, path, video=video, seed=seed, rate=rate, write=write))
    return {"model": args.model, "files": files}


def _check(args: Namespace) -> None:
    """What is wrong with names and can be told before anything is read."""
    videos = args.video or []
    others = [getattr(args, name) for name in _READ]
    inputs = [*videos, *(other for other in others if other)]
    check_output(args.out, frames=args.frames, inputs=inputs)
    for name in (clip_name(args.out, seed, len(args.seed)) for seed in args.seed):
        for written in clip_files(name, len(videos)):
            check_output(written, frames=args.frames, inputs=inputs)
    check_seeds(args.seed)
    if args.cache is not None:
        Placement(cache=args.cache, in_turn=args.in_turn)
    if len(set(args.seed)) < len(args.seed):
        raise InputError(f"--seed names {' '.join(map(str, args.seed))}: give each once")
    if args.condition_frames is not None and not args.video:
        raise InputError("--condition-frames is given without --video: leave it out")
    if args.augment is not None and not (args.video or args.image):
        raise InputError("--augment is of given frames: give a --video or an --image, or leave it out")


def _given(args: Namespace) -> tuple[Tensor | None, Fraction | None]:
    """Frames to begin with, and the rate of their file."""
    if args.image is not None:
        return read_picture(args.image), None
    if not args.video:
        return None, None
    asked = args.condition_frames
    return read_last_frames_of_views(args.video, max(1, asked or _MOST_FRAMES), least=asked or 1)


def _models(args: Namespace, *, began: bool) -> tuple[WorldModel, ContinuousCodec, str]:
    """World model and tokenizer, on the CPU, and the tokenizer's name."""
    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    world = load(args.model, dtype=dtype, config=config_of(args.config))
    if began and not world.config.condition_mask:
        raise InputError(f"{args.model} takes text alone: use a video2world model, or leave --video and --image out")
    views = max(1, world.config.views)
    if args.video and len(args.video) != views:
        raise InputError(f"{len(args.video)} videos are given, and {args.model} has {views} views: give one of each")
    source = args.tokenizer or world.defaults.tokenizer
    if args.lora is not None:
        lora.load(world, args.lora)
        lora.merge(world)
        lora.remove(world)
    kind = world.config.prediction
    if source is None:
        raise InputError(f"{args.model} does not name its tokenizer: give --tokenizer {what_to_give(kind)}")
    return world, load_codec(source, prediction=kind, dtype=dtype), source


def _pipeline(
    args: Namespace, world: WorldModel, codec: ContinuousCodec, source: str, request: Request, *, began: bool
) -> Pipeline:
    team = team_of(args, world, codec.geometry, request, began=began)
    device = args.device or ("cpu" if team is None else str(team.device))
    return (Video2World if began else Text2World)(
        world,
        codec=codec,
        text_encoder=text_encoder_of(args, world, device),
        guard=guard_of(args.guard),
        upsampler=upsampler_of(args, device),
        placement=Placement(
            device=args.device, offload=args.offload, weights=args.weights, in_turn=args.in_turn, cache=args.cache
        ),
        team=team,
        names={"model": args.model, "tokenizer": source, "lora": args.lora},
    )


def _run(
    args: Namespace,
    pipeline: Pipeline,
    video: Tensor | None,
    settings: Settings,
    callback: Callback,
    on_clip: Callable[[Generation], object],
) -> None:
    common = {**_words(args), "seeds": args.seed, "callback": callback, "on_clip": on_clip, **settings}
    if isinstance(pipeline, Video2World):
        pipeline(args.prompt, video=video, condition_frames=args.condition_frames, augment=args.augment, **common)
    else:
        assert isinstance(pipeline, Text2World)
        pipeline(args.prompt, **common)


def _words(args: Namespace) -> dict[str, Any]:
    """What is said beside the prompt."""
    files = {name: getattr(args, name) for name in ("embeddings", "negative_embeddings")}
    read = {name: None if file is None else read_embedding(file) for name, file in files.items()}
    return {"negative": args.negative, **read}


def _told(made: Generation) -> dict[str, Any]:
    """Metadata of a generation of one clip, flat."""
    shared = {name: value for name, value in made.metadata.items() if name not in ("clips", "cancelled")}
    return shared | made.metadata["clips"][0]


@contextmanager
def _memory_errors(args: Namespace, world: WorldModel, codec: ContinuousCodec, request: Request) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        geometry = codec.geometry
        run = Run(
            config=world.config,
            frames=request.frames,
            height=request.height,
            width=request.width,
            compression=(geometry.temporal, geometry.spatial),
            device=args.device or ("cuda" if dist.is_initialized() and torch.cuda.is_available() else "cpu"),
            dtype=str(world.net.dtype).removeprefix("torch."),
            offload=args.offload,
            weights=args.weights,
            in_turn=args.in_turn,
        )
        raise InputError(f"out of memory; {way_out(run)}") from error

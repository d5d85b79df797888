"""`cosmos-diffusion generate`: text, a video or a picture to a video of what happens, with metadata beside it."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from fractions import Fraction
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_diffusion.long_video_command import add_long_video_arguments, chunk_frames, chunks_asked, write_long_video
from cosmos_diffusion.out_of_memory import Run, is_out_of_memory, way_out
from cosmos_tokenizer import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from cosmos_diffusion.chat import Chat
    from cosmos_diffusion.parallel import Team
    from cosmos_diffusion.pipelines import Generation, Guard, Pipeline, Request, Settings
    from cosmos_diffusion.samplers import Callback
    from cosmos_diffusion.text_encoders import TextEncoder
    from cosmos_diffusion.world_model import WorldModel
    from cosmos_tokenizer import CausalTokenizer

_SOURCE = "name of shipped weights, file, folder or hub id"
_MOST_FRAMES = 9
"""Frames of a video that are given where a person says nothing; the pipeline takes as many of them as fit."""


def add_generate_arguments(command: ArgumentParser) -> None:
    """The arguments of the command, but for `--json`, which all have."""
    command.add_argument(
        "--model", default="nano-video2world", metavar="SOURCE", help=f"{_SOURCE} (default nano-video2world)"
    )
    command.add_argument(
        "--out",
        required=True,
        metavar="NAME.mp4",
        help="video to write, and NAME.json beside it; of several seeds NAME-SEED.mp4, of several views "
        "NAME-view0.mp4; with --frames 1 a .png or .jpg too",
    )
    begin = command.add_mutually_exclusive_group()
    begin.add_argument(
        "--video", nargs="+", metavar="FILE", help="go on from its last frames; of a model of several views, one each"
    )
    begin.add_argument("--image", metavar="FILE", help="go on from a picture")
    command.add_argument(
        "--condition-frames",
        type=int,
        metavar="N",
        help="frames of the video that the clip begins with, 1 + a multiple of 8 (default: 9, or 1 where there are "
        "fewer)",
    )
    _add_text(command.add_argument_group("text"))
    _add_clip(command.add_argument_group("clip; what is left out is the model's own"))
    add_long_video_arguments(command.add_argument_group("more frames than the model makes at a time"))
    _add_parts(command.add_argument_group("parts and memory"))


def _add_text(group: Any) -> None:  # noqa: ANN401 - argparse does not name the class
    group.add_argument("--prompt", metavar="TEXT", help="what the clip shows (default: no text)")
    group.add_argument("--negative", metavar="TEXT", help="what it does not (default: the model's own, with a prompt)")
    group.add_argument(
        "--embeddings", metavar="FILE", help="text that cosmos-diffusion embed, or a T5, embedded before"
    )
    group.add_argument("--negative-embeddings", metavar="FILE", help="the same of the negative prompt")
    group.add_argument(
        "--text-encoder",
        metavar="SOURCE",
        help="hub id or folder of a T5, or a folder of embeddings (default: the one in the model's file, or else "
        "google-t5/t5-11b)",
    )
    group.add_argument(
        "--upsampler",
        metavar="SOURCE",
        help="language model that makes a long caption first: URL of an endpoint, folder or hub id (default: none)",
    )
    group.add_argument("--upsampler-model", metavar="NAME", help="its name at the endpoint")
    group.add_argument("--upsampler-key-file", metavar="FILE", help="file that holds the endpoint's key")
    group.add_argument(
        "--guard",
        metavar="MODULE:NAME",
        help="function without arguments that returns a guard of prompts and videos (default: none, and so it is said)",
    )


def _add_clip(group: Any) -> None:  # noqa: ANN401
    group.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="of the clip with its given ones, 1 + a multiple of 8; any number beyond the model's own length",
    )
    group.add_argument("--height", type=int, metavar="PX", help="a multiple of 16; given frames are resized")
    group.add_argument("--width", type=int, metavar="PX", help="a multiple of 16")
    group.add_argument("--fps", type=float, metavar="X", help="frames a second (default: the video's)")
    group.add_argument("--steps", type=int, metavar="N", help="of the sampler")
    group.add_argument("--seed", type=int, nargs="+", default=[0], metavar="N", help="one clip for each (default 0)")
    group.add_argument("--guidance", type=float, metavar="W", help="w of cond + w (cond - uncond); 0 is none")
    group.add_argument(
        "--guidance-convention",
        default="beyond",
        choices=("beyond", "between"),
        help="between: w is that of uncond + w (cond - uncond), as Predict2.5 has it, and 1 is none",
    )
    group.add_argument("--sampler", choices=("euler", "heun", "res_2ab", "dpmpp_2m", "unipc"))
    group.add_argument("--augment", type=float, metavar="SIGMA", help="noise level at which given frames are shown")


def _add_parts(group: Any) -> None:  # noqa: ANN401
    group.add_argument(
        "--config", metavar="CONFIG", help="preset, or JSON file, of a network whose file says too little"
    )
    group.add_argument("--tokenizer", metavar="SOURCE", help=f"{_SOURCE} (default: the one that the model names)")
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... (default cpu; under torchrun each process's GPU)")
    group.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of network and tokenizer (default: as stored)"
    )
    group.add_argument("--weights", choices=("int8", "float8"), help="keep the network's weights in eight bits")
    group.add_argument(
        "--offload",
        default="none",
        choices=("none", "components", "blocks"),
        help="have on the GPU one of text encoder, network and tokenizer at a time, or one block of the network",
    )
    group.add_argument("--in-turn", action="store_true", help="guidance as two passes instead of one larger one")
    group.add_argument("--shard", action="store_true", help="under torchrun: share the network's weights out too")
    group.add_argument("--context", choices=("ring", "ulysses"), help="under torchrun: how frames are shared out")


def generate(args: Namespace) -> dict[str, Any]:
    """Write the clips and say how each was made: what `--json` prints."""
    _check_files(args)
    # Imported here: torch takes seconds, and neither --help nor a wrong name needs any of it.
    import torch.distributed as dist

    from cosmos_diffusion.parallel import processes

    with processes():
        first = not dist.is_initialized() or dist.get_rank() == 0
        args.json = args.json and first
        with nullcontext() if first else redirect_stdout(StringIO()):
            return _generate(args, write=first)


def _check_files(args: Namespace) -> None:
    """What is wrong with names and can be told before anything is loaded."""
    from cosmos_diffusion.generation_files import check_output

    given = [*(args.video or ()), *([args.image] if args.image else ())]
    check_output(args.out, frames=args.frames, inputs=given)
    if len(set(args.seed)) < len(args.seed):
        raise InputError(f"--seed names {' '.join(map(str, args.seed))}: give each once")
    if args.condition_frames is not None and not args.video:
        raise InputError("--condition-frames is given without --video: leave it out")


def _generate(args: Namespace, *, write: bool) -> dict[str, Any]:
    from cosmos_diffusion.generation_files import check_output, clip_name, write_clip
    from cosmos_diffusion.long_video import LongVideo
    from cosmos_diffusion.pipelines.request import check_seeds
    from cosmos_tokenizer.progress import Progress

    check_seeds(args.seed)
    video, rate = _given(args)
    files: list[dict[str, Any]] = []
    with _pipeline(args, began=video is not None) as pipeline:
        settings, chunk = _settings(args, rate), chunk_frames(args, pipeline.world.defaults.frames)
        settings |= {} if chunk is None else {"frames": chunk}
        request = pipeline.request(**settings)
        check_output(args.out, frames=args.frames or request.frames, inputs=())
        if args.fps is not None or rate is None:
            rate = Fraction(str(request.fps))
        with Progress(len(args.seed) * request.steps * chunks_asked(args, pipeline.codec.geometry, chunk)) as progress:
            progress.start(str(args.out))

            def listed(path: Path, names: list[str], metadata: dict[str, Any]) -> None:
                files.append({"out": names, "metadata": str(path.with_suffix(".json")), **metadata})
                size = f"{request.width}x{request.height}"
                guard = "on" if metadata["guard"]["on"] else "off"
                for name in names:
                    frames = metadata["frames"]
                    progress.say(f"{name}: {frames} frames of {size}, seed {metadata['seed']}, guard {guard}")

            def keep(made: "Generation") -> None:
                metadata = {name: value for name, value in made.metadata.items() if name not in ("clips", "cancelled")}
                metadata |= made.metadata["clips"][0]
                path = clip_name(args.out, metadata["seed"], len(args.seed))
                names = [path]
                if write:
                    names = write_clip(path, made.video, metadata, rate=rate, views=metadata["views"])
                listed(path, [str(name) for name in names], metadata)

            def step(_: object) -> None:
                progress.advance(1.0)

            with _memory_errors(args, pipeline, request):
                if chunk is None:
                    _run(args, pipeline, video, settings, step, keep)
                else:
                    maker = LongVideo(pipeline, callback=step, **_words(args), **settings)
                    for seed in args.seed:
                        path = clip_name(args.out, seed, len(args.seed))
                        made = write_long_video(maker, args, path, video=video, seed=seed, rate=rate, write=write)
                        listed(path, made.pop("out"), made)
    return {"model": args.model, "files": files}


def _given(args: Namespace) -> "tuple[Tensor | None, Fraction | None]":
    """Frames to begin with, and the rate of their file."""
    from cosmos_diffusion.last_frames import read_last_frames_of_views, read_picture

    if args.image is not None:
        return read_picture(args.image), None
    if not args.video:
        return None, None
    least = args.condition_frames or 1
    return read_last_frames_of_views(args.video, max(least, 1 if args.condition_frames else _MOST_FRAMES), least=least)


def _settings(args: Namespace, rate: Fraction | None) -> "Settings":
    from cosmos_diffusion.guidance import Guidance
    from cosmos_diffusion.pipelines import SAMPLERS, Settings

    settings: Settings = {}
    for name in ("frames", "height", "width", "fps", "steps"):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    if args.fps is None and rate is not None:
        settings["fps"] = float(rate)
    if args.guidance is not None:
        settings["guidance"] = Guidance(weight=args.guidance, convention=args.guidance_convention)
    if args.sampler is not None:
        settings["sampler"] = SAMPLERS[args.sampler]
    return settings


def _run(
    args: Namespace,
    pipeline: "Pipeline",
    video: "Tensor | None",
    settings: "Settings",
    callback: "Callback",
    on_clip: "Callable[[Generation], object]",
) -> None:
    from cosmos_diffusion.pipelines import Text2World, Video2World

    common = {**_words(args), "seeds": args.seed, "callback": callback, "on_clip": on_clip, **settings}
    if isinstance(pipeline, Video2World):
        pipeline(args.prompt, video=video, condition_frames=args.condition_frames, augment=args.augment, **common)
    else:
        assert isinstance(pipeline, Text2World)
        pipeline(args.prompt, **common)


def _words(args: Namespace) -> dict[str, Any]:
    from cosmos_diffusion.embedding_files import read_embedding

    given = {name: getattr(args, name) for name in ("embeddings", "negative_embeddings")}
    read = {name: None if file is None else read_embedding(file) for name, file in given.items()}
    return {"negative": args.negative, **read}


@contextmanager
def _pipeline(args: Namespace, *, began: bool) -> "Iterator[Pipeline]":
    import torch

    import cosmos_tokenizer
    from cosmos_diffusion.checkpoint import load
    from cosmos_diffusion.checkpoint_commands import config_of
    from cosmos_diffusion.pipelines import Placement, Text2World, Video2World

    if args.augment is not None and not began:
        raise InputError("--augment is of given frames: give a --video or an --image, or leave it out")
    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    world = load(args.model, dtype=dtype, config=config_of(args.config))
    if began and not world.config.condition_mask:
        raise InputError(f"{args.model} takes text alone: use a video2world model, or leave --video and --image out")
    source = args.tokenizer or world.defaults.tokenizer
    if source is None:
        raise InputError(f"{args.model} does not name its tokenizer: give --tokenizer")
    codec = cosmos_tokenizer.load(source, dtype=dtype).fold()
    team = _team(args, world, codec)
    device = args.device or ("cpu" if team is None else str(team.device))
    make = Video2World if began else Text2World
    with make(
        world,
        codec=codec,
        text_encoder=_text_encoder(args, world, device),
        guard=_guard(args.guard),
        upsampler=_upsampler(args, device),
        placement=Placement(device=args.device, offload=args.offload, weights=args.weights, in_turn=args.in_turn),
        team=team,
        names={
            "model": args.model,
            "tokenizer": source,
            "dtype": str(world.net.dtype).removeprefix("torch."),
            "weights": args.weights,
            "processes": 1 if team is None else team.plan.processes,
        },
    ) as pipeline:
        if args.video and len(args.video) != pipeline.views():
            raise InputError(
                f"{len(args.video)} videos are given, and {args.model} has {pipeline.views()} views: give one of each"
            )
        yield pipeline


def _team(args: Namespace, world: "WorldModel", codec: "CausalTokenizer") -> "Team | None":
    import torch.distributed as dist

    from cosmos_diffusion.parallel import Team, plan_for

    if not dist.is_initialized() or dist.get_world_size() == 1:
        if args.shard or args.context:
            raise InputError("--shard and --context are of several processes: start them with torchrun")
        return None
    weight = world.defaults.guidance if args.guidance is None else args.guidance
    words = args.prompt or args.embeddings or args.negative or args.negative_embeddings or args.upsampler
    frames = chunk_frames(args, world.defaults.frames) or args.frames or world.defaults.frames
    plan = plan_for(
        world.config,
        dist.get_world_size(),
        frames=codec.geometry.latent_frames(max(1, frames)),
        guided=bool(weight and words),
        method=args.context,
        sharded=args.shard,
    )
    return Team(plan)


def _text_encoder(args: Namespace, world: "WorldModel", device: str) -> "TextEncoder | None":
    from cosmos_diffusion.text_encoders import PrecomputedEncoder, T5Encoder
    from cosmos_diffusion.text_encoders.t5 import T5_11B

    source = args.text_encoder
    if source is None:
        asked = args.prompt or args.negative or args.upsampler
        if world.text_encoder is not None or not asked or args.embeddings:
            return None
        source = T5_11B
    length = world.config.text_length
    path = Path(source)
    if path.is_file() or (path.is_dir() and not any(path.rglob("config.json"))):
        return PrecomputedEncoder(path, length=length)
    rest = "device" if args.offload == "none" else "disk"
    return T5Encoder(source, device=device, rest=rest, length=length)


def _guard(name: str | None) -> "Guard | None":
    from cosmos_diffusion.pipelines import Guard

    if name is None:
        return None
    module, colon, function = name.partition(":")
    try:
        made = getattr(import_module(module), function)() if colon else None
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"--guard {name}: {error}") from error
    if not isinstance(made, Guard):
        raise InputError(f"--guard {name}: give MODULE:NAME of a function that returns a guard")
    return made


def _upsampler(args: Namespace, device: str) -> "Chat | None":
    from cosmos_diffusion.chat import open_chat

    if args.upsampler is None:
        return None
    key = None if args.upsampler_key_file is None else Path(args.upsampler_key_file).read_text("utf-8").strip()
    return open_chat(args.upsampler, model=args.upsampler_model, key=key, device=device)


@contextmanager
def _memory_errors(args: Namespace, pipeline: "Pipeline", request: "Request") -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        geometry = pipeline.codec.geometry
        run = Run(
            config=pipeline.world.config,
            frames=request.frames,
            height=request.height,
            width=request.width,
            compression=(geometry.temporal, geometry.spatial),
            device=str(pipeline.places.device),
            dtype=str(pipeline.world.net.dtype).removeprefix("torch."),
            offload=args.offload,
            weights=args.weights,
            in_turn=args.in_turn,
        )
        raise InputError(f"out of memory; {way_out(run)}") from error

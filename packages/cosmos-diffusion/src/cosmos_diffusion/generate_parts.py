"""What the options of `cosmos-diffusion generate` mean: text encoder, upsampler, guard, processes, settings."""

from argparse import Namespace
from collections.abc import Mapping
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import torch.distributed as dist

from cosmos_diffusion.chat import Chat, open_chat
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.parallel import Team, plan_for
from cosmos_diffusion.pipelines import SAMPLERS, Guard, Request, Settings
from cosmos_diffusion.text_encoders import PrecomputedEncoder, T5Encoder, TextEncoder
from cosmos_diffusion.text_encoders.t5 import T5_11B
from cosmos_diffusion.world_model import WorldModel
from cosmos_tokenizer import Geometry, InputError


def settings_of(args: Namespace, rate: Fraction | None) -> Settings:
    """Settings of the clip, as far as they are given; frames a second are by default those of the video.

    Raises:
        InputError: a value is out of range, or one is given without what it is of.
    """
    settings: Settings = {}
    for name in ("frames", "height", "width", "fps", "steps", "guide_frames"):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    if args.fps is None and rate is not None:
        settings["fps"] = float(rate)
    if args.guidance is not None:
        settings["guidance"] = Guidance(weight=args.guidance, convention=args.guidance_convention or "beyond")
    elif args.guidance_convention is not None:
        raise InputError("--guidance-convention is given without --guidance: give both, or neither")
    if args.sampler is not None:
        settings["sampler"] = SAMPLERS[args.sampler]
    return settings


def team_of(args: Namespace, world: WorldModel, geometry: Geometry, request: Request, *, began: bool) -> Team | None:
    """The processes that torchrun started, or None.

    Raises:
        InputError: they are too many, or there is one, and it is told how to share.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        if args.shard or args.context:
            raise InputError("--shard and --context are of several processes: start them with torchrun")
        return None
    words = args.prompt or args.next_prompt or args.negative or args.upsampler
    words = words or args.embeddings or args.negative_embeddings
    plan = plan_for(
        world.config,
        dist.get_world_size(),
        frames=geometry.latent_frames(request.frames),
        guided=(bool(words) or (began and request.guide_frames)) and request.guidance.beyond != 0,
        method=args.context,
        sharded=args.shard,
    )
    return Team(plan)


def text_encoder_of(args: Namespace, world: WorldModel, device: str) -> TextEncoder | None:
    """An encoder, where prompts are to be embedded and the model's file has none, or another is asked for.

    Raises:
        InputError: there is none of that name.
    """
    source = args.text_encoder
    if source is None:
        asked = args.prompt or args.next_prompt or args.negative or args.upsampler
        if world.text_encoder is not None or not asked or args.embeddings:
            return None
        source = T5_11B
    path, length = Path(source), world.config.text_length
    if path.is_file() or (path.is_dir() and not any(path.rglob("config.json"))):
        return PrecomputedEncoder(path, length=length)
    return T5Encoder(source, device=device, rest="device" if args.offload == "none" else "disk", length=length)


def upsampler_of(args: Namespace, device: str) -> Chat | None:
    """A language model, where one is asked for.

    Raises:
        InputError: there is none of that name, or what belongs to one is given alone.
        OSError: the file with the key cannot be read.
    """
    if args.upsampler is None:
        if args.upsampler_model or args.upsampler_key_file:
            raise InputError("--upsampler-model and --upsampler-key-file are of an --upsampler: give one")
        return None
    key = None if args.upsampler_key_file is None else Path(args.upsampler_key_file).read_text("utf-8").strip()
    return open_chat(args.upsampler, model=args.upsampler_model, key=key, device=device)


def notices(told: Mapping[str, Any]) -> list[str]:
    """Lines on what a clip's metadata say of its text that was not asked for."""
    parts = told.get("chunks", [told])
    lines = []
    if any(part["text_cut"] for part in parts):
        lines.append("text: it is longer than the network reads, and cut there; say it in fewer words")
    if any(part["negative_left_out"] for part in parts):
        lines.append(
            "text: the model's own negative prompt needs a text encoder, and guidance leads away from no text instead; "
            "give --negative-embeddings or a --text-encoder"
        )
    return lines


def guard_of(name: str | None) -> Guard | None:
    """What a function named as MODULE:NAME returns.

    Raises:
        InputError: there is no such function, or it returns no guard.
    """
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

"""`cosmos-diffusion generate --frames N` beyond the length of a model's clips: chunk by chunk, and so written."""

from argparse import Namespace
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from cosmos_diffusion.generation_files import clip_writer
from cosmos_diffusion.long_video import LongVideo
from cosmos_diffusion.rollout import chunks_of, usual_overlap
from cosmos_tokenizer import Geometry, InputError

_OPTIONS = {"overlap": "--overlap", "drift": "--drift", "next_prompt": "--next-prompt"}


def chunk_frames(args: Namespace, own: int, geometry: Geometry) -> int | None:
    """Frames of a chunk where the video takes several, and None where it is one clip.

    Args:
        args: of the command.
        own: frames of the model's own clips.
        geometry: of the codec.

    Raises:
        InputError: something is said of chunks, and there is one; or the frames are not 1 + a multiple of 8, or two
            options say the same.
    """
    chunk = own if args.chunk is None else args.chunk
    if args.frames is not None and args.frames > chunk:
        if near := geometry.frames(geometry.latent_frames(args.frames)) - args.frames:
            raise InputError(
                f"frames is {args.frames}: give 1 + a multiple of {geometry.temporal}, such as "
                f"{args.frames + near - geometry.temporal} or {args.frames + near}"
            )
        if args.augment is not None and args.drift is not None:
            raise InputError("--augment and --drift both give noise levels: leave one of them out")
        if args.next_prompt is not None and args.embeddings is not None:
            raise InputError("--embeddings are of all chunks, and --next-prompt is of some: leave one of them out")
        return chunk
    for name, option in _OPTIONS.items():
        if getattr(args, name) is not None:
            raise InputError(f"{option} is of videos of several chunks: give more --frames than {chunk}, or a --chunk")
    if args.chunk is not None and args.frames is None:
        raise InputError("--chunk is of the parts of a longer video: give --frames")
    return None


def chunks_asked(args: Namespace, geometry: Geometry, chunk: int | None) -> int:
    """How many chunks of so many frames the video takes; 1 where it is one clip."""
    if chunk is None:
        return 1
    return chunks_of(args.frames, chunk=chunk, overlap=args.overlap or usual_overlap(geometry, chunk))


def write_long_video(
    maker: LongVideo, args: Namespace, path: Path, *, video: Tensor | None, seed: int, rate: Fraction, write: bool
) -> tuple[list[Path], dict[str, Any]]:
    """Write a video chunk by chunk, in the memory of one; nothing is left where it does not come to its end.

    Args:
        maker: of the chunks.
        args: of the command.
        path: file to write.
        video: frames that it begins with, or more of them.
        seed: of the first chunk.
        rate: frames a second.
        write: whether this process writes.

    Returns:
        Names of the files, where this process writes, and how they were made.

    Raises:
        InputError: an argument does not fit.
        OSError: a file cannot be written.
    """
    chunks = maker(
        args.frames,
        prompts=[args.prompt, *(args.next_prompt or ())],
        video=video,
        condition_frames=args.condition_frames,
        overlap=args.overlap,
        seed=seed,
        drift=args.drift if args.augment is None else [args.augment],
    )
    size = maker.request.height, maker.request.width
    said: list[dict[str, Any]] = []
    with clip_writer(path, size=size, rate=rate, views=maker.views) if write else nullcontext() as writer:
        for chunk in chunks:
            said.append(maker.said(chunk))
            if writer is not None:
                writer.push(chunk.video)
        metadata = maker.metadata(said)
        if writer is not None:
            writer.finish(metadata)
    return [] if writer is None else writer.names, metadata

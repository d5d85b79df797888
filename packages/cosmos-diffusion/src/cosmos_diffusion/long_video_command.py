"""`cosmos-diffusion generate --frames N` beyond the length of a model's clips: chunk by chunk, and so written."""

from argparse import Namespace
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_tokenizer import Geometry, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from cosmos_diffusion.long_video import LongVideo

_OPTIONS = {"chunk": "--chunk", "overlap": "--overlap", "drift": "--drift", "next_prompt": "--next-prompt"}


def add_long_video_arguments(group: Any) -> None:  # noqa: ANN401 - argparse does not name the class
    """What is said of videos of several chunks."""
    group.add_argument(
        "--chunk",
        type=int,
        metavar="N",
        help="frames that are made at a time, 1 + a multiple of 8 (default: the model's own length); more --frames "
        "than that are made in chunks, and may be any number",
    )
    group.add_argument(
        "--overlap",
        type=int,
        metavar="N",
        help="frames that a chunk is given of the one before, 1 + a multiple of 8 (default 9)",
    )
    group.add_argument(
        "--drift",
        type=float,
        nargs="+",
        metavar="SIGMA",
        help="noise levels at which each chunk is shown what it is given, the last for all that follow; 0.001 0.2 0.5 "
        "is the reference's (default: the model's own level for all)",
    )
    group.add_argument(
        "--next-prompt", nargs="+", metavar="TEXT", help="prompts of the chunks behind the first, the last for the rest"
    )


def chunk_frames(args: Namespace, own: int) -> int | None:
    """Frames of a chunk where the video takes several, and None where it is one clip.

    Args:
        args: of the command.
        own: frames of the model's own clips.

    Raises:
        InputError: something is said of chunks, and there is one.
    """
    chunk = args.chunk or own
    if args.frames is not None and args.frames > chunk:
        if args.augment is not None and args.drift is not None:
            raise InputError("--augment and --drift both give noise levels: leave one of them out")
        return chunk
    for name, option in _OPTIONS.items():
        if name != "chunk" and getattr(args, name) is not None:
            raise InputError(f"{option} is of videos of several chunks: give more --frames than {chunk}, or a --chunk")
    if args.chunk is not None and args.frames is None:
        raise InputError("--chunk is of the parts of a longer video: give --frames")
    return None


def chunks_asked(args: Namespace, geometry: Geometry, chunk: int | None) -> int:
    """How many chunks of so many frames the video takes; 1 where it is one clip."""
    from cosmos_diffusion.rollout import chunks_of, usual_overlap

    if chunk is None:
        return 1
    return chunks_of(args.frames, chunk=chunk, overlap=args.overlap or usual_overlap(geometry, chunk))


def write_long_video(
    maker: "LongVideo", args: Namespace, path: Path, *, video: "Tensor | None", seed: int, rate: Fraction, write: bool
) -> dict[str, Any]:
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
        Names of the files, and how they were made.

    Raises:
        InputError: an argument does not fit.
        OSError: a file cannot be written.
    """
    from cosmos_diffusion.generation_files import clip_writer

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
    return {"out": [str(path)] if writer is None else [str(name) for name in writer.names], **metadata}

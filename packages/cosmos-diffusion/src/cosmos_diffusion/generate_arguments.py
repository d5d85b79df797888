"""What `cosmos-diffusion generate` can be told."""

from argparse import ArgumentParser, BooleanOptionalAction
from typing import Any

_SOURCE = "name of shipped weights, file, folder or hub id"


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
    _add_chunks(command.add_argument_group("more frames than the model makes at a time"))
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
        help="of the clip with its given ones, 1 + a multiple of 8, as many as you like: see below",
    )
    group.add_argument("--height", type=int, metavar="PX", help="a multiple of 16; given frames are resized")
    group.add_argument("--width", type=int, metavar="PX", help="a multiple of 16")
    group.add_argument("--fps", type=float, metavar="X", help="frames a second (default: the video's)")
    group.add_argument("--steps", type=int, metavar="N", help="of the sampler")
    group.add_argument("--seed", type=int, nargs="+", default=[0], metavar="N", help="one clip for each (default 0)")
    group.add_argument("--guidance", type=float, metavar="W", help="w of cond + w (cond - uncond); 0 is none")
    group.add_argument(
        "--guidance-convention",
        choices=("beyond", "between"),
        help="beyond (default), or between: w of uncond + w (cond - uncond), as Predict2.5 has it, and 1 is none",
    )
    group.add_argument(
        "--guide-frames",
        action=BooleanOptionalAction,
        help="guidance leads away also from what is seen without the given frames",
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
    group.add_argument(
        "--cache",
        type=float,
        metavar="THRESHOLD",
        help="leave out blocks whose work changes little from step to step: faster, and another clip; 0.1 leaves out "
        "two fifths of the steps of nano-video2world (default: none)",
    )
    group.add_argument(
        "--lora", metavar="FILE", help="adapters of the network, merged into its weights (default: none)"
    )
    group.add_argument("--in-turn", action="store_true", help="guidance as two passes instead of one larger one")
    group.add_argument("--shard", action="store_true", help="under torchrun: share the network's weights out too")
    group.add_argument("--context", choices=("ring", "ulysses"), help="under torchrun: how frames are shared out")


def _add_chunks(group: Any) -> None:  # noqa: ANN401 - argparse does not name the class
    group.add_argument(
        "--chunk",
        type=int,
        metavar="N",
        help="frames that are made at a time, 1 + a multiple of 8 (default: the model's own length); more --frames "
        "than that are made in chunks",
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

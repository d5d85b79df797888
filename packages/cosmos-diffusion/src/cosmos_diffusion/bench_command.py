"""`cosmos-diffusion bench`: how long one forward and one sample of a network take here, and the share of the peak."""

from argparse import ArgumentParser, Namespace
from typing import Any

_DTYPES = ("float32", "bfloat16", "float16")


def add_bench_arguments(command: ArgumentParser) -> None:
    """The arguments of the command, but for `--json`, which all have."""
    network = command.add_mutually_exclusive_group()
    network.add_argument(
        "--preset",
        default="nano-video2world",
        metavar="NAME",
        help="network with random weights, which take as long as any (default nano-video2world)",
    )
    network.add_argument(
        "--model", metavar="SOURCE", help="checkpoint instead: name of shipped weights, file, folder or hub id"
    )
    command.add_argument("--frames", type=int, default=33, metavar="N", help="of the clip: 1 + 8k (default 33)")
    command.add_argument("--height", type=int, default=96, metavar="PX", help="of the clip (default 96)")
    command.add_argument("--width", type=int, default=96, metavar="PX", help="of the clip (default 96)")
    command.add_argument("--steps", type=int, default=35, metavar="N", help="of the sampler (default 35)")
    command.add_argument(
        "--guidance", type=float, default=7.0, metavar="W", help="weight of guidance; 0 for none (default 7)"
    )
    command.add_argument(
        "--cache",
        type=float,
        default=0.0,
        metavar="THRESHOLD",
        help="reuse what changes less between steps (default 0)",
    )
    command.add_argument("--dtype", choices=_DTYPES, help="of the weights (default: bfloat16 on CUDA, else float32)")
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    command.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="runs, of which the median counts (default 3)"
    )


def bench(args: Namespace) -> dict[str, Any]:
    """Print the times: what `--json` prints.

    Raises:
        InputError: there is no such network or device, or the network does not take such a clip.
    """
    # Imported here: torch takes seconds, and --help needs none of it.
    import torch

    from cosmos_diffusion.bench import bench as measure
    from cosmos_diffusion.bench import published_peak, random_model
    from cosmos_diffusion.checkpoint import load
    from cosmos_diffusion.memory import latent_shape
    from cosmos_diffusion.presets import PRESETS
    from cosmos_tokenizer import InputError
    from cosmos_tokenizer.devices import available_device

    if args.repeat < 1:
        raise InputError(f"--repeat is {args.repeat}: give at least 1")
    device = available_device(args.device)
    dtype = getattr(torch, args.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    size = {"frames": args.frames, "height": args.height, "width": args.width}
    if args.model is None and args.preset not in PRESETS:
        raise InputError(f"--preset is {args.preset!r}: use one of {', '.join(PRESETS)}")
    if args.model is None:
        latent_shape(PRESETS[args.preset], **size)  # before a large network is made
        world = random_model(PRESETS[args.preset], device, dtype)
    else:
        world = load(args.model, device=device, dtype=dtype)
    told = {"steps": args.steps, "guidance": args.guidance, "repeat": args.repeat, "threshold": args.cache}
    found = measure(world, **size, **told)
    cells = latent_shape(world.config, **size)
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    result = {
        "network": args.model or args.preset,
        "weights": "random" if args.model is None else "given",
        "parameters": sum(value.numel() for value in world.net.parameters()),
        "device": on,
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        **size,
        "tokens": max(1, world.config.views) * _product(cells) // _product(world.config.patch),
        "steps": args.steps,
        "guidance": args.guidance,
        "evaluations": found.evaluations,
        "reused": found.reused,
        "forward_seconds": found.forward,
        "forward_flops": found.forward_flops,
        "sample_seconds": found.sample,
        "sample_flops": found.sample_flops,
        "peak_flops": found.peak,
        "share_of_peak": found.share,
    }
    print(f"{result['network']} ({result['weights']} weights), {result['dtype']} on {on}, threads {result['threads']}")
    print(f"clip: {args.frames} frames of {args.height}x{args.width}, {result['tokens']} tokens")
    print(f"one forward: {found.forward:.3f} s, {found.forward_flops / 1e12:.4g} TFLOP, {found.share:.0%} of the peak")
    reused = f", {found.reused} of them reused" if found.reused else ""
    print(
        f"one sample: {found.sample:.3f} s, {found.sample_flops / 1e12:.4g} TFLOP, "
        f"{args.steps} steps, {found.evaluations} evaluations{reused}"
    )
    of = "bfloat16 as published" if published_peak(device) else "the largest matrix product here"
    print(f"peak: {found.peak / 1e12:.4g} TFLOP/s, {of}")
    return result


def _product(numbers: tuple[int, int, int]) -> int:
    return numbers[0] * numbers[1] * numbers[2]

"""`cosmos-posttrain estimate --model NAME --gpus N`: what a run takes, before it is paid for."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from cosmos_posttrain.estimate.cards import CARDS
from cosmos_tokenizer import InputError

if TYPE_CHECKING:  # torch takes seconds, and --help needs none of it
    from cosmos_posttrain.estimate.models import Clip, Model

_CARD, _STEPS, _EFFICIENCY = "h100", 10_000, 0.4
_TRAINING = ("gpus", "context", "shard", "lora", "steps", "gpu", "peak_tflops", "efficiency")
"""Arguments that sampling has no use for; each is None where it is not given."""


def add_estimate_arguments(command: ArgumentParser) -> None:
    """The arguments of the command, but for `--json`, which all have."""
    command.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="preset of cosmos-diffusion or cosmos-tokenizer, shipped weights, or a checkpoint's path",
    )
    command.add_argument("--gpus", type=int, metavar="N", help="in all (default 1)")
    for name, what in (("frames", "of a clip"), ("height", "in pixels"), ("width", "in pixels")):
        command.add_argument(f"--{name}", type=int, metavar="N", help=f"{what} (default: what the model is trained on)")
    command.add_argument(
        "--batch", type=int, default=1, metavar="N", help="clips of a step for each group of --context GPUs (default 1)"
    )
    command.add_argument("--context", type=int, metavar="N", help="GPUs that share a clip's latent frames (default 1)")
    command.add_argument(
        "--shard", type=int, metavar="N", help="GPUs that one copy of the weights is shared out to (default: all)"
    )
    command.add_argument(
        "--lora", type=int, metavar="RANK", help="train adapters on queries and values, not the weights"
    )
    command.add_argument("--steps", type=int, metavar="N", help=f"of the run (default {_STEPS})")
    command.add_argument("--gpu", choices=CARDS, metavar="CARD", help=f"{', '.join(CARDS)} (default {_CARD})")
    command.add_argument(
        "--peak-tflops", type=float, metavar="X", help="of one GPU, dense in bfloat16, instead of the card's"
    )
    command.add_argument(
        "--efficiency", type=float, metavar="X", help=f"assumed share of the peak (default {_EFFICIENCY})"
    )
    command.add_argument(
        "--inference", action="store_true", help="peak memory of sampling by option instead, of a world model"
    )


def estimate(args: Namespace) -> dict[str, Any]:
    """Print the estimate and return what `--json` prints."""
    from cosmos_posttrain.estimate.models import Clip, find_model

    if args.inference:
        _check_inference(args)
    model = find_model(args.model)
    asked = {name: getattr(args, name) for name in ("frames", "height", "width")}
    clip = Clip(**{name: getattr(model.clip, name) if value is None else value for name, value in asked.items()})
    return _inference(args, model, clip) if args.inference else _training(args, model, clip)


def _training(args: Namespace, model: "Model", clip: "Clip") -> dict[str, Any]:
    from cosmos_posttrain.estimate import training

    gpus, context = (1 if value is None else value for value in (args.gpus, args.context))
    steps = _STEPS if args.steps is None else args.steps
    efficiency = _EFFICIENCY if args.efficiency is None else args.efficiency
    plan = training.Plan(gpus=gpus, context=context, shard=args.shard, batch=args.batch, lora=args.lora)
    found = training.estimate(model, plan, clip)
    card = CARDS[args.gpu or _CARD] if args.gpu or args.peak_tflops is None else None
    tflops = args.peak_tflops if args.peak_tflops is not None else CARDS[args.gpu or _CARD].tflops
    hours = found.hours(steps, tflops=tflops, efficiency=efficiency)
    result = found.as_json() | {
        "steps": steps,
        "gpu": args.gpu or (_CARD if card else None),
        "gpu_gb": card and card.gb,
        "peak_tflops": tflops,
        "efficiency": efficiency,
        "hours": hours,
        "gpu_hours": hours * gpus,
    }
    print("\n".join(_lines(result)))
    return result


def _lines(said: dict[str, Any]) -> list[str]:
    """An estimate for people to read."""
    gpus, each = said["gpus"], said["per_gpu"]
    trained = f" and {said['trained_parameters']:,} trained beside them" if said["lora"] else ""
    clips = f"{_count(said['batch'], 'clip')} of {said['frames']} x {said['height']} x {said['width']}"
    group = "GPU" if said["context"] == 1 else f"group of {said['context']} GPUs"
    lines = [
        f"{said['model']}, a {said['kind']}: {said['parameters']:,} parameters{trained}",
        f"{clips} for each {group}; weights shared out to {said['shard']} of {_count(gpus, 'GPU')}",
        f"{'GB':12}{'one copy':>12}{'on a GPU':>12}{'on all':>12}",
    ]
    for name in ("weights", "gradients", "optimizer", "activations", "total"):
        key = f"{name}_gb"
        lines.append(f"{name:12}{said[key]:12.1f}{each[key]:12.1f}{each[key] * gpus:12.1f}")
    card = f"{said['gpu']}, " if said["gpu"] else ""
    rate = f"{card}{said['peak_tflops']:g} TFLOP/s each, at an assumed efficiency of {said['efficiency']:g}"
    lines += [
        f"{said['flops'] / 1e15:,.2f} PFLOP a step of {_count(said['clips_per_step'], 'clip')}",
        f"{said['hours']:,.1f} hours for {_count(said['steps'], 'step')} on {_count(gpus, 'GPU')} ({rate}), "
        f"{said['gpu_hours']:,.0f} GPU hours",
    ]
    if said["gpu_gb"]:
        fits = "fit in" if each["total_gb"] < said["gpu_gb"] else "do not fit in"
        lines.append(f"{each['total_gb']:.1f} GB, without what allocator and kernels add, {fits} {said['gpu_gb']:g} GB")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _check_inference(args: Namespace) -> None:
    given = [f"--{name.replace('_', '-')}" for name in _TRAINING if getattr(args, name) is not None]
    if given:
        raise InputError(f"{', '.join(given)}: of training alone, and --inference is about sampling: leave them out")
    if args.batch < 1:
        raise InputError(f"batch is {args.batch}: give a number from 1 up")


def _inference(args: Namespace, model: "Model", clip: "Clip") -> dict[str, Any]:
    from cosmos_diffusion import DiTConfig
    from cosmos_diffusion.memory import as_json, as_table, options

    if not isinstance(model.config, DiTConfig):
        raise InputError(f"{model.name} is a tokenizer: --inference is about world models")
    size = (clip.frames, clip.height, clip.width)
    rows = options(model.config, *size, batch=args.batch, compression=model.compression)
    what = f"{_count(args.batch, 'clip')} of {' x '.join(map(str, size))}"
    print(f"{model.name}: peak memory in GB of sampling {what}, guided, the network alone on the device unless said")
    print(as_table(rows))
    return {"model": model.name, "frames": size[0], "height": size[1], "width": size[2], "options": as_json(rows)}

"""`cosmos-posttrain evaluate [MODEL] --worlds DIR`: a world model's predictions of rendered clips beside baselines."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any


def add_evaluate_arguments(command: ArgumentParser) -> None:
    """The arguments of the command, but for `--json`, which all have."""
    command.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="video2world model, anything cosmos_diffusion.load takes (default: baselines and ceiling alone)",
    )
    command.add_argument(
        "--worlds", type=Path, required=True, metavar="DIR", help="folder that cosmos-posttrain worlds filled"
    )
    command.add_argument(
        "--conditioning", type=int, nargs="+", default=[1, 9], metavar="N", help="frames given (default 1 9)"
    )
    command.add_argument("--seeds", type=int, default=1, metavar="N", help="predictions of each clip (default 1)")
    command.add_argument("--steps", type=int, metavar="N", help="of the sampler (default: the model's)")
    command.add_argument("--guidance", type=float, metavar="W", help="its weight (default: the model's)")
    command.add_argument("--limit", type=int, metavar="N", help="clips at most, scenes in turn (default: all)")
    command.add_argument(
        "--tokenizer",
        metavar="SOURCE",
        help="of the ceiling, anything cosmos_tokenizer.load takes (default: the model's, or nano-cv8x8x8); of the "
        "model too where it is a released one: of Predict2 a hub id or a folder of diffusers' AutoencoderKLWan",
    )
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    command.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    command.add_argument("--out", type=Path, metavar="FILE.json", help="write all figures, of each clip too")


def evaluate_worlds(args: Namespace) -> dict[str, Any]:
    """Print the tables and return what `--json` prints."""
    # Imported here: torch takes seconds, and --help needs none of it.
    import torch

    import cosmos_tokenizer
    from cosmos_posttrain.evaluate import physics, summary, tables, world_clips
    from cosmos_posttrain.evaluate.ceiling import round_trip
    from cosmos_tokenizer import InputError
    from cosmos_tokenizer.atomic import write_whole
    from cosmos_tokenizer.devices import available_device
    from cosmos_tokenizer.jsontext import to_json

    for name in ("seeds", "limit", "threads"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise InputError(f"--{name} is {getattr(args, name)}; give 1 or more")
    if args.model is None and (args.steps is not None or args.guidance is not None):
        raise InputError("--steps and --guidance are a model's; name one, or leave them out")
    if args.out is not None and (args.out.is_dir() or not args.out.parent.is_dir()):
        raise InputError(f"--out is {args.out}: name a file in a folder that is there")
    conditioning = sorted(set(args.conditioning))
    clips = world_clips.find_clips(args.worlds, limit=args.limit)
    world_clips.check_lengths(clips, conditioning)
    available_device(args.device)
    if args.threads is not None:
        torch.set_num_threads(args.threads)

    predictor = about = None
    if args.model is not None:
        from cosmos_posttrain.evaluate.world_model import WorldModelPredictor

        predictor = WorldModelPredictor(
            args.model, tokenizer=args.tokenizer, steps=args.steps, guidance=args.guidance, device=args.device
        )
        about = predictor.settings()
    codec = predictor.codec if predictor is not None else None
    if codec is None or (args.tokenizer is not None and predictor is not None and predictor.names_tokenizer):
        codec = cosmos_tokenizer.load(args.tokenizer or "nano-cv8x8x8", device=args.device)
    rows = physics.evaluate(
        clips,
        predictor=predictor,
        round_trip=round_trip(codec, device=args.device),
        conditioning=conditioning,
        seeds=range(args.seeds),
    )
    summaries = [summary.summarise(rows, given) for given in conditioning]
    for each in summaries:
        print(f"\n{each.given} conditioning frame{'s' * (each.given > 1)}, {each.clips} clips\n")
        print(tables.table(each))
        print(f"\n{tables.verdict(each)}")
    result = {
        "model": args.model,
        "sampling": about,
        "worlds": str(args.worlds),
        "clips": len(clips),
        "seeds": args.seeds,
        "conditioning": tables.plain(summaries),
    }
    if args.out is not None:
        write_whole(args.out, (to_json({**result, "rows": tables.plain_rows(rows)}, indent=1) + "\n").encode())
        print(f"wrote {args.out}")
    return result

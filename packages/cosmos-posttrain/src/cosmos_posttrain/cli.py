"""The command line: `cosmos-posttrain pool | train | estimate | compare | worlds | evaluate`.

Exit codes and streams are those of `cosmos_tokenizer.commandline`.
"""

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cosmos_posttrain._version import __version__
from cosmos_posttrain.estimate.command import add_estimate_arguments, estimate
from cosmos_posttrain.evaluate_command import add_evaluate_arguments, evaluate_worlds
from cosmos_tokenizer import InputError
from cosmos_tokenizer.commandline import Parser, run_command

MOST_VALUES = 2**27
"""Samples that the blocks of a PCA hold at most: 1 GiB."""

SCENES = "free-fall, tilted-plane, u-slope, stable-stack, unstable-stack, dominoes, seesaw, gyroscope"

Run = Callable[[argparse.Namespace], dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return run_command(build_parser(), lambda args: args.run(args), argv)


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="cosmos-posttrain", description="Train the models of the Cosmos family.")
    parser.add_argument("--version", action="version", version=__version__, help="print the version and leave")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    pool = _command(commands, "pool", _pool, "footage to a pool of training clips")
    pool.add_argument("footage", type=Path, help="folder that scripts/footage.py filled")
    pool.add_argument("out", type=Path, help="folder to make")
    pool.add_argument("--clips", type=_positive, default=6000, help="training clips, 49 kB a frame (default 6000)")
    pool.add_argument("--frames", type=_positive, default=17, help="frames of each clip (default 17)")
    pool.add_argument("--seed", type=_count, default=0)

    train = _command(commands, "train", _train, "a recipe on clips; on several processes under torchrun")
    train.add_argument("recipe", nargs="?", help="name of a recipe")
    train.add_argument("--list", action="store_true", help="name the recipes and leave")
    train.add_argument("--data", type=Path, help="shards, a folder of clips and pictures, or a pool")
    train.add_argument("--out", type=Path, help="folder of the run")
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of the run")
    train.add_argument("--steps", type=_count, help="instead of the recipe's")
    train.add_argument("--save-every", type=_count, help="steps between checkpoints, instead of the recipe's")
    train.add_argument("--init", metavar="PATH", help="checkpoint to begin with: a name, file, folder or hub id")
    train.add_argument(
        "--embeddings",
        type=Path,
        metavar="DIR",
        help="of the captions, as cosmos-diffusion embed makes them",
    )
    train.add_argument("--validation", type=Path, metavar="DIR", help="clips kept aside, for a diffusion model")
    train.add_argument("--networks", type=Path, metavar="DIR", help="folder of the loss's feature and flow networks")
    train.add_argument("--workers", type=_count, default=0, help="processes that decode (default: none beside this)")
    train.add_argument("--threads", type=_positive, help="CPU threads (default: torch's choice)")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change the recipe, such as --set loop.optimizer.rate=1e-4; values are JSON",
    )

    add_estimate_arguments(_command(commands, "estimate", estimate, "what a run takes: memory, operations and hours"))

    compare = _command(commands, "compare", _compare, "tokenizers beside block PCAs of their size, on held-out clips")
    compare.add_argument("models", nargs="+", help="video tokenizers, anything cosmos_tokenizer.load takes")
    compare.add_argument("--footage", type=Path, required=True, help="folder with the held-out clips")
    compare.add_argument("--data", type=Path, required=True, help="folder of the pool that the PCAs are fitted on")
    compare.add_argument(
        "--networks", type=Path, metavar="DIR", help="folder with the judge of perceptual distance (default: no judge)"
    )
    compare.add_argument(
        "--blocks", type=_positive, default=24, help="most blocks of each pool clip for the PCAs (default 24)"
    )

    worlds = _command(commands, "worlds", _worlds, "clips of rigid bodies in motion, with exact masks and states")
    worlds.add_argument("scenes", nargs="*", metavar="SCENE", help=f"{SCENES} (default: all eight in turn)")
    worlds.add_argument("--out", type=Path, required=True, help="folder to fill; what is there already is kept")
    worlds.add_argument("--count", type=_count, default=8, help="clips in all (default 8)")
    worlds.add_argument("--seed", type=_count, default=0)
    worlds.add_argument("--frames", type=_count, default=33, help="frames of each clip (default 33)")
    worlds.add_argument("--size", type=_count, default=96, help="pixels of a side, a multiple of 16 (default 96)")
    worlds.add_argument("--fps", type=float, default=24.0, help="frames per second (default 24)")
    worlds.add_argument("--cameras", type=_count, default=1, help="views of each clip (default 1)")
    worlds.add_argument("--shards", action="store_true", help="pack the clips into tar shards")

    about = "a world model's predictions of rendered clips beside baselines"
    add_evaluate_arguments(_command(commands, "evaluate", evaluate_worlds, about))
    return parser


def _command(commands: "argparse._SubParsersAction[Parser]", name: str, run: Run, does: str) -> Parser:
    command = commands.add_parser(name, help=does, description=does)
    command.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    command.set_defaults(run=run)
    return command


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _pool(args: argparse.Namespace) -> dict[str, Any]:
    from cosmos_posttrain import clip_pool

    out = clip_pool.build(args.footage, args.out, clips=args.clips, frames=args.frames, seed=args.seed)
    return {"pool": str(out)}


def _train(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from cosmos_posttrain.recipes import RECIPES, overridden, run

    if args.list:
        for name, recipe in RECIPES.items():
            print(f"{name}: {recipe.preset}, {recipe.loop.steps} steps of {recipe.data.batch} clips")
        return {"recipes": list(RECIPES)}
    for name in ("recipe", "data", "out"):
        if getattr(args, name) is None:
            raise InputError(f"{name if name == 'recipe' else '--' + name} is missing: see cosmos-posttrain train -h")
    if args.recipe not in RECIPES:
        raise InputError(f"no recipe {args.recipe!r}: there are {', '.join(RECIPES)}")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    named = {"loop.steps": args.steps, "loop.save_every": args.save_every, "init": args.init}
    changes = [f"{field}={json.dumps(value)}" for field, value in named.items() if value is not None]
    recipe = overridden(RECIPES[args.recipe], [*changes, *args.set])
    say = functools.partial(print, flush=True)  # a file or a pipe would get the lines in pieces of kilobytes
    places = {name: getattr(args, name) for name in ("networks", "embeddings", "validation", "workers")}
    try:
        out = run(recipe, args.data, args.out, resume=args.resume, say=say, **places)
    except FloatingPointError as error:
        raise InputError(f"{args.out}: {error}") from error
    if os.environ.get("RANK", "0") != "0":  # of the processes that torchrun started the first speaks
        args.json = False
    else:
        say(f"wrote {out}")
    return {"model": str(out), "steps": recipe.loop.steps}


def _compare(args: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from cosmos_posttrain import block_pca, clip_pool, holdout
    from cosmos_posttrain.networks import feature_network
    from cosmos_posttrain.networks.sources import network_file
    from cosmos_posttrain.recipes.reconstruction import JUDGE
    from cosmos_tokenizer import load
    from cosmos_tokenizer.progress import Progress

    windows, pool = holdout.held_out(args.footage), clip_pool.open_split(args.data)
    judge = None if args.networks is None else feature_network(JUDGE, network_file(args.networks, JUDGE))
    models = {name: load(name) for name in args.models}
    codecs: dict[str, holdout.Reconstruct] = {}
    groups = {}
    for name, model in models.items():
        block = block_pca.Block(time=model.geometry.temporal, space=model.geometry.spatial)
        groups.setdefault(block, []).append((name, model))
    with Progress(len(groups) + len(models)) as progress:
        for block, members in groups.items():
            progress.start(f"blocks {block.time}x{block.space}x{block.space} of the pool")
            count = min(args.blocks, max(1, MOST_VALUES // (len(pool) * block.size)))
            blocks = block_pca.sample_blocks(pool, count, np.random.default_rng(0), block, seen=progress.advance)
            for name, model in members:
                progress.start(f"PCA beside {name}")
                pca = block_pca.fit(blocks, block, components=model.config.latent_channels)
                if model.config.levels:
                    pca = block_pca.fit_levels(pca, blocks, model.config.levels)
                codecs |= {name: model, f"PCA beside {name}": pca.reconstruct}
                progress.advance(1.0)
    scores = holdout.evaluate(codecs, windows, judge)
    print(holdout.table(scores))
    figures = holdout.summarise(scores)
    gains = {
        name: {clip: row["per_frame"] - figures[f"PCA beside {name}"][clip]["per_frame"] for clip, row in clips.items()}
        for name, clips in figures.items()
        if name in args.models
    }
    for name, clips in gains.items():
        print(f"{name} above its PCA: " + ", ".join(f"{clip} {gain:+.2f} dB" for clip, gain in clips.items()))
    return {"figures": figures, "gains": gains}


def _worlds(args: argparse.Namespace) -> dict[str, Any]:
    from cosmos_posttrain.worlds import WorldsConfig, make

    names = ("count", "seed", "frames", "size", "fps", "cameras")
    config = WorldsConfig(scenes=tuple(args.scenes), **{name: getattr(args, name) for name in names})
    made = make(config, args.out, shards=args.shards)
    print(f"{config.count} clips in {args.out}, {made} of them new")
    return {"out": str(args.out), "clips": config.count, "made": made, "scenes": list(config.scenes)}


if __name__ == "__main__":
    sys.exit(main())

"""What wavelet, causality and factorised convolutions are worth in a small tokenizer, at one number of weights.

Each variant (``ablation_variants.py``) is trained from random weights on the same batches for as many steps, at the
best of a few learning rates for that variant, and is judged on clips that none was trained on (``ablation_runs.py``).
Prints a Markdown table; under an hour on two CPU cores.

    python benchmarks/ablation.py --data POOL --footage FOLDER [--networks FOLDER] [--out FOLDER] [--quick]

Stopped, it goes on behind the last finished run of its folder; name another folder after a change of a variant.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

import torch
from ablation_runs import CROP, Ablation, Plan, Result
from ablation_variants import VARIANTS, weights, width

from cosmos_posttrain.recipes.reconstruction import JUDGE
from cosmos_tokenizer import InputError

QUICK = Plan(frames=9, batch=2, steps=2, rates=(2e-3,), seeds=(0,), choosing=1, judged=1, rounds=1)
HEADS = {"psnr": ("PSNR of {}, dB", 2), "perceptual_distance": ("distance of {}", 4)}
"""Heading of a figure's column, and its decimals."""


def spread(values: Sequence[float], decimals: int) -> str:
    """Mean, and half of what lies between the smallest and the largest where there are several."""
    around = f" ± {(max(values) - min(values)) / 2:.{decimals}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{decimals}f}{around}"


def table(
    results: Mapping[str, Sequence[Result]], seconds: Mapping[str, Sequence[float]], flops: Mapping[str, float]
) -> str:
    """A row for each variant: what it is, what it costs, how well it does."""
    figures = next(iter(results.values()))[0].figures
    columns = [(key, group) for key in HEADS for group in figures if key in figures[group]]
    heads = ["variant", "width", "weights", "MFLOP a frame", "time of a step", "rate"]
    heads += [HEADS[key][0].format(group) for key, group in columns]
    lines = [heads, ["---"] * len(heads)]
    for name, runs in results.items():
        ratio = median(mine / base for mine, base in zip(seconds[name], seconds["baseline"], strict=True))
        cells = [name, f"{width(name)}", f"{weights(name, width(name)):,}", f"{flops[name] / 1e6:.1f}", f"{ratio:.2f}"]
        cells.append(f"{runs[0].rate:g}")
        cells += [spread([run.figures[group][key] for run in runs], HEADS[key][1]) for key, group in columns]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what is done as it is done, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="pool of clips, by cosmos-posttrain pool")
    parser.add_argument("--footage", type=Path, required=True, help="folder with the held-out clips")
    parser.add_argument("--networks", type=Path, help=f"folder with {JUDGE}.safetensors, for the perceptual distance")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of the runs (runs/ablation)")
    parser.add_argument("--threads", type=int, help="threads of the CPU")
    parser.add_argument("--quick", action="store_true", help="two steps each, to see that all of it runs")
    args = parser.parse_args(arguments)
    if args.threads is not None:
        if args.threads < 1:
            parser.error(f"--threads is {args.threads}: give a number from 1 up")
        torch.set_num_threads(args.threads)
    plan, begin = QUICK if args.quick else Plan(), time.monotonic()
    with tempfile.TemporaryDirectory() as passing:
        try:
            out = Path(passing) if args.quick else args.out
            ablation = Ablation(args.data, args.footage, args.networks, out, plan)
            seconds = ablation.step_seconds()
            results = {name: ablation.results(name) for name in VARIANTS}
        except InputError as error:
            parser.error(str(error))
    flops = {name: ablation.flops(name) for name in VARIANTS}
    threads = torch.get_num_threads()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {threads} thread{'s'[: threads > 1]}"
    print(
        f"\n{device}, torch {torch.__version__}, float32; {plan.steps} steps of {plan.batch} clips of "
        f"{plan.frames}x{CROP}x{CROP}, {len(plan.seeds)} seeds; {median(seconds['baseline']):.3f} s for a step of the "
        f"baseline, {(time.monotonic() - begin) / 60:.0f} min for all, {time.process_time() / 60:.0f} min of CPU\n"
    )
    print(table(results, seconds, flops))


if __name__ == "__main__":
    main()

"""One table: a guided sample, and one forward, beside diffusers' Cosmos pipeline on the same weights.

Both take turns in one process with the same threads, and give the same clip. Times are medians, with the least and the
most; on a CPU they are of the process, not of the clock, for other programs may run beside it.

    python benchmarks/bench_sampling.py [--quick] [--repeat N] [--profile]
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from statistics import median

import diffusers
import torch
from diffusers_pipeline import FPS, PIXELS, pipeline_of, sample, transformer_of
from torch import Tensor, nn
from torch.profiler import profile

from cosmos_diffusion import PRESETS, DiTConfig, WorldModel, load
from cosmos_diffusion.bench import peak_flops
from cosmos_diffusion.memory import flops, latent_shape
from cosmos_diffusion.samplers import euler
from cosmos_diffusion.sigmas import karras
from cosmos_diffusion.step_cache import StepCache
from cosmos_tokenizer import InputError

CONFIG = replace(PRESETS["7b-video2world"], blocks=6, width=512, heads=4)
"""The released network's in all but depth and width."""
CLIP, KNOWN = (4, 16, 32), 2
"""Latent frames, rows and columns, which are 512 tokens, and how many frames of them are given."""
WORDS = 130, 130
"""Vectors of the prompt and of the negative one, which a caption of 97 words has, the paper's mean; zeros follow."""
GUIDANCE = 7.0
THRESHOLDS = 0.05, 0.1, 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Seconds of several runs."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.middle:.3f} s ({self.least:.3f} to {self.most:.3f})"


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a toy network and few steps, to see that all of it runs")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="samples of each (default 3)")
    parser.add_argument("--profile", action="store_true", help="where one forward's time goes, before the table")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = replace(CONFIG, blocks=1, width=48, heads=2) if args.quick else CONFIG
    steps, repeat = (3, 1) if args.quick else (35, args.repeat)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, {device}: {name}, float32,")
    print(f"threads {torch.get_num_threads()}; {config.blocks} blocks, width {config.width}, tokens {tokens(CLIP)}\n")
    torch.manual_seed(0)
    with torch.no_grad():
        task = Task(config, device)
        if args.profile:
            task.profile()
        print("| what | ours | diffusers | ratio |\n|---|---|---|---|", flush=True)
        for row in chain(task.forwards(1 if args.quick else 10), task.samples(steps, repeat), cached(steps, device)):
            print("| " + " | ".join(row) + " |", flush=True)


def tokens(clip: tuple[int, int, int]) -> int:
    """Of a clip of latents."""
    return clip[0] * clip[1] * clip[2] // 4


class Task:
    """A clip to sample with random weights, ours and diffusers'."""

    def __init__(self, config: DiTConfig, device: torch.device) -> None:
        self.world, self.device = random_world(config).to(device), device
        self.peer = transformer_of(self.world).to(device)
        self.noise = torch.randn(1, config.latent_channels, *CLIP).to(device)
        known = 0.5 * torch.randn(1, config.latent_channels, KNOWN, *CLIP[1:]).to(device)
        self.text, self.negative = (random_text(config, words).to(device) for words in WORDS)
        self.pipeline = pipeline_of(self.peer, known, CLIP[0])
        self.given = self.world.given(known, CLIP[0], augment=0)

    def ours(self, steps: int) -> Tensor:
        """A sample as a user makes it, preparations included."""
        denoise = self.world.denoiser(self.text, self.negative, guidance=GUIDANCE, fps=FPS, given=self.given)
        return euler(denoise, 80 * self.noise, karras(steps, zero=False))

    def theirs(self, steps: int) -> Tensor:
        """The same of the pipeline, which takes one more to get as far."""
        told = {"known": KNOWN, "steps": steps + 1, "guidance": GUIDANCE}
        return sample(self.pipeline, self.noise, self.text, self.negative, **told)

    def forward(self, net: nn.Module) -> Tensor:
        """Of one clip, with nothing prepared."""
        told = {
            "fps": FPS,
            "condition_mask": self.given.mask.expand(-1, -1, -1, *CLIP[1:]),
            "padding_mask": self.noise.new_zeros(1, 1, PIXELS * CLIP[1], PIXELS * CLIP[2]),
        }
        other = {"return_dict": False} if net is self.peer else {}
        y = net(self.noise, self.noise.new_full((1,), 0.3), self.text, **told, **other)
        return y[0] if net is self.peer else y

    def forwards(self, repeat: int) -> Iterator[tuple[str, ...]]:
        """Rows of one forward."""
        config, clip = self.world.config, (PIXELS * (CLIP[0] - 1) + 1, PIXELS * CLIP[1], PIXELS * CLIP[2])
        net, text = self.world.net, self.world.net.prepare_text(self.text, padding=config.text_length - WORDS[0])
        level = net.prepare_level(self.noise.new_full((1,), 0.3))
        mask = self.given.mask.expand(-1, -1, -1, *CLIP[1:])
        runs: dict[str, Callable[[], Tensor]] = {
            "ours": lambda: self.forward(net),
            "theirs": lambda: self.forward(self.peer),
            "prepared": lambda: net(self.noise, level, text, fps=FPS, condition_mask=mask),
        }
        times, last = measured(runs, repeat, self.device)
        theirs, peak = times["theirs"], peak_flops(self.device, torch.float32)
        for name, what in (("ours", "one forward"), ("prepared", "one forward, text and level prepared")):
            apart = float((last[name] - last["theirs"]).abs().max())
            yield f"{what} (differ by {apart:.0e})", f"{times[name]}", f"{theirs}", faster(times[name], theirs)
        work = flops(config, *clip)
        prepared = flops(config, *clip, text_length=WORDS[0] + 1, prepared=True)
        yield (
            f"share of {peak / 1e9:.0f} GFLOP/s, this device's largest in matrix products",
            f"{work / times['ours'].middle / peak:.0%}; prepared {prepared / times['prepared'].middle / peak:.0%}",
            f"{work / theirs.middle / peak:.0%}",
            "",
        )

    def samples(self, steps: int, repeat: int) -> Iterator[tuple[str, ...]]:
        """Rows of a sample."""
        runs = {"ours": partial(self.ours, steps), "theirs": partial(self.theirs, steps)}
        times, last = measured(runs, repeat, self.device, warm=False)  # forwards came before
        ours, theirs = times["ours"], times["theirs"]
        apart = float((last["ours"] - last["theirs"]).abs().max())
        what = f"sample of {steps} steps, guided, {KNOWN} of {CLIP[0]} latent frames given (differ by {apart:.0e})"
        yield what, f"{ours}", f"{theirs}", faster(ours, theirs)
        yield (
            "the same, without diffusers' last step, which has no length",
            f"{ours.middle:.3f} s",
            f"{theirs.middle * steps / (steps + 1):.3f} s",
            f"{theirs.middle * steps / (steps + 1) / ours.middle:.2f}x",
        )

    def profile(self) -> None:
        """What one guided step of each spends on which operator."""
        denoise = self.world.denoiser(self.text, self.negative, guidance=GUIDANCE, fps=FPS, given=self.given)
        for name, run in (("ours", lambda: denoise(self.noise, 1.0)), ("theirs", lambda: self.theirs(1))):
            run()
            with profile() as found:
                run()
            print(name, found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12), sep="\n")


def random_world(config: DiTConfig) -> WorldModel:
    """Weights under which every part acts."""
    world = WorldModel(config).eval()
    for name, value in world.named_parameters():
        if "modulation" in name:
            nn.init.normal_(value, std=0.02)
        elif name.endswith("norm.weight"):
            nn.init.uniform_(value, 0.5, 1.5)
    return world


def random_text(config: DiTConfig, words: int) -> Tensor:
    """Vectors of so many words, and zeros."""
    text = torch.zeros(1, config.text_length, config.text_width)
    text[:, :words] = 0.3 * torch.randn(text[:, :words].shape)
    return text


def measured(
    runs: Mapping[str, Callable[[], Tensor]], repeat: int, device: torch.device, *, warm: bool = True
) -> tuple[dict[str, Times], dict[str, Tensor]]:
    """Seconds of each and what it gave; they take turns, after one run of each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    last: dict[str, Tensor] = {}
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for turn in range(repeat + warm):
        for name, run in runs.items():
            start = clock()
            last[name] = run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn >= warm:
                seconds[name].append(clock() - start)
    return {name: Times(middle=median(s), least=min(s), most=max(s)) for name, s in seconds.items()}, last


def faster(ours: Times, theirs: Times) -> str:
    """Of the medians."""
    ratio = theirs.middle / ours.middle
    return f"{ratio:.2f}x faster" if ratio >= 1 else f"{1 / ratio:.2f}x slower"


def cached(steps: int, device: torch.device) -> Iterator[tuple[str, ...]]:
    """What reuse between steps saves, and what it does to the sample: of the shipped network, beside a clip of its own.

    The frame that is given is the first of a sample made of nothing but text.
    """
    name = "nano-video2world"
    try:
        world, weights = load(name, device=device), "trained"
    except InputError:
        world, weights = random_world(PRESETS[name]).to(device), "random"
    config, told = world.config, {"guidance": world.defaults.guidance, "fps": world.defaults.fps}
    shape = latent_shape(config, 33, 96, 96)
    text = random_text(config, 40).to(device)
    if world.text_encoder is not None:
        text = world.text_encoder.encode(["a ball falls onto a table and bounces"])
    noise, other = (80 * torch.randn(1, config.latent_channels, *shape).to(device) for _ in range(2))
    known = euler(world.denoiser(text, **told), other, karras(steps))[:, :, :1]
    given = world.given(known, shape[0])
    caches: dict[float, StepCache] = {}

    def run(threshold: float) -> Tensor:
        cache = caches[threshold] = StepCache(threshold)
        return euler(world.denoiser(text, given=given, cache=cache, **told), noise, karras(steps))

    runs = {str(threshold): partial(run, threshold) for threshold in (0.0, *THRESHOLDS)}
    times, last = measured(runs, 3, device)
    whole, exact = times["0.0"], last["0.0"][:, :, 1:]
    for threshold in THRESHOLDS:
        spent, reused = times[str(threshold)], caches[threshold].reused
        error = float((last[str(threshold)][:, :, 1:] - exact).square().mean().sqrt() / exact.std())
        what = f"{name} ({weights}), StepCache({threshold}) reuses {reused} of {steps} steps"
        yield (
            f"{what}, error {error:.2%} of the sample's deviation",
            f"{spent}",
            f"ours without: {whole}",
            faster(spent, whole),
        )


if __name__ == "__main__":
    main()

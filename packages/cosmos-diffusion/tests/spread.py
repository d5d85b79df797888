"""Networks on a team of processes, for the tests of parallelism; a script, in this process or with torchrun.

    [torchrun --nproc-per-node N] python spread.py OUT CASES

CASES is JSON, name to fields: `config` (fields beside the toy's), `inputs` (see `inputs`), `plan` (of which one process
makes its own), `prepared`, `sampled` (a sample with a step cache of that threshold), `gradients`, `dtype`, `refused`.
Every process writes what it found to `OUT/NAME-RANK.pt`.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from cosmos_diffusion import PRESETS, DiT, DiTConfig
from cosmos_diffusion.channels import Conditions
from cosmos_diffusion.conditioning import begin_with
from cosmos_diffusion.denoiser import Denoiser
from cosmos_diffusion.guidance import Guidance
from cosmos_diffusion.parallel import Plan, Team, processes
from cosmos_diffusion.preconditioning import PRECONDITIONINGS
from cosmos_diffusion.samplers import euler
from cosmos_diffusion.sigmas import karras
from cosmos_diffusion.step_cache import StepCache
from cosmos_tokenizer import InputError


def inputs(net: DiT, *, batch: int = 2, frames: int = 5, per_frame: bool = False) -> dict[str, Any]:
    """Random ones of all that the network takes; `frames` are those of a view."""
    config = net.config
    views = max(1, config.views)
    rows, columns, every = 4, 6, frames * views
    given: dict[str, Any] = {
        "latents": torch.randn(batch, config.latent_channels, every, rows, columns),
        "c_noise": torch.randn(batch, every) if per_frame else torch.randn(batch),
        "text": torch.randn(batch, 7 * views, config.text_width),
        "padding_mask": (torch.rand(1, 1, 8 * rows, 8 * columns) > 0.5).float(),
        "fps": 30,
    }
    if config.condition_mask:
        given["condition_mask"] = (torch.rand(batch, 1, every, rows, columns) > 0.5).float()
    if config.camera_channels:
        given["camera"] = torch.randn(batch, 6, every, rows, columns)
    if config.token_channels:
        given["tokens"] = torch.randint(config.token_codes, (batch, every, rows // 2, columns // 2))
    if config.action_numbers:
        given["action"] = torch.randn(batch, config.action_numbers)
    if config.views:
        given["repeats"] = torch.rand(batch, views)
    if config.trajectory_channels:
        given["trajectory"] = torch.randn(batch, 64, 3)
    return given


def sampled(net: DiT, given: dict[str, Any], negative: Tensor, team: Team, cache: StepCache) -> Tensor:
    """A guided sample that begins with a frame of each view, by a denoiser that knows of the team."""
    latents, kind = given["latents"].detach(), PRECONDITIONINGS[net.config.prediction]
    views = max(1, net.config.views)
    generator = torch.Generator().manual_seed(2)
    known = begin_with(kind, latents[:, :, :views], latents.shape[2], views=views, generator=generator)
    told = {name: given[name] for name in Conditions._fields if name in given and name != "condition_mask"}
    denoise = Denoiser(
        net,
        kind,
        given["text"],
        negative,
        guidance=Guidance(weight=3),
        fps=given["fps"],
        given=known,
        conditions=Conditions(**told),
        guide_frames=True,
        team=team,
        cache=cache,
    )
    return euler(denoise, 80 * latents, karras(4))


def mean(value: Tensor) -> Tensor:
    """Over processes, as DDP averages gradients."""
    if dist.is_initialized():
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return value


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Output of a random network on random inputs, with guidance where the plan has two for it, and gradients."""
    torch.manual_seed(1)
    net = DiT(DiTConfig.from_dict(asdict(PRESETS["toy-video"]) | case.get("config", {})))
    for parameter in net.parameters():  # so that attention looks at some tokens more than at others
        nn.init.normal_(parameter, std=0.15) if parameter.dim() > 1 else nn.init.uniform_(parameter, 0.5, 1.5)
    given = inputs(net, **case.get("inputs", {}))
    dtype = getattr(torch, case.get("dtype", "float32"))
    net = net.to(dtype)
    latents, negative = given["latents"].requires_grad_(), torch.randn_like(given["text"])
    team = Team(Plan(**case["plan"]) if dist.is_initialized() else Plan())
    found: dict[str, Any] = {}
    with team.spread(net), torch.set_grad_enabled(case.get("gradients", False)):
        if case["plan"].get("sharded"):
            held = sum(value.to_local().numel() for value in net.parameters() if isinstance(value, DTensor))
            found["held"], found["of"] = held, sum(value.numel() for value in net.blocks.parameters())

        def evaluate(text: Tensor) -> Tensor:
            prepared = {}
            if case.get("prepared"):
                prepared["text"] = net.prepare_text(text, views=max(1, net.config.views))
                prepared["c_noise"] = net.prepare_level(given["c_noise"], action=given.get("action"))
            return net(**given | {"text": text} | prepared)

        cache = StepCache(case.get("sampled", 0))
        try:
            if "sampled" in case:
                y = sampled(net, given, negative, team, cache)
                found["reused"] = cache.reused
            elif case["plan"].get("guidance"):
                with_prompt, without = team.both(evaluate, given["text"], negative)
                y = with_prompt + 3 * (with_prompt - without)
            else:
                y = evaluate(given["text"])
        except InputError as error:
            if not case.get("refused"):
                raise
            return {"error": str(error)}
        if case.get("gradients"):
            (y.float() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().div(y.numel() ** 0.5).backward()
            found["gradients"] = {name: mean(value.grad) for name, value in net.named_parameters()}
            found["gradients"]["latents"] = mean(latents.grad)
    found["y"] = y.detach()
    return found


def main() -> None:
    out, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
    with processes():
        rank = dist.get_rank() if dist.is_initialized() else 0
        for name, case in cases.items():
            torch.save(run(case), out / f"{name}-{rank}.pt")


if __name__ == "__main__":
    main()

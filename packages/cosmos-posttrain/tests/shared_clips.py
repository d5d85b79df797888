"""Training steps of a toy world model on clips that processes may share; a script, in this process or with torchrun.

    [torchrun --nproc-per-node N] python shared_clips.py OUT CASES

CASES is JSON, name to fields: `parallel` (of which one process makes its own), `batches` (lists of the clips' rates,
None for pictures), `frames` (of clips), `lora` (rank of adapters), `place` (attributes of `Parallel`, to stand for one
of several processes). What a case finds is in `OUT/NAME-RANK.pt`: scalars of each batch, the gradients of their
mean, averaged over processes, and the tokens of each pass.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from cosmos_diffusion import PRESETS, lora
from cosmos_diffusion.domains import Domains
from cosmos_diffusion.loss import LOSSES, LossConfig
from cosmos_diffusion.text_encoders import ByteEncoderConfig
from cosmos_diffusion.world_model import WorldModel
from cosmos_posttrain import Parallel, ParallelConfig
from cosmos_posttrain.data import Batch
from cosmos_posttrain.parallel import named_parameters, processes, whole_tensor
from cosmos_posttrain.recipes.denoising import Denoising
from cosmos_posttrain.recipes.latents import Latents
from cosmos_tokenizer import LatentStatistics, load


def objective(parallel: Parallel, rank: int | None) -> Denoising:
    """Of a toy with random weights, all of which matter."""
    torch.manual_seed(0)
    world = WorldModel(PRESETS["toy-video"], text_encoder=ByteEncoderConfig(width=32, length=16, layers=1, heads=2))
    for parameter in world.net.parameters():
        nn.init.normal_(parameter, std=0.15) if parameter.dim() > 1 else nn.init.uniform_(parameter, 0.5, 1.5)
    if rank is not None:
        lora.add(world, lora.LoRAConfig(rank=rank, alpha=2 * rank, targets=lora.TARGETS))
        for parameter in lora.parameters(world).values():
            nn.init.normal_(parameter, std=0.15)
    one = LatentStatistics(torch.zeros(16, 4), torch.ones(16, 4))
    world.domains = Domains(video=one, picture=one, sigma_data=0.5)
    made = Denoising(
        world,
        Latents(load("nano-cv8x8x8"), keep=10**8),
        loss=LossConfig(levels=LOSSES["edm"].levels, given=(0, 1), text_dropout=0.3),
    )
    made.shard(parallel)
    return made


def batch_of(number: int, rates: list[float | None], frames: int, parallel: Parallel) -> Batch:
    """This process's part of a batch."""
    draw = torch.Generator().manual_seed(number)
    length = 1 if rates[0] is None else frames
    coarse = torch.rand(len(rates), 3, length, 4, 4, generator=draw) * 2 - 1
    video = coarse.repeat_interleave(8, 3).repeat_interleave(8, 4)
    mine = slice(parallel.share, None, parallel.shares)
    names = tuple(f"a ball number {index}" for index in range(len(rates)))
    return Batch(
        video=video[mine],
        keys=names[mine],
        seeds=tuple(range(len(rates)))[mine],
        texts=names[mine],
        rates=tuple(rates)[mine],
        skipped=number,
    )


def run(case: dict[str, Any]) -> dict[str, Any]:
    """What this process finds."""
    given = dict(case["parallel"])
    if not dist.is_initialized():
        given = {name: value for name, value in given.items() if name in ("checkpointing", "precision")}
    parallel = Parallel(ParallelConfig(**given))
    for name, value in case.get("place", {}).items():
        setattr(parallel, name, ParallelConfig(**value) if name == "config" else value)
    trained = objective(parallel, case.get("lora"))
    scalars, batches, tokens = [], case["batches"], []
    trained.world.net.blocks[0].register_forward_pre_hook(lambda block, given: tokens.append(given[0].shape[1]))
    for number, rates in enumerate(batches):
        torch.manual_seed(100 * number + parallel.share)
        with parallel.gradients_stay_here(number + 1 < len(batches)):
            with parallel.autocast():
                found = trained.loss(batch_of(number, rates, case.get("frames", 17), parallel), number)
            (found["loss"] / len(batches)).backward()
        scalars.append(parallel.mean(found))
    gradients = {}
    for name, value in named_parameters(trained.world).items():
        if value.grad is not None:
            gradients[name] = whole_tensor(value.grad)
            if dist.is_initialized() and not isinstance(value.grad, DTensor):
                assert torch.allclose(gradients[name], parallel.averaged(gradients[name]), atol=1e-6)  # DDP's work
    return {"scalars": scalars, "gradients": gradients, "tokens": tokens}


def main() -> None:
    out, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
    with processes():
        rank = dist.get_rank() if dist.is_initialized() else 0
        for name, case in cases.items():
            torch.save(run(case), out / f"{name}-{rank}.pt")


if __name__ == "__main__":
    main()

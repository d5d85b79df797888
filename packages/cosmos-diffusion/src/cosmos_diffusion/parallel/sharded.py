"""Weights of the network shared out to processes for inference (FSDP2; arXiv 2304.11277): each holds a part of each."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from cosmos_diffusion.block import Block
from cosmos_diffusion.network import DiT


def shard(net: DiT, mesh: DeviceMesh) -> None:
    """Share the weights of every block out to the processes of a one-dimensional mesh, on its devices.

    A block's weights are whole only while it runs. So a process holds its part of all blocks, one or two whole blocks,
    and what is outside of them (1 % of the released nets), and moves one block at a time to its device meanwhile. The
    output is that of whole weights. All processes must call the network equally often, under ``torch.no_grad()``.

    Args:
        net: the network, the same in every process, on any device.
        mesh: of all processes that call it, those of guidance and context parallelism too.
    """
    outside = set(net.parameters()) - set(net.blocks.parameters())
    for parameter in outside:
        parameter.data = parameter.data.to(mesh.device_type)
    for block in net.blocks:
        assert isinstance(block, Block)
        fully_shard(block, mesh=mesh)
        _gather_for(block, block, "tables")
        _gather_for(block, block.cross_attention, "keys_values")
    # Without weights of its own: it lets the blocks take turns, one on its way while another runs.
    fully_shard(net, mesh=mesh, ignored_params=outside)


def _gather_for(block: nn.Module, module: nn.Module, name: str) -> None:
    """Have a method bring the block's weights together where it is called from outside of the block's forward."""
    method: Callable[..., Any] = getattr(module, name)
    assert isinstance(block, FSDPModule)

    @wraps(method)
    def gathering(*given: object) -> object:
        if not isinstance(next(block.parameters()), DTensor):
            return method(*given)
        block.unshard()
        try:
            return method(*given)
        finally:
            block.reshard()

    setattr(module, name, gathering)

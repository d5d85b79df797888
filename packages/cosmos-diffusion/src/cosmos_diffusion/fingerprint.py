"""Which network it is, whatever file it came in: a hash of config and weights."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor

from cosmos_diffusion.config import DiTConfig


def fingerprint(config: DiTConfig, state: Mapping[str, Tensor]) -> str:
    """SHA-256 of what a network computes: its config, and its weights as float32, one tensor at a time.

    A checkpoint keeps it through every layout, and when what is stored in bfloat16 is loaded in float32. The
    uncertainty has no part in it.

    Args:
        config: of the network.
        state: of a ``WorldModel``.
    """
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for name, value in sorted(state.items()):
        if name.startswith("net."):
            digest.update(f"{name} {tuple(value.shape)}".encode())
            digest.update(value.detach().float().cpu().contiguous().numpy().data)
    return digest.hexdigest()

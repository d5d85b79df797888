"""ONNX exports in a process of their own: torch's memory, seeds, warnings and switches stay out of the caller's.

The first half runs in the caller; the second in that process, where torch may be imported.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_curate.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

_WRONG = 3


def export_apart(module: str, weights: Path, target: Path) -> None:
    """Run `python -m module weights target` quietly.

    Raises:
        InputError: the module found the weights to be others than it takes.
        RuntimeError: anything else went wrong; the end of what it said is the message.
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", module, str(weights), str(target)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)
    said = done.stderr.strip().splitlines()
    if done.returncode == _WRONG:
        raise InputError(said[-1])
    if done.returncode or not target.exists():
        raise RuntimeError(f"export of {weights.name} failed: " + " | ".join(said[-3:]))


def load(network: "nn.Module", weights: str, what: str, pick: "Callable[[Any], Mapping[str, Tensor]]") -> None:
    """Load weights into a network, all of them and no others; end this process where they do not fit.

    Args:
        what: whose weights they should be.
        pick: finds the state dict, under the network's names, in what the file holds.
    """
    import torch

    try:
        network.load_state_dict(pick(torch.load(weights, map_location="cpu", weights_only=True)), strict=True)
    except pickle.UnpicklingError:
        reason = "it is not a file of tensors alone"
    except KeyError as error:
        reason = f"it has no entry {error}"
    except (RuntimeError, ValueError, TypeError, AttributeError, EOFError) as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= 300 else reason[:300] + " ..."
    else:
        return
    print(f"{weights} does not hold the weights of {what}: {reason}", file=sys.stderr)
    raise SystemExit(_WRONG)


def write(network: "nn.Module", target: str) -> None:
    """Write a network of windows as ONNX: uint8 `1 100 27 48 3` in, float32 `100` out."""
    import torch

    from cosmos_curate.shots.planar import flatten_convolutions

    flatten_convolutions(network)
    torch.onnx.export(
        network.eval(),
        (torch.zeros((1, 100, 27, 48, 3), dtype=torch.uint8),),
        target,
        input_names=["frames"],
        output_names=["probability"],
        dynamo=True,
        external_data=False,
        verbose=False,
    )

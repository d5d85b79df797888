"""A run to its files: the model of each moving average, written by what the recipe makes of the parameters."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cosmos_posttrain.averages import Average
from cosmos_posttrain.loop import Batch, Batches, LoopConfig, Objective, train

B = TypeVar("B", bound=Batch)


def train_to_files(
    objective: Objective[B],
    batches: Batches[B],
    config: LoopConfig,
    out: Path,
    finish: Callable[[Path], None],
    *,
    keep: Callable[[], None],
    resume: bool,
    say: Callable[[str], None],
) -> Path:
    """Train, and return ``out/model.safetensors``, of the first moving average; others are ``model-NAME.safetensors``.

    Args:
        objective, batches, config, resume, say: as for ``train``.
        out: folder of the run.
        finish: writes a file of the parameters as they are; every process calls it alike.
        keep: called when training is over and before its result is written; see ``keep_record``.

    Raises:
        InputError, FloatingPointError, OSError: as ``train``.
    """

    def other(average: Average) -> None:
        finish(out / f"model-{average.name}.safetensors")

    train(objective, batches, config, out, resume=resume, others=other, say=say)
    keep()
    path = out / "model.safetensors"
    finish(path)
    return path

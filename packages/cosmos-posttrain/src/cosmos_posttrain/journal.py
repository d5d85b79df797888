"""What a run tells: `metrics.jsonl`, TensorBoard, Weights & Biases, pictures, and a line of progress."""

import json
import re
import resource
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from cosmos_tokenizer import InputError
from cosmos_tokenizer.atomic import whole_file, write_whole
from cosmos_tokenizer.jsontext import to_json

REPORT_SECONDS = 5.0


class Journal:
    """The records of one run; only the first process keeps one."""

    def __init__(self, run: Path, *, steps: int, first: int, wandb: str | None, say: Callable[[str], None]) -> None:
        """Open the records, cut back to what stood there after step ``first``.

        Args:
            run: folder of the run.
            steps: of the whole run.
            first: steps that are done.
            wandb: project to log to, or None.
            say: takes each line of progress.

        Raises:
            InputError: a project is named and wandb is missing.
        """
        from torch.utils.tensorboard.writer import SummaryWriter

        run.mkdir(parents=True, exist_ok=True)
        self._run, self._steps, self._first, self._say = run, steps, first, say
        self._lines = run / "metrics.jsonl"
        self._cut(first)
        self._events = run / "tensorboard"
        with _naming(self._events):
            self._board = SummaryWriter(str(self._events), purge_step=first + 1)
        self._wandb = None if wandb is None else _wandb_run(wandb, run, anew=first == 0)
        self._began = self._reported = time.monotonic()
        self._samples = 0
        self._memory = Memory()

    def log(self, step: int, figures: Mapping[str, float], *, samples: int, last: bool) -> None:
        """Record one step's figures; now and then, and behind the last step, say a line.

        Args:
            step: counted from 1.
            figures: numbers by name, "loss" first.
            samples: of the step, over all processes.
            last: whether it is the last step, or one with validation figures.

        Raises:
            OSError: the record cannot be written.
        """
        now = time.monotonic()
        self._samples += samples
        held = self._memory.most()
        seconds = round(now - self._began, 3)
        with _naming(self._lines), self._lines.open("a") as file:
            file.write(to_json({"step": step, **figures, "seconds": seconds}) + "\n")
        with _naming(self._events):
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(figures), step=step)
        if last or now - self._reported >= REPORT_SECONDS:
            self._reported = now
            rate = (step - self._first) / max(seconds, 1e-9)
            said = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
            self._say(
                f"step {step}/{self._steps}, {said}, {rate:.3g} steps/s, {self._samples / max(seconds, 1e-9):.3g} "
                f"samples/s, {_duration((self._steps - step) / max(rate, 1e-9))} left, {held / 1e9:.2f} GB"
            )

    def picture(self, step: int, name: str, picture_HWC: UInt8[np.ndarray, "H W 3"]) -> None:
        """Write a picture to `samples/step-N-NAME.png` and TensorBoard."""
        path = self._run / "samples" / f"step-{step}-{name}.png"
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as beside:
            Image.fromarray(picture_HWC).save(beside, format="PNG")
        with _naming(self._events):
            self._board.add_image(name, picture_HWC, step, dataformats="HWC")

    def not_finite(self, step: int, record: Mapping[str, Any]) -> None:
        """Write what made a loss or gradient that is not finite, for replay: samples, and the position before them."""
        path = not_finite_record(self._run, step)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, to_json({"step": step, **record}).encode())

    def close(self) -> None:
        """End the records.

        Raises:
            OSError: what is left of them cannot be written.
        """
        with _naming(self._events):
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def abandon(self) -> None:
        """End the records of a run that has met an error, which says more than whatever their end may meet."""
        with suppress(Exception):
            self.close()

    def _cut(self, step: int) -> None:
        text = self._lines.read_text() if step and self._lines.exists() else ""
        # A kill may have cut the last line short.
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("}\n")]
        write_whole(self._lines, "".join(line for line in lines if json.loads(line)["step"] <= step).encode())


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Inside, an error of the file system that names no file, as of a full disk, gets this path's name."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def not_finite_record(run: Path, step: int) -> Path:
    """File of :meth:`Journal.not_finite`, which every process can name."""
    return run / "nonfinite" / f"step-{step}.json"


def _wandb_run(project: str, run: Path, *, anew: bool) -> Any:  # noqa: ANN401 - wandb is not there to be named
    try:
        import wandb  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise InputError("logging to Weights & Biases needs it: pip install 'cosmos-posttrain[wandb]'") from error
    # Folders of one name are many, and each is a run of its own, found again when it is resumed.
    kept = run / "wandb-id"
    if anew or not kept.exists():
        write_whole(kept, secrets.token_hex(8).encode())
    return wandb.init(project=project, name=run.resolve().name, dir=str(run), id=kept.read_text(), resume="allow")


class Memory:
    """The most memory held so far: on the GPU where there is one, else by this process.

    Pages of files that it has mapped, such as a pool of clips, are not its own: the system takes them back at need.
    Linux knows the peak of all pages, and how many are of files now; where the peak has risen since the last look, as
    many were of files then.
    """

    def __init__(self) -> None:
        self._peak = self._held = 0

    def most(self) -> int:
        """Bytes; to be asked often, such as once a step."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
        pages = _pages()
        if not pages:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else peak * 1024
        self._held = max(self._held, pages["RssAnon"])
        if pages["VmHWM"] > self._peak:
            self._peak = pages["VmHWM"]
            self._held = max(self._held, self._peak - pages["RssFile"])
        return self._held


def _pages() -> dict[str, int]:
    """Bytes of this process by the names that Linux gives them; {} where it does not."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return {}
    found = re.findall(r"^(VmHWM|RssAnon|RssFile):\s+(\d+) kB$", status, re.MULTILINE)
    return {name: int(count) * 1024 for name, count in found} if len(found) == 3 else {}


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

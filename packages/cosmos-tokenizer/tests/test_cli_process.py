"""The command as a process of its own: exit codes and what stands on which stream."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from cosmos_tokenizer import PRESETS, CausalTokenizer
from cosmos_tokenizer.checkpoint import save
from cosmos_tokenizer.video import Video, write_video


def _run(place: Path, *line: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command, where asked to with no file allowed past `limit` bytes."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n" if limit else ""
    code = f"{limited}import sys; from cosmos_tokenizer.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-B", "-c", code, *line], cwd=place, capture_output=True, text=True, check=False
    )


def test_exit_codes_and_streams(gradients: Callable[..., np.ndarray], tmp_path: Path) -> None:
    save(CausalTokenizer(PRESETS["toy"]), tmp_path / "toy.safetensors")
    write_video(tmp_path / "clip.mp4", Video(frames=gradients(3), rate=Fraction(24)))
    before = {p.name for p in tmp_path.iterdir()}
    model = ("--model", "toy.safetensors")

    full = _run(tmp_path, "reconstruct", "clip.mp4", "out.mp4", *model, limit=512)
    assert (full.returncode, full.stderr) == (2, "cosmos-tokenizer: out.mp4: File too large\n")
    assert {p.name for p in tmp_path.iterdir()} == before

    good = _run(tmp_path, "reconstruct", "clip.mp4", "out.mp4", *model)
    assert (good.returncode, good.stderr) == (0, "")
    assert (tmp_path / "out.mp4").stat().st_size > 512


def test_help_and_a_mistyped_option_do_not_wait_for_torch() -> None:
    code = "import sys; from cosmos_tokenizer.cli import main; code = main(sys.argv[1:]); "
    code += "print(code, *sorted({'torch', 'numpy', 'av'} & set(sys.modules)))"
    for option, left in (("--help", "0"), ("--version", "0"), ("--modle", "2")):
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == left

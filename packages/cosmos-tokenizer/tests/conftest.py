"""What tests share: footage (moving gradients, in files by PyAV where one is needed), random nets and TorchScript."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cosmos_tokenizer import PRESETS, CausalTokenizer, TokenizerConfig
from cosmos_tokenizer.checkpoint import save
from cosmos_tokenizer.cli import main
from cosmos_tokenizer.images import write_image
from cosmos_tokenizer.video import Video, write_video


@pytest.fixture
def gradients() -> Callable[..., np.ndarray]:
    """Return a maker of `T H W 3` frames whose colours drift."""

    def make(frames: int = 5, height: int = 32, width: int = 48, step: int = 3) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        waves = [[y * 3 + t * step, x * 2 + t * 2, (x + y) + 40 + t] for t in range(frames)]
        return (127.5 + 100 * np.sin(np.array(waves) / 25)).astype(np.uint8).transpose(0, 2, 3, 1)

    return make


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of video files in any codec and container, independent of the package's own writer."""

    def write(
        frames: np.ndarray,
        name: str = "clip.mp4",
        *,
        codec: str = "libx264",
        pixels: str = "yuv420p",
        rate: Fraction | int = 24,
        options: dict[str, str] | None = None,
        container: dict[str, str] | None = None,
        source: str = "rgb24",
        matrix: int | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options=container or {}) as out:
            stream = out.add_stream(codec, rate=rate, options={"crf": "4"} | (options or {}))
            stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
            if matrix is not None:
                stream.codec_context.colorspace = matrix
            for array in frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=source)
                if pixels.startswith("yuvj"):
                    frame = frame.reformat(format=pixels, src_color_range=2, dst_color_range=2)
                elif matrix is not None:
                    frame = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range=1)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        return path

    return write


@pytest.fixture
def random_tokenizer() -> Callable[..., CausalTokenizer]:
    """Return a maker of tokenizers whose every weight is random, also in norms, so that no mix-up can hide."""

    def make(config: TokenizerConfig, *, parts: str = "both", seed: int = 0) -> CausalTokenizer:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = CausalTokenizer(config, parts=parts)
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
        return model.eval()

    return make


class _Node(nn.Module):
    """A module of a tree that holds tensors and computes nothing."""

    __module__ = "native_tree"  # TorchScript takes no module name with a hyphen, as this file's folder has one.


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[[dict[str, Tensor], str], Path]:
    """Return a writer of TorchScript files whose state dict has the given keys."""

    def write(weights: dict[str, Tensor], name: str) -> Path:
        root = _Node()
        for key, value in weights.items():
            *path, leaf = key.split(".")
            node: nn.Module = root
            for part in path:
                if not hasattr(node, part):
                    node.add_module(part, _Node())
                node = getattr(node, part)
            node.register_buffer(leaf, value)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.save(torch.jit.script(root), str(tmp_path / name))
        return tmp_path / name

    return write


class Outcome:
    """What a command left: its exit code, and its standard output and error."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict:
        return json.loads(self.out.splitlines()[-1], parse_constant=pytest.fail)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained toys in a folder, one of each kind, and a second continuous one."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    toy, discrete = PRESETS["toy"], PRESETS["toy-discrete"]
    image = replace(toy, media="image", temporal_compression=1)
    for name, config in {"toy": toy, "other": toy, "discrete": discrete, "image": image}.items():
        save(CausalTokenizer(config), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: Path, gradients: Callable[..., np.ndarray]) -> Path:
    """A folder to work in, with the models, a clip of 7 frames at 23x38, and a picture."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "models").symlink_to(models)
    write_video("clip.mp4", Video(frames=gradients(7, 23, 38), rate=Fraction(30000, 1001)))
    write_image("pic.png", gradients(1, 33, 20)[0])
    return work


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return what runs one command in process, with one of the models."""

    def call(line: str, model: str | None = "toy") -> Outcome:
        capsys.readouterr()
        chosen = [] if model is None else ["--model", f"models/{model}.safetensors"]
        code = main([*line.split(), *chosen])
        return Outcome(code, *capsys.readouterr())

    return call

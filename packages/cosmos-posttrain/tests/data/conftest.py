"""What tests of the data share: tiny clips, tars made of them, and a source that is nothing but numbers."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cosmos_posttrain.data import Description
from cosmos_tokenizer import InputError
from cosmos_tokenizer.video import Video, write_video

RATE = Fraction(24)


class Numbers:
    """Clips of given (frames, height, width), each frame filled with its number; those in `broken` cannot be read."""

    def __init__(self, sizes: Sequence[tuple[int, int, int]], broken: Sequence[int] = (), stills: int = 0) -> None:
        self.sizes, self.broken, self.stills = [*sizes, *[(1, 40, 40)] * stills], set(broken), stills

    def __len__(self) -> int:
        return len(self.sizes)

    def describe(self, index: int) -> Description:
        frames, height, width = self.sizes[index]
        rate = None if index >= len(self.sizes) - self.stills else 24.0
        return Description(key=f"k{index}", frames=frames, height=height, width=width, rate=rate, text=f"no {index}")

    def read(self, index: int, first: int, count: int, step: int) -> np.ndarray:
        if index in self.broken:
            raise InputError(f"k{index}: is broken")
        frames, height, width = self.sizes[index]
        numbers = np.arange(frames, dtype=np.uint8)[first : first + (count - 1) * step + 1 : step]
        assert len(numbers) == count
        return np.broadcast_to(numbers[:, None, None, None], (count, height, width, 3)).copy()


@pytest.fixture
def numbers() -> type[Numbers]:
    """Return the class of sources that are nothing but numbers."""
    return Numbers


@pytest.fixture(scope="session")
def clip_bytes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Return a function that gives the bytes of an mp4 of so many frames of 40x56 by default."""
    folder = tmp_path_factory.mktemp("clips")

    def make(frames: int, height: int = 40, width: int = 56, seed: int = 0) -> bytes:
        path = folder / f"{frames}-{height}-{width}-{seed}.mp4"
        if not path.exists():
            rng = np.random.default_rng(seed)
            coarse = rng.integers(0, 256, (frames, -(-height // 8), -(-width // 8), 3), dtype=np.uint8)
            pixels = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width]
            write_video(path, Video(frames=pixels, rate=RATE))
        return path.read_bytes()

    return make


@pytest.fixture
def write_tar() -> Callable[..., Path]:
    """Return a function that writes a tar file of members by name; a dict becomes JSON."""

    def write(path: Path, members: Mapping[str, object], form: int = tarfile.USTAR_FORMAT) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w", format=form) as tar:
            for name, value in members.items():
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return write

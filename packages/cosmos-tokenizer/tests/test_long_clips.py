"""Long clips and large frames on the command line: the notice, --exact, --tile, and memory that does not grow."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_tokenizer import codec_commands, token_files
from cosmos_tokenizer.checkpoint import load
from cosmos_tokenizer.images import read_image
from cosmos_tokenizer.media import to_clip
from cosmos_tokenizer.tiling import Tiles
from cosmos_tokenizer.tokens import load_tokens
from cosmos_tokenizer.video import Video, read_video, write_video

Run = Callable[..., Any]

NOTICE = "long.mp4: is longer than 121 frames (16 latent frames), so temporal attention looks back 16 latent frames"
COMMANDS = {
    "encode": "encode long.mp4 a.safetensors",
    "reconstruct": "reconstruct long.mp4 a.mp4",
    "evaluate": "evaluate long.mp4",
}


@pytest.fixture
def long(place: Path, gradients: Callable[..., np.ndarray]) -> np.ndarray:
    """A clip of 131 frames at 16x16, 18 latent frames of the toys; returns it as it reads back."""
    write_video("long.mp4", Video(frames=gradients(131, 16, 16), rate=Fraction(24)))
    return read_video("long.mp4").frames


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_one_line_says_from_where_on_attention_is_bounded_unless_it_is_not(
    command: str, long: np.ndarray, run: Run
) -> None:
    bounded = run(f"{command} --json")
    assert (bounded.code, bounded.out.count(NOTICE), bounded.out.count("--exact")) == (0, 1, 1)
    assert bounded.json["files"][0]["window"] == 16
    exact = run(f"{command} --json --exact")
    assert (exact.code, "looks back" in exact.out) == (0, False)
    assert exact.json["files"][0]["window"] is None


def test_decoding_says_it_too_and_clips_that_fit_say_nothing(long: np.ndarray, place: Path, run: Run) -> None:
    run("encode long.mp4 a.safetensors")
    assert "a.safetensors: is longer than 121 frames" in run("decode a.safetensors a.mp4").out
    assert "longer" not in run("decode a.safetensors a.mp4 --exact").out
    write_video("short.mp4", Video(frames=long[:121], rate=Fraction(24)))
    assert "longer" not in run("reconstruct short.mp4 b.mp4").out


def test_tokens_are_those_of_the_streams(long: np.ndarray, place: Path, run: Run) -> None:
    model = load("models/toy.safetensors")
    with torch.no_grad():
        expected = model.encode(to_clip(long))[0]
        stream = model.stream_encoder(window=16)
        bounded = torch.cat([stream.push(to_clip(long)), stream.flush()], dim=2)[0]
    run("encode long.mp4 exact.safetensors --exact")
    run("encode long.mp4 bounded.safetensors")
    torch.testing.assert_close(load_tokens("exact.safetensors").values, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(load_tokens("bounded.safetensors").values, bounded, atol=1e-5, rtol=0)
    assert run("info exact.safetensors --json", None).json["window"] is None
    assert run("info bounded.safetensors --json", None).json["window"] == 16


@pytest.mark.parametrize("model", ["toy", "discrete"])
def test_a_long_clip_comes_back_whole_through_a_file_in_parts(
    model: str, long: np.ndarray, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_files, "PART_BYTES", 100)
    assert run("encode long.mp4 a.safetensors", model).code == 0
    reader = token_files.TokenReader("a.safetensors")
    assert len(list(reader.parts())) >= 2
    assert run("info a.safetensors --json", None).json["token_shape"] == list(reader.shape)
    assert run("decode a.safetensors a.mp4", model).code == 0
    assert run("reconstruct long.mp4 b.mp4", model).code == 0
    through_file, direct = read_video("a.mp4"), read_video("b.mp4")
    assert through_file.frames.shape == long.shape
    assert through_file.rate == 24
    assert np.abs(through_file.frames.astype(int) - direct.frames).max() <= 2


@pytest.mark.parametrize("model", ["toy", "image"])
def test_tiles_are_taken_where_asked_for(model: str, place: Path, run: Run) -> None:
    whole = load(f"models/{model}.safetensors")
    assert run("encode pic.png tiled.safetensors --tile 24", model).code == 0
    assert run("encode pic.png whole.safetensors", model).code == 0
    assert run("info tiled.safetensors --json", None).json["tile"] == 24
    assert run("decode tiled.safetensors a.png --tile 24", model).code == 0
    assert run("reconstruct pic.png b.png --tile 24", model).code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    with torch.no_grad():
        expected = whole.encode(to_clip(read_image("pic.png")[None]), tiles=Tiles(size=24, overlap=6))[0]
    torch.testing.assert_close(load_tokens("tiled.safetensors").values, expected, atol=1e-5, rtol=0)
    assert not torch.equal(load_tokens("whole.safetensors").values, load_tokens("tiled.safetensors").values)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_tile_of_no_size_is_one_line(command: str, long: np.ndarray, run: Run) -> None:
    done = run(f"{command} --tile 0")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "long.mp4: a tile of 0 pixels" in done.err


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt, 130), (OSError(28, "No space left on device"), 2), (RuntimeError, 1)]
)
@pytest.mark.parametrize("command", ["encode long.mp4 a.safetensors", "reconstruct long.mp4 a.mp4"])
def test_what_stops_a_clip_in_the_middle_leaves_nothing(
    command: str, error: Any, code: int, long: np.ndarray, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(frames: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
        for _ in range(4):
            yield np.stack([next(frames) for _ in range(8)])
        raise error

    monkeypatch.setattr(codec_commands, "in_pieces", stops)
    before = set(os.listdir("."))
    assert run(command).code == code
    assert set(os.listdir(".")) == before


def test_frames_are_written_before_the_clip_is_read(
    long: np.ndarray, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the clip is, no more frames are on their way than one pass takes and one latent frame makes."""
    read, written, apart = 0, 0, []
    real = codec_commands.media_writer

    def pieces(frames: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
        nonlocal read
        while piece := list(itertools.islice(frames, 8)):
            read += len(piece)
            apart.append(read - written)
            yield np.stack(piece)

    @contextmanager
    def writer(*args: Any, **options: Any) -> Iterator[Callable[[np.ndarray], None]]:
        def add(frames: np.ndarray) -> None:
            nonlocal written
            written += len(frames)
            add_to_file(frames)

        with real(*args, **options) as add_to_file:
            yield add

    monkeypatch.setattr(codec_commands, "in_pieces", pieces)
    monkeypatch.setattr(codec_commands, "media_writer", writer)
    assert run("reconstruct long.mp4 a.mp4").code == 0
    assert written == read == 131
    assert max(apart) <= 16

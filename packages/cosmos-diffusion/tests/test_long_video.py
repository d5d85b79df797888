"""Pipelines beyond the length of their clips, and ``cosmos-diffusion generate --frames`` of as many."""

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmos_diffusion import load
from cosmos_diffusion.cli import main
from cosmos_diffusion.embedding_files import Embedding
from cosmos_diffusion.long_video import LongVideo
from cosmos_diffusion.pipelines import Text2World, Video2World
from cosmos_diffusion.rollout import Chunk, Continues, chunk_seed
from cosmos_tokenizer import InputError
from cosmos_tokenizer.media import to_clip, to_frames
from cosmos_tokenizer.video import Video, read_video, write_video


@pytest.fixture(scope="module")
def pipeline(toy_world: Callable, toy_codec: Callable) -> Video2World:
    return Video2World(toy_world(), codec=toy_codec())


def clip(frames: int) -> Tensor:
    return torch.rand(1, 3, frames, 32, 48) * 2 - 1


def joined(chunks: Sequence[Chunk]) -> Tensor:
    return torch.cat([chunk.video for chunk in chunks], dim=2)


class Chat:
    """A language model that counts its captions, and remembers what it was shown."""

    def __init__(self) -> None:
        self.frames: list[np.ndarray | None] = []

    def reply(self, _text: str, frame: np.ndarray | None, _sampling: object, /) -> str:
        self.frames.append(frame)
        return f"Caption {len(self.frames)}."


class Wary:
    """A guard that blackens what it sees, and remembers it."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.frames: list[np.ndarray] = []

    def check_prompt(self, text: str, /) -> Any:
        self.prompts.append(text)
        return type("Verdict", (), {"allowed": True, "reason": "looked at"})()

    def check_video(self, frames: np.ndarray, /) -> Any:
        self.frames.append(frames)
        verdict = {"allowed": True, "reason": "looked at", "frames": np.zeros_like(frames)}
        return type("Verdict", (), verdict)()


def test_each_chunk_is_the_pipelines_own_clip_of_the_end_of_the_one_before(pipeline: Video2World) -> None:
    maker, video = LongVideo(pipeline, steps=1), clip(20)
    assert isinstance(maker, Continues)
    chunks = list(maker(40, prompts=["it falls", "it stops"], video=video, seed=5, drift=[0.001, 0.2]))
    first = pipeline("it falls", video=video, seeds=5, augment=0.001, steps=1).video
    second = pipeline("it stops", video=first, seeds=chunk_seed(5, 1), augment=0.2, steps=1).video
    third = pipeline("it stops", video=second, seeds=chunk_seed(5, 2), augment=0.2, steps=1).video
    assert torch.equal(joined(chunks[:3]), torch.cat([first, second[:, :, 9:], third[:, :, 9:]], dim=2))
    assert joined(chunks).shape[2] == 40
    assert torch.equal(joined(chunks)[:, :, :9], video[:, :, -9:])


def test_text_begins_with_nothing_given(toy_world: Callable, toy_codec: Callable) -> None:
    starting = Text2World(toy_world(), codec=toy_codec())
    chunks = list(LongVideo(starting, frames=9, steps=1)(20, prompts="it falls", seed=2))
    assert torch.equal(chunks[0].video, starting("it falls", seeds=2, frames=9, steps=1).video)
    assert [chunk.given for chunk in chunks] == [0, 1, 1]
    with pytest.raises(InputError, match="use Video2World"):
        LongVideo(starting)(20, video=clip(1))
    text_alone = LongVideo(Text2World(toy_world(frames=False), codec=toy_codec()), frames=9, steps=1)
    assert joined(list(text_alone(8))).shape[2] == 8
    with pytest.raises(InputError, match="frames is 10, and this network takes text alone, so that it ends at 9"):
        text_alone(10)


def test_views_go_on_together(toy_world: Callable, toy_codec: Callable) -> None:
    world = toy_world(views=2, position="sincos")
    maker = LongVideo(Video2World(world, codec=toy_codec()), steps=1)
    video = clip(18)
    chunks = list(maker(30, video=video))
    views = [torch.cat([chunk.video.chunk(2, dim=2)[view] for chunk in chunks], dim=2) for view in range(2)]
    for view, given in zip(views, video.chunk(2, dim=2), strict=True):
        assert view.shape[2] == 30
        assert torch.equal(view[:, :, :9], given)
    assert not torch.equal(*views)


def test_prompts_are_embedded_when_they_change(pipeline: Video2World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    texts = pipeline.texts
    monkeypatch.setattr(pipeline, "texts", lambda prompt, **told: (asked.append(prompt), texts(prompt, **told))[1])
    list(LongVideo(pipeline, steps=1)(50, prompts=["a", "a", "b"], video=clip(9)))
    assert asked == ["a", "b"]
    asked.clear()
    said = Embedding(text=torch.randn(3, 32), prompt="a")
    video = clip(1)
    by_file = list(LongVideo(pipeline, steps=1, embeddings=said)(30, video=video))
    assert asked == [None]
    assert len(by_file) == 3
    assert torch.equal(by_file[0].video, pipeline(embeddings=said, video=video, steps=1).video)


def test_captions_are_of_what_each_chunk_is_given(toy_world: Callable, toy_codec: Callable) -> None:
    chat = Chat()
    maker = LongVideo(Video2World(toy_world(), codec=toy_codec(), upsampler=chat), steps=1)
    chunks, said = [], []
    for chunk in maker(30, prompts="it falls", video=clip(9)):
        chunks.append(chunk)
        said.append(maker.said(chunk)["upsampled_prompt"])
    assert said == ["Caption 1.", "Caption 2.", "Caption 3."]
    for frame, chunk in zip(chat.frames[1:], chunks, strict=False):
        assert frame is not None
        assert np.array_equal(frame, to_frames(chunk.video)[-1])
    starting = LongVideo(Text2World(toy_world(), codec=toy_codec(), upsampler=chat), steps=1)
    list(starting(20, prompts="it falls"))
    assert [frame is None for frame in chat.frames[3:]] == [True, False]
    with pytest.raises(InputError, match="an upsampler and no prompt"):
        list(starting(20))


def test_the_guard_sees_what_is_added_and_the_video_goes_on_from_what_was_made(
    pipeline: Video2World, toy_world: Callable, toy_codec: Callable
) -> None:
    guard, video = Wary(), clip(9)
    maker = LongVideo(Video2World(toy_world(), codec=toy_codec(), guard=guard), steps=1)
    shown = joined(list(maker(30, prompts="it falls", video=video)))
    plain = joined(list(LongVideo(pipeline, steps=1)(30, prompts="it falls", video=video)))
    assert guard.prompts == ["it falls"]
    assert np.array_equal(np.concatenate(guard.frames), to_frames(plain))
    assert not to_frames(shown).any()


def test_callbacks_end_it(pipeline: Video2World) -> None:
    steps: list[int] = []

    def third(_: object) -> bool:
        steps.append(1)
        return len(steps) == 3

    assert len(list(LongVideo(pipeline, callback=third)(100, video=clip(1)))) == 1
    chunks = list(LongVideo(pipeline, steps=1)(100, video=clip(1), callback=lambda chunk: chunk.index == 1))
    assert len(chunks) == 2


Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(world_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs the command in a folder with a model and a clip: exit code, last line, standard error."""
    monkeypatch.chdir(world_file.parent)
    y, x = np.mgrid[:32, :48]
    frames = np.stack([[4 * t + y + x, 200 - x, 90 + y] for t in range(12)]).transpose(0, 2, 3, 1).astype(np.uint8)
    write_video("clip.mp4", Video(frames=frames, rate=Fraction(30)))

    def call(*words: str) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        code = main(["generate", "--model", str(world_file), "--json", "--out", "next.mp4", "--steps", "1", *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err, err
        return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, err

    return call


def test_generate_writes_more_frames_than_the_model_makes_at_a_time(run: Run) -> None:
    code, said, err = run(
        "--video", "clip.mp4", "--frames", "33", "--prompt", "a", "--next-prompt", "b", "c", "--seed", "3", "4"
    )
    assert (code, err) == (0, "")
    video = to_clip(read_video("clip.mp4").frames)
    for file, seed in zip(said["files"], (3, 4), strict=True):
        path = Path(f"next-{seed}.mp4")
        assert file["out"] == [str(path)]
        made = read_video(path)
        assert (len(made.frames), made.rate) == (33, 30)
        metadata = json.loads(path.with_suffix(".json").read_text())
        assert metadata == {name: value for name, value in file.items() if name != "metadata"}
        told = [(c["first"], c["frames"], c["given"], c["prompt"], c["seed"]) for c in metadata["chunks"]]
        assert told == [
            (0, 17, 9, "a", seed),
            (17, 8, 9, "b", chunk_seed(seed, 1)),
            (25, 8, 9, "c", chunk_seed(seed, 2)),
        ]
        assert metadata | {"frames": 33, "chunk": 17, "seed": seed, "condition_frames": 9, "augment": 0.001} == metadata
        pipeline = Video2World(load("world.safetensors"))
        chunks = LongVideo(pipeline, steps=1, fps=30)(33, prompts=["a", "b", "c"], video=video, seed=seed)
        write_video("same.mp4", Video(frames=to_frames(joined(list(chunks))), rate=Fraction(30)))
        apart = np.abs(read_video("same.mp4").frames.astype(int) - made.frames)
        assert apart.mean() < 5  # weights read anew may round otherwise, which random networks make more of


def test_generate_takes_chunks_overlap_and_drift(run: Run) -> None:
    code, said, _ = run("--frames", "41", "--chunk", "17", "--overlap", "1", "--drift", "0.001", "0.3")
    assert code == 0
    (file,) = said["files"]
    assert [(c["frames"], c["given"], c["augment"]) for c in file["chunks"]] == [
        (17, 0, None),
        (16, 1, 0.3),
        (8, 1, 0.3),
    ]
    assert len(read_video("next.mp4").frames) == 41
    code, said, _ = run("--frames", "25", "--chunk", "25")
    assert code == 0
    assert "chunks" not in said["files"][0]
    code, said, _ = run("--video", "clip.mp4", "--frames", "25", "--augment", "0.1")
    assert {c["augment"] for c in said["files"][0]["chunks"]} == {0.1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--frames", "17", "--overlap", "1"], "--overlap is of videos of several chunks: give more --frames than 17"),
        (["--frames", "20"], "frames is 20: give 1 + a multiple of 8, such as 17 or 25"),
        (["--drift", "0.1"], "--drift is of videos of several chunks"),
        (["--next-prompt", "b"], "--next-prompt is of videos of several chunks"),
        (["--chunk", "9"], "--chunk is of the parts of a longer video: give --frames"),
        (["--frames", "33", "--overlap", "17"], "overlap: 17, and a chunk has 17 frames"),
        (["--frames", "33", "--overlap", "8"], "overlap: 8"),
        (["--frames", "33", "--chunk", "10"], "10"),
        (["--frames", "33", "--drift", "-1"], "drift is"),
        (["--frames", "33", "--video", "clip.mp4", "--augment", "1", "--drift", "1"], "both give noise levels"),
        (["--frames", "33", "--embeddings", "a", "--next-prompt", "b"], "--embeddings are of all chunks"),
    ],
)
def test_generate_says_what_is_wrong_with_chunks(run: Run, words: list[str], message: str) -> None:
    code, _, err = run(*words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err
    assert not list(Path().glob("next*"))

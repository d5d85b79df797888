"""``cosmos-diffusion generate``: files, metadata and exit codes, and one line for what is wrong."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_diffusion import load, lora, samplers, save
from cosmos_diffusion.cli import main
from cosmos_diffusion.embedding_files import Embedding, write_embedding
from cosmos_diffusion.pipelines import Video2World, request
from cosmos_tokenizer.images import write_image
from cosmos_tokenizer.media import to_clip, to_frames
from cosmos_tokenizer.video import Video, read_video, write_video

Run = Callable[..., tuple[int, dict[str, Any], str]]


def footage(frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Smooth, so that video coding changes it little."""
    t, y, x = np.mgrid[:frames, :height, :width]
    red, green = 120 + 4 * t + y, 200 - 2 * x + t
    return np.stack([red, green, red // 2], axis=-1).clip(0, 255).astype(np.uint8)


@pytest.fixture
def run(world_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs the command in a folder with a model: its exit code, its last line, its standard error."""
    monkeypatch.chdir(world_file.parent)
    write_video("clip.mp4", Video(frames=footage(20), rate=Fraction(30)))

    def call(*words: str, model: str = "world.safetensors") -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        code = main(["generate", "--model", model, "--json", *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err, err
        return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, err

    return call


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Mean distance in levels; video coding makes much of the last bits of noise."""
    return float(np.abs(one.astype(int) - other).mean())


def left() -> set[str]:
    return {path.name for path in Path().iterdir()} - {"world.safetensors", "codec.safetensors", "clip.mp4"}


def test_a_video_goes_on(run: Run) -> None:
    code, said, err = run("--video", "clip.mp4", "--out", "next.mp4", "--prompt", "it falls", "--seed", "3")
    assert (code, err) == (0, "")
    assert left() == {"next.mp4", "next.json"}
    made, source = read_video("next.mp4"), read_video("clip.mp4").frames
    assert made.frames.shape == (17, 32, 48, 3)
    assert made.rate == 30
    assert np.abs(made.frames[:9].astype(int) - source[-9:]).mean() < 4
    (file,) = said["files"]
    assert json.loads(Path("next.json").read_text()) == {k: v for k, v in file.items() if k != "metadata"}
    told = {"pipeline": "Video2World", "model": "world.safetensors", "seed": 3, "steps": 2, "prompt": "it falls"}
    told |= {"negative": "all rests", "frames": 17, "height": 32, "width": 48, "fps": 30.0, "condition_frames": 9}
    told |= {
        "augment": 0.001,
        "sampler": "res_2ab",
        "guard": {"on": False},
        "upsampled_prompt": None,
        "out": ["next.mp4"],
    }
    assert file | told == file
    assert file["guidance"] | {"weight": 1.5, "convention": "beyond"} == file["guidance"]
    assert {"cosmos-diffusion", "cosmos-tokenizer", "torch"} == set(file["versions"])
    pipeline = Video2World(load("world.safetensors"))
    alone = pipeline("it falls", video=to_clip(source), seeds=3, fps=30)
    write_video("alone.mp4", Video(frames=to_frames(alone.video), rate=Fraction(30)))
    assert apart(read_video("alone.mp4").frames, made.frames) < 0.1


def test_text_alone_makes_a_clip_and_a_picture_goes_on(run: Run) -> None:
    code, said, _ = run("--out", "next.mp4", "--frames", "9", "--height", "48", "--width", "16", "--fps", "7.5")
    assert code == 0
    assert said["files"][0]["pipeline"] == "Text2World"
    made = read_video("next.mp4")
    assert (made.frames.shape, made.rate) == ((9, 48, 16, 3), Fraction(15, 2))
    write_image("start.png", footage(1, 64, 64)[0])
    code, said, _ = run("--image", "start.png", "--out", "next.mp4", "--frames", "9")
    assert (code, said["files"][0]["condition_frames"], said["files"][0]["fps"]) == (0, 1, 12.0)
    first = read_video("next.mp4").frames[0]
    assert abs(int(first[..., 0].mean()) - int(footage(1, 64, 64)[..., 0].mean())) < 3
    assert run("--out", "next.png", "--frames", "1")[0] == 0
    assert left() == {"next.mp4", "next.json", "next.png", "start.png"}


def test_several_seeds_are_several_files_each_as_alone(run: Run) -> None:
    code, said, _ = run("--video", "clip.mp4", "--out", "next.mp4", "--seed", "4", "12", "--condition-frames", "1")
    assert code == 0
    assert left() == {"next-4.mp4", "next-4.json", "next-12.mp4", "next-12.json"}
    assert [file["seed"] for file in said["files"]] == [4, 12]
    both = read_video("next-12.mp4").frames
    assert run("--video", "clip.mp4", "--out", "one.mp4", "--seed", "12", "--condition-frames", "1")[0] == 0
    assert Path("one.mp4").read_bytes() == Path("next-12.mp4").read_bytes()
    assert apart(read_video("next-4.mp4").frames, both) > 5


def test_text_may_have_been_embedded_before(run: Run) -> None:
    text = load("world.safetensors").text_encoder.encode(["it falls"])[0, :8].detach()
    write_embedding("said.safetensors", Embedding(text=text, prompt="it falls"))
    code, said, _ = run("--video", "clip.mp4", "--out", "next.mp4", "--embeddings", "said.safetensors")
    assert code == 0
    assert said["files"][0]["prompt"] == "it falls"
    run("--video", "clip.mp4", "--out", "other.mp4", "--prompt", "it falls")
    assert apart(read_video("next.mp4").frames, read_video("other.mp4").frames) < 0.1


def test_views_are_a_file_each(run: Run, toy_world: Callable) -> None:
    save(toy_world(tokenizer="codec.safetensors", views=2, position="sincos"), "views.safetensors")
    write_video("left.mp4", Video(frames=footage(12)[::-1], rate=Fraction(30)))
    code, said, _ = run("--video", "clip.mp4", "left.mp4", "--out", "next.mp4", model="views.safetensors")
    assert code == 0
    assert said["files"][0]["out"] == ["next-view0.mp4", "next-view1.mp4"]
    for name, source in zip(said["files"][0]["out"], ("clip.mp4", "left.mp4"), strict=True):
        begun = read_video(name).frames[:9].astype(int)
        assert np.abs(begun - read_video(source).frames[-9:]).mean() < 4
    code, _, err = run("--video", "clip.mp4", "--out", "next.mp4", model="views.safetensors")
    assert code == 2
    assert "1 videos are given, and views.safetensors has 2 views" in err


class StrictGuard:
    """Refuses what is red, and paints the first frame's corner."""

    def check_prompt(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(allowed="red" not in text, reason="colours looked at")

    def check_video(self, frames: np.ndarray) -> SimpleNamespace:
        frames[0, :4, :4] = 0
        return SimpleNamespace(allowed=True, reason="painted", frames=frames)


def test_a_guard_is_a_function_s_and_its_verdicts_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("guarding.py").write_text("class Guard:\n    pass\n")
    monkeypatch.syspath_prepend(".")
    import guarding

    guarding.Guard = StrictGuard
    words = ("--video", "clip.mp4", "--out", "next.mp4", "--guard", "guarding:Guard")
    code, said, _ = run(*words, "--prompt", "a green ball")
    assert code == 0
    assert said["files"][0]["guard"]["prompts"] == [
        {"text": "a green ball", "allowed": True, "reason": "colours looked at"}
    ]
    assert said["files"][0]["guard_on_video"] == {"allowed": True, "reason": "painted", "changed_frames": 1}
    frames = read_video("next.mp4").frames
    assert frames[0, 1, 1].max() < 40
    assert frames[1, 1, 1].max() > 80
    Path("next.mp4").unlink()
    Path("next.json").unlink()
    code, _, err = run(*words, "--prompt", "a red ball")
    assert (code, left()) == (2, {"guarding.py", *(["__pycache__"] * Path("__pycache__").exists())})
    assert err == "cosmos-diffusion: the guard refuses the prompt 'a red ball': colours looked at\n"
    assert run(*words[:-1], "guarding:nothing")[0] == run(*words[:-1], "json:dumps")[0] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--frames 20", "frames is 20: give 1 + a multiple of 8, such as 17 or 25"),
        ("--height 40", "height is 40: give a multiple of 16"),
        ("--width -16", "width is -16"),
        ("--steps 0", "steps is 0: give a whole number from 1 to 10000"),
        ("--augment -1", "augment is -1.0: give a noise level from 0 up"),
        ("--seed -1", "seed is -1: give a whole number from 0"),
        ("--seed 1 1", "--seed names 1 1: give each once"),
        ("--fps 0", "fps is 0.0: give a number of frames a second from 0.1 to 1000"),
        ("--fps 1e300", "fps is 1e+300: give a number"),
        ("--fps 1e9", "fps is 1000000000.0: give a number"),
        ("--fps 1e-9", "fps is 1e-09: give a number"),
        ("--fps nan", "fps is nan: give a number"),
        ("--guidance-convention between", "--guidance-convention is given without --guidance"),
        ("--upsampler-model a", "are of an --upsampler: give one"),
        ("--upsampler-key-file nothing --upsampler http://localhost:9/v1 --upsampler-model a", "nothing: No such file"),
        ("--condition-frames -7", "condition_frames is -7: give 1 + a multiple of 8, such as 1 or 9"),
        ("--guidance nan", "guidance is nan"),
        ("--guidance 1e30 --prompt x", "guidance 1e+30 in float32 gave numbers that are not finite: give a smaller"),
        ("--frames 1", "a single picture is frames 1 without a video or an image"),
        ("--condition-frames 25", "clip.mp4: has 20 frames, and 25 are to be given"),
        ("--condition-frames 8", "condition_frames is 8: give 1 + a multiple of 8, such as 1 or 9"),
        ("--condition-frames 17", "frames is 17, and 17 of them are given"),
        ("--out nowhere/next.mp4", "nowhere/next.mp4: there is no folder nowhere; make it first"),
        ("--out next.avi", "next.avi: video is written as MP4"),
        ("--out next.png --frames 9", "is a picture's name, and frames is 9"),
        ("--out next.png", "is a picture's name, and frames is 17"),
        ("--out clip.mp4", "clip.mp4: is an input"),
        ("--video nothing.mp4", "nothing.mp4: no such file"),
        ("--video broken.mp4", "broken.mp4: is truncated"),
        ("--video picture.png", "picture.png: is a picture; give it as --image"),
        ("--embeddings wide.safetensors", "the embedding has vectors of width 33: this network takes 32"),
        ("--embeddings none.safetensors", "none.safetensors: no such file"),
        ("--tokenizer nano-cv8x8x8", "the tokenizer has 16 channels, and the network takes 4"),
        ("--tokenizer nano-dv4x8x8", "the tokenizer is discrete"),
        ("--model text.safetensors", "text.safetensors takes text alone: use a video2world model"),
        ("--model cut.safetensors", "truncated"),
        ("--model nothing", "nothing"),
        ("--device cuda:99", "device is 'cuda:99'"),
        ("--offload blocks", "paging is from host memory to a GPU"),
        ("--shard", "start them with torchrun"),
        ("--cache -1", "threshold of the step cache is -1.0: give a number from 0 up"),
        ("--cache 0.1 --in-turn", "cache is for both predictions in one batch: leave it out, or in_turn"),
        ("--lora nothing", "nothing: No such file"),
        ("--lora world.safetensors", "world.safetensors: key"),
        ("--sampler ddim", "invalid choice: 'ddim'"),
        ("--image picture.png", "not allowed with argument --video"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(run: Run, toy_world: Callable, words: str, says: str) -> None:
    write_image("picture.png", footage(1)[0])
    Path("broken.mp4").write_bytes(Path("clip.mp4").read_bytes()[:-2000])
    Path("cut.safetensors").write_bytes(Path("world.safetensors").read_bytes()[:-2000])
    save(toy_world(frames=False, tokenizer="codec.safetensors"), "text.safetensors")
    write_embedding("wide.safetensors", Embedding(text=torch.ones(3, 33)))
    before = left()
    code, _, err = run("--video", "clip.mp4", "--out", "next.mp4", *words.split())
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert left() == before


@pytest.mark.parametrize(("name", "words"), [("next-4.mp4", "--seed 4 5"), ("next-view1.mp4", "")])
def test_no_input_is_written_over_under_the_name_of_a_seed_or_a_view(run: Run, name: str, words: str) -> None:
    Path(name).write_bytes(Path("clip.mp4").read_bytes())
    videos = ("--video", name) if words else ("--video", "clip.mp4", name)
    code, _, err = run(*videos, "--out", "next.mp4", *words.split())
    assert (code, err) == (2, f"cosmos-diffusion: {name}: is an input; write the output elsewhere\n")
    assert left() == {name}
    assert Path(name).read_bytes() == Path("clip.mp4").read_bytes()


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--config", "next.json"),
        ("--embeddings", "next.mp4"),
        ("--lora", "next.mp4"),
        ("--negative-embeddings", "next.mp4"),
        ("--upsampler-key-file", "next.mp4"),
    ],
)
def test_no_other_file_that_is_read_is_written_over(run: Run, option: str, name: str) -> None:
    Path(name).write_text("read")
    code, _, err = run("--video", "clip.mp4", "--out", "next.mp4", option, name)
    assert (code, err) == (2, f"cosmos-diffusion: {name}: is an input; write the output elsewhere\n")
    assert Path(name).read_text() == "read"


def test_a_folder_that_cannot_be_written_is_said_before_the_work(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("closed").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "closed")  # a superuser may write anywhere
    monkeypatch.setattr(request, "RELEASED_SAMPLERS", {})
    code, _, err = run("--video", "clip.mp4", "--out", "closed/next.mp4")
    assert (code, err) == (
        2,
        "cosmos-diffusion: closed/next.mp4: nothing may be written in folder closed; give another\n",
    )


def test_a_cache_leaves_steps_out_and_says_how_many(run: Run) -> None:
    words = ("--video", "clip.mp4", "--steps", "6", "--prompt", "it falls")
    made = {}
    for cache in ((), ("--cache", "0"), ("--cache", "1000")):
        code, said, _ = run(*words, *cache, "--out", "next.mp4")
        assert code == 0
        (file,) = said["files"]
        made[cache] = (file["cache"], file["steps_reused"], Path("next.mp4").read_bytes())
    assert made[()][:2] == (None, None)
    assert made["--cache", "0"] == (0.0, 0, made[()][2])
    assert made["--cache", "1000"][0] == 1000
    assert 0 < made["--cache", "1000"][1] < 6
    assert made["--cache", "1000"][2] != made[()][2]
    assert run(*words, "--cache", "1000", "--frames", "25", "--out", "long.mp4")[0] == 0
    assert [chunk["steps_reused"] > 0 for chunk in json.loads(Path("long.json").read_text())["chunks"]] == [True, True]


def test_adapters_are_those_of_a_merged_model(run: Run) -> None:
    world = load("world.safetensors")
    lora.add(world, lora.LoRAConfig(rank=2, alpha=4))
    for parameter in lora.parameters(world).values():
        torch.nn.init.normal_(parameter, std=0.3)
    lora.save(world, "adapters.safetensors")
    lora.merge(world)
    lora.remove(world)
    save(world, "merged.safetensors")
    code, said, _ = run("--video", "clip.mp4", "--out", "next.mp4", "--lora", "adapters.safetensors")
    assert (code, said["files"][0]["lora"]) == (0, "adapters.safetensors")
    for model, same in (("merged.safetensors", True), ("world.safetensors", False)):
        code, said, _ = run("--video", "clip.mp4", "--out", "other.mp4", model=model)
        assert (code, said["files"][0]["lora"]) == (0, None)
        assert (Path("other.mp4").read_bytes() == Path("next.mp4").read_bytes()) == same


def test_what_becomes_of_text_unasked_is_said(
    run: Run, toy_world: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    save(toy_world(encoder=False, tokenizer="codec.safetensors"), "mute.safetensors")
    write_embedding("said.safetensors", Embedding(text=torch.ones(3, 32)))
    write_embedding("long.safetensors", Embedding(text=torch.ones(17, 32)))
    common = ["generate", "--out", "next.mp4", "--frames", "9", "--steps", "1", "--model"]
    for words, cut, left_out in (
        (["mute.safetensors"], False, False),
        (["mute.safetensors", "--embeddings", "said.safetensors"], False, True),
        (["mute.safetensors", "--embeddings", "long.safetensors"], True, True),
        (
            ["mute.safetensors", "--embeddings", "said.safetensors", "--negative-embeddings", "long.safetensors"],
            True,
            False,
        ),
        (["world.safetensors", "--prompt", "a" * 16], False, False),
        (["world.safetensors", "--prompt", "a" * 17], True, False),
    ):
        assert main([*common, *words]) == 0
        told, lines = json.loads(Path("next.json").read_text()), capsys.readouterr().out.splitlines()
        assert (told["text_cut"], told["negative_left_out"]) == (cut, left_out)
        assert sum("longer than the network reads" in line for line in lines) == cut
        assert sum("own negative prompt needs a text encoder" in line for line in lines) == left_out


def test_full_memory_is_told_with_what_would_fit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **named: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(request, "RELEASED_SAMPLERS", {"edm": full})
    code, _, err = run("--video", "clip.mp4", "--out", "next.mp4")
    assert (code, left(), err.count("\n")) == (2, set(), 1)
    assert "out of memory; --dtype bfloat16 would need 0.0 of the " in err


@pytest.mark.parametrize("where", ["sampling", "writing"])
def test_an_interrupt_leaves_nothing_half_written(run: Run, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def stop(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    if where == "sampling":
        monkeypatch.setattr(request, "RELEASED_SAMPLERS", {"edm": stop})
    else:
        monkeypatch.setattr("cosmos_diffusion.generation_files.to_json", stop)
    code, _, err = run("--video", "clip.mp4", "--out", "next.mp4")
    assert (code, left(), err.count("\n")) == (130, set(), 1)


def test_of_several_processes_only_the_first_writes(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", "--model", "world.safetensors", "--out", "next.mp4", "--frames", "9", "--json"]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    for rank, files in ((1, set()), (0, {"next.mp4", "next.json"})):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        assert main(words) == 0
        assert left() == files
        assert bool(capsys.readouterr().out) == bool(files)


def test_names_of_samplers_are_the_command_s(run: Run) -> None:
    assert set(request.SAMPLERS) == {"euler", "heun", "res_2ab", "dpmpp_2m", "unipc"}
    assert all(getattr(samplers, name) is sampler for name, sampler in request.SAMPLERS.items())
    code, said, _ = run("--out", "next.mp4", "--sampler", "heun", "--steps", "1", "--frames", "9")
    assert (code, said["files"][0]["sampler"]) == (0, "heun")

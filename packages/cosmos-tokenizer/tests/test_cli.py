"""The command line, in process: clips to tokens and back, and one clear line for everything that is wrong."""

import argparse
import errno
import json
import os
import resource
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, codec_commands, convert
from cosmos_tokenizer.checkpoint import load, save
from cosmos_tokenizer.cli import build_parser, main
from cosmos_tokenizer.images import read_image, write_image
from cosmos_tokenizer.tokens import load_tokens, save_tokens
from cosmos_tokenizer.video import Video, read_video, write_video

Gradients = Callable[..., np.ndarray]
Run = Callable[..., Any]

RATE = Fraction(30000, 1001)


def _left(place: Path) -> set[str]:
    return {str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()} - {"clip.mp4", "pic.png"}


def test_the_flags_are_these() -> None:
    """A change here is a change for users: it needs a line in CHANGELOG.md."""
    [commands] = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    common, moving = ["--device", "--dtype", "--help", "--json", "--preset"], ["--exact", "--model", "--tile"]
    flags = {
        name: (
            [a.dest for a in command._actions if not a.option_strings],
            sorted(option for a in command._actions for option in a.option_strings if option.startswith("--")),
        )
        for name, command in commands.choices.items()
    }
    assert flags == {
        "encode": (
            ["inputs", "output"],
            sorted([*common, *moving, "--latents", "--per-shard", "--shards", "--workers"]),
        ),
        "decode": (["inputs", "output"], sorted([*common, *moving])),
        "reconstruct": (["inputs", "output"], sorted([*common, *moving])),
        "evaluate": (
            ["inputs"],
            sorted([*common, *moving, "--fid-network", "--fvd-network", "--lpips-network", "--out"]),
        ),
        "convert": (["model", "output"], sorted([*common, "--to"])),
        "export": (["model", "output"], sorted([*common, "--dynamic", "--frames", "--part", "--size", "--step"])),
        "bench": (["model"], sorted([*common, "--frames", "--repeat", "--size"])),
        "info": (["model"], common),
    }


@pytest.mark.parametrize("model", ["toy", "discrete"])
def test_decoding_a_token_file_gives_what_reconstruct_gives(model: str, place: Path, run: Run) -> None:
    assert run("encode clip.mp4 clip.safetensors", model).code == 0
    assert run("decode clip.safetensors back.mp4", model).code == 0
    assert run("reconstruct clip.mp4 direct.mp4", model).code == 0
    back, direct = read_video("back.mp4"), read_video("direct.mp4")
    assert back.frames.shape == (7, 23, 38, 3)
    assert back.rate == direct.rate == RATE
    assert np.array_equal(back.frames, direct.frames)


@pytest.mark.parametrize(("model", "shape"), [("toy", (33, 20, 3)), ("image", (33, 20, 3))])
def test_pictures_go_through_image_and_video_models(model: str, shape: tuple[int, ...], place: Path, run: Run) -> None:
    assert run("encode pic.png pic.safetensors", model).code == 0
    assert load_tokens("pic.safetensors").rate is None
    assert run("decode pic.safetensors back.png", model).code == 0
    assert run("reconstruct pic.png direct.png", model).code == 0
    assert read_image("back.png").shape == shape
    assert np.array_equal(read_image("back.png"), read_image("direct.png"))


def test_a_one_frame_video_stays_a_video(place: Path, run: Run, gradients: Gradients) -> None:
    write_video("one.mp4", Video(frames=gradients(1), rate=Fraction(5)))
    assert run("encode one.mp4 one.safetensors").code == 0
    assert run("decode one.safetensors back.mp4").code == 0
    assert read_video("back.mp4").frames.shape == (1, 32, 48, 3)


def test_several_inputs_go_to_a_folder_and_come_back(place: Path, run: Run) -> None:
    encoded = run("encode . out/tokens --json")
    assert encoded.code == 0
    assert [row["output"] for row in encoded.json["files"]] == [
        "out/tokens/clip.safetensors",
        "out/tokens/pic.safetensors",
    ]
    assert run("decode out/tokens/*.safetensors out/back").code == 0
    assert _left(place) == {
        *("out/tokens/clip.safetensors", "out/tokens/pic.safetensors"),
        *("out/back/clip.mp4", "out/back/pic.png"),
    }


def test_tokens_written_in_one_dtype_decode_in_another(place: Path, run: Run) -> None:
    assert run("encode clip.mp4 a.safetensors --dtype bfloat16").code == 0
    assert load_tokens("a.safetensors").values.dtype == torch.bfloat16
    assert run("decode a.safetensors a.mp4").code == 0
    assert run("encode clip.mp4 b.safetensors").code == 0
    assert run("decode b.safetensors b.mp4 --dtype bfloat16").code == 0


@pytest.mark.parametrize(
    ("made_by", "asked_for"), [("nano-dv4x8x8", "nano-dv4x8x8"), ("../of/others.pt", "nano-cv4x8x8")]
)
def test_tokens_of_a_shipped_model_need_no_name_and_other_names_are_not_followed(
    made_by: str, asked_for: str, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("encode clip.mp4 a.safetensors")
    save_tokens("a.safetensors", replace(load_tokens("a.safetensors"), model=made_by))

    def load(source: str, **_: object) -> CausalTokenizer:
        raise InputError(f"asked for {source}")

    monkeypatch.setattr(codec_commands, "load", load)
    assert f"asked for {asked_for}" in run("decode a.safetensors a.mp4", None).err


def test_a_converted_checkpoint_decodes_the_tokens_of_the_first(place: Path, run: Run) -> None:
    assert run("encode clip.mp4 a.safetensors").code == 0
    converted = run("convert models/toy.safetensors native/model.pt --to native --json", None)
    assert (converted.code, converted.json["output"]) == (0, "native/model.pt")
    assert run("decode a.safetensors a.mp4 --model native/model.pt --preset toy", None).code == 0
    assert run("convert models/toy.safetensors half.safetensors --dtype bfloat16", None).code == 0
    assert run("info half.safetensors --json", None).json["dtype"] == "bfloat16"


def test_an_encoder_and_a_decoder_file_are_one_model(place: Path, run: Run, models: Path) -> None:
    whole = load(models / "toy.safetensors")
    for half in ("encoder", "decoder"):
        part = CausalTokenizer(whole.config, parts=half)
        part.load_state_dict({k: v for k, v in whole.state_dict().items() if k.startswith(half)})
        save(part, f"{half}.safetensors")
        convert(f"{half}.safetensors", f"{half}.pt", to="native")
    assert run("encode clip.mp4 a.safetensors --model encoder.safetensors", None).code == 0
    assert run("decode a.safetensors a.mp4 --model decoder.safetensors", None).code == 0
    pair = run("reconstruct clip.mp4 b.mp4 --model encoder.pt,decoder.pt --preset toy", None)
    assert pair.code == 0
    assert np.array_equal(read_video("a.mp4").frames, read_video("b.mp4").frames)
    alone = run("decode a.safetensors c.mp4 --model encoder.safetensors", None)
    assert (alone.code, "holds an encoder only" in alone.err) == (2, True)


def test_json_is_one_object_on_the_last_line(place: Path, run: Run) -> None:
    encoded = run("encode clip.mp4 clip.safetensors --json")
    assert encoded.err == ""
    assert encoded.json["command"] == "encode"
    [row] = encoded.json["files"]
    assert (row["frames"], row["height"], row["width"], row["rate"]) == (7, 23, 38, "30000/1001")
    assert row["token_shape"] == list(load_tokens("clip.safetensors").values.shape)
    assert run("decode clip.safetensors b.mp4 --json").json["files"][0]["output"] == "b.mp4"
    assert run("reconstruct clip.mp4 c.mp4 --json").json["command"] == "reconstruct"
    assert run("evaluate clip.mp4 --json").json["files"][0]["frames"] == 7
    info = run("info models/discrete.safetensors --json", None).json
    assert (info["holds"], info["kind"]) == ("model", "discrete")
    assert info["parameters"]["total"] == sum(p.numel() for p in CausalTokenizer(PRESETS["toy-discrete"]).parameters())
    tokens = run("info clip.safetensors --json", None).json
    assert (tokens["holds"], tokens["made_from"], tokens["rate"]) == ("tokens", "clip.mp4", "30000/1001")


def test_evaluate_prints_a_table_and_leaves_figures_and_a_picture(place: Path, run: Run) -> None:
    done = run("evaluate clip.mp4 pic.png --out report --json")
    assert done.code == 0
    assert "PSNR/frame" in done.out
    assert "mean" in done.out
    written = json.loads(Path("report/metrics.json").read_text(), parse_constant=pytest.fail)
    assert [row["file"] for row in written["files"]] == ["clip.mp4", "pic.png"]
    assert written["files"] == done.json["files"]
    assert written["files"][0]["psnr_frame"] >= written["files"][0]["psnr_video"]
    assert read_image("report/worst.png").shape[0] > 23 * 3
    run("reconstruct clip.mp4 out.mp4")
    assert _left(place) == {"report/metrics.json", "report/worst.png", "out.mp4"}


BAD = {
    "missing file": ("encode none.mp4 a.safetensors", "toy", "none.mp4: no such file"),
    "truncated": ("encode cut.mp4 a.safetensors", "toy", "cut.mp4: is truncated"),
    "not a video": ("reconstruct text.txt a.mp4", "toy", "text.txt: is not a video"),
    "empty file": ("evaluate empty.mp4", "toy", "empty.mp4: "),
    "empty folder": ("evaluate none", "toy", "none: holds no videos"),
    "empty glob": ("encode *.mov out", "toy", "*.mov: matches no file"),
    "truncated picture": ("encode cut.png a.safetensors", "toy", "cut.png: "),
    "video to an image model": ("encode clip.mp4 a.safetensors", "image", "clip.mp4: is a video"),
    "too small": ("encode small.png a.safetensors", "toy", "small.png: a frame of 9x40 is too small"),
    "missing model": ("encode clip.mp4 a.safetensors", "none", "models/none.safetensors"),
    "truncated model": ("encode clip.mp4 a.safetensors --model cut.safetensors", None, "cut.safetensors"),
    "unknown key": ("encode clip.mp4 a.safetensors --model unknown.safetensors", None, "stray.weight"),
    "missing key": ("encode clip.mp4 a.safetensors --model missing.safetensors", None, "encoder.conv_in"),
    "NaN weights": ("encode clip.mp4 a.safetensors --model nan.safetensors", None, "encoder.conv_in"),
    "no model": ("encode clip.mp4 a.safetensors --model clip.mp4", None, "clip.mp4"),
    "tokens as a model": ("encode clip.mp4 a.safetensors --model clip.safetensors", None, "clip.safetensors"),
    "unknown preset": ("encode clip.mp4 a.safetensors --preset nonsense", "toy", "nonsense"),
    "wrong kind": ("decode clip.safetensors a.mp4", "discrete", "this model is discrete"),
    "other kind": ("decode codes.safetensors a.mp4", "toy", "this model is continuous"),
    "other model": (
        "decode clip.safetensors a.mp4",
        "other",
        "clip.safetensors: the tokens were made by another model",
    ),
    "out of range": (
        "decode range.safetensors a.mp4",
        "discrete",
        "range.safetensors: index 100000000 is out of range",
    ),
    "damaged tokens": ("decode cut-tokens.safetensors a.mp4", "toy", "cut-tokens.safetensors: "),
    "a video as tokens": ("decode clip.mp4 a.mp4", "toy", "clip.mp4: is "),
    "weights as tokens": ("decode models/toy.safetensors a.mp4", "toy", "is not a token file"),
    "video name": ("decode clip.safetensors a.avi", "toy", "a.avi: video is written as MP4"),
    "picture name": ("reconstruct pic.png a.mp4", "toy", "a.mp4: a picture is written as PNG or JPEG"),
    "output is a folder of several": ("encode clip.mp4 pic.png clip.safetensors", "toy", "need a folder"),
    "video as token file": ("encode clip.mp4 pic.mp4", "toy", "pic.mp4: tokens are written as safetensors"),
    "own input": ("reconstruct clip.mp4 clip.mp4", "toy", "clip.mp4: is an input"),
    "report over a file": ("evaluate clip.mp4 --out clip.mp4", "toy", "clip.mp4: is a file"),
    "folder under a file": ("encode clip.mp4 clip.mp4/a.safetensors", "toy", "clip.mp4/a.safetensors: "),
    "full disk": ("encode clip.mp4 /dev/full", "toy", "/dev/full: No space left"),
    "no GPU": ("encode clip.mp4 a.safetensors --device cuda:63", "toy", "device is 'cuda:63'"),
    "no such device": ("info models/toy.safetensors --device abacus", None, "device is 'abacus'"),
    "no device to convert on": ("convert models/toy.safetensors a --device abacus", None, "device is 'abacus'"),
    "unknown dtype": ("encode clip.mp4 a.safetensors --dtype int8", "toy", "--dtype"),
    "mistyped option": ("encode clip.mp4 a.safetensors --modle x", "toy", "--modle"),
    "no output": ("encode clip.mp4", "toy", "OUTPUT"),
    "no command": ("", None, "COMMAND"),
    "unknown command": ("transmogrify", None, "transmogrify"),
    "unknown layout": ("convert models/toy.safetensors a --to yaml", None, "yaml"),
}


@pytest.fixture
def bad_files(place: Path, run: Run, models: Path) -> set[str]:
    run("encode clip.mp4 clip.safetensors")
    run("encode clip.mp4 codes.safetensors", "discrete")
    tokens = load_tokens("codes.safetensors")
    tokens.values[0, 1, 2] = 100_000_000
    save_tokens("range.safetensors", tokens)
    Path("cut.mp4").write_bytes(Path("clip.mp4").read_bytes()[:-400])
    Path("cut.png").write_bytes(Path("pic.png").read_bytes()[:-200])
    Path("cut-tokens.safetensors").write_bytes(Path("clip.safetensors").read_bytes()[:-7])
    Path("cut.safetensors").write_bytes((models / "toy.safetensors").read_bytes()[:-100])
    Path("text.txt").write_text("just words\n" * 100)
    Path("empty.mp4").touch()
    Path("none").mkdir()
    write_image("small.png", np.zeros((9, 40, 3), np.uint8))
    header = (models / "toy.safetensors").read_bytes()
    metadata = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    weights = load_file(models / "toy.safetensors")
    first = next(name for name in sorted(weights) if name.startswith("encoder.conv_in"))
    save_file(weights | {"stray.weight": torch.zeros(1)}, "unknown.safetensors", metadata)
    save_file(weights | {first: weights[first] * torch.nan}, "nan.safetensors", metadata)
    save_file({k: v for k, v in weights.items() if k != first}, "missing.safetensors", metadata)
    return _left(place)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_code_2_and_leaves_nothing(
    case: str, place: Path, run: Run, bad_files: set[str]
) -> None:
    line, model, words = BAD[case]
    done = run(line, model)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    assert "Traceback" not in done.err + done.out
    assert _left(place) == bad_files


@pytest.mark.parametrize(
    "command", ["encode clip.mp4 a.safetensors", "reconstruct clip.mp4 a.mp4", "evaluate clip.mp4 --out r"]
)
def test_a_file_that_may_not_grow_is_one_line_and_leaves_nothing(command: str, place: Path, run: Run) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        done = run(command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert os.strerror(errno.EFBIG) in done.err
    assert _left(place) == set()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 3 GiB"), 2, "out of memory; use"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
            2,
            "out of memory; use",
        ),
        (MemoryError(), 2, "out of memory; use"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_stops_a_run_is_one_line(
    error: BaseException, code: int, words: str, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(CausalTokenizer, "decode_raw", stop)
    done = run("reconstruct clip.mp4 a.mp4")
    assert (done.code, done.err.count("\n")) == (code, 1)
    assert words in done.err
    assert _left(place) == set()


@pytest.mark.parametrize("command", ["decode", "reconstruct"])
def test_help_says_that_sound_is_dropped(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "sound is dropped" in " ".join(capsys.readouterr().out.split())


def test_a_fault_of_ours_is_code_1_with_its_traceback(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_commands, "token_writer", lambda *_: {}["bug"])
    done = run("encode clip.mp4 a.safetensors")
    assert done.code == 1
    assert "Traceback" in done.err
    assert "KeyError: 'bug'" in done.err


def test_notices_go_to_standard_output(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = codec_commands.token_writer

    def warned(*args: object) -> AbstractContextManager[object]:
        warnings.warn("something to know", UserWarning, stacklevel=1)
        return real(*args)

    monkeypatch.setattr(codec_commands, "token_writer", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _to_standard_error
        done = run("encode clip.mp4 a.safetensors --json")
    assert done.err == ""
    assert "something to know" in done.out
    assert done.json["command"] == "encode"


def _to_standard_error(message: Warning | str, *_: object, **__: object) -> None:
    """What Python does outside pytest, which collects warnings instead."""
    import sys

    print(message, file=sys.stderr)


def test_latents_that_overflow_are_refused(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CausalTokenizer, "encode_raw", lambda self, clip, **_: torch.full((1, 4, 2, 3, 5), torch.inf))
    done = run("encode clip.mp4 a.safetensors")
    assert (done.code, _left(place)) == (2, set())
    assert "clip.mp4: its latents are not finite" in done.err


def test_files_before_a_bad_one_are_whole(place: Path, run: Run) -> None:
    Path("d.mp4").write_text("no video")
    assert run("encode clip.mp4 d.mp4 pic.png out").code == 2
    assert _left(place) == {"d.mp4", "out/clip.safetensors"}
    assert load_tokens("out/clip.safetensors").frames == 7

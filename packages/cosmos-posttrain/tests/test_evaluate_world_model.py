"""The adapter of Video2World: what it asks of a pipeline, and that the command scores a model from its file."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_diffusion import PRESETS, save
from cosmos_diffusion.defaults import Defaults
from cosmos_diffusion.pipelines import Video2World
from cosmos_diffusion.text_encoders.byte_encoder import ByteEncoderConfig
from cosmos_diffusion.world_model import WorldModel
from cosmos_posttrain.cli import main
from cosmos_posttrain.evaluate.world_model import WorldModelPredictor
from cosmos_tokenizer import InputError
from cosmos_tokenizer.media import to_clip, to_frames
from cosmos_tokenizer.video import Video, write_video


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Return a folder with a clip of 17 frames of 32x48, in which a red square slides."""
    folder = tmp_path / "worlds"
    folder.mkdir()
    masks = np.zeros((17, 32, 48), np.uint8)
    for place, mask in enumerate(masks):
        mask[9:19, 2 * place : 2 * place + 10] = 1
    frames = np.where(masks[..., None] > 0, np.array([230, 30, 40], np.uint8), np.uint8(120))
    np.savez(folder / "slide-0001.masks.npz", masks=masks)
    record = {"scene": "slide", "number": 1, "num_frames": 17, "framerate": 24.0, "caption": "A red square slides."}
    (folder / "slide-0001.json").write_text(json.dumps(record))
    write_video(folder / "slide-0001.mp4", Video(frames=frames, rate=Fraction(24)))
    return folder


def model_file(folder: Path, *, encoder: bool, preset: str = "toy-video") -> Path:
    config = PRESETS[preset]
    text = ByteEncoderConfig(width=config.text_width, length=config.text_length, layers=1, heads=2)
    defaults = Defaults(tokenizer="nano-cv8x8x8", frames=33, height=64, width=64, fps=24.0, steps=3, guidance=1.5)
    torch.manual_seed(0)
    world = WorldModel(config, text_encoder=text if encoder else None, defaults=defaults)
    for parameter in world.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    path = folder / f"{preset}-{encoder}.safetensors"
    save(world, path)
    return path


@pytest.mark.parametrize(("encoder", "given"), [(True, 9), (False, 1)])
def test_it_is_the_pipeline_with_the_caption_where_there_is_an_encoder(
    encoder: bool, given: int, tmp_path: Path
) -> None:
    path = model_file(tmp_path, encoder=encoder)
    frames = np.random.default_rng(given).integers(0, 256, (given, 32, 48, 3), np.uint8)
    predictor = WorldModelPredictor(path, steps=2)
    assert predictor.settings() == {"steps": 2, "guidance": 1.5}
    made = predictor.predict(frames, "A ball falls.", fps=12.0, frames=17, seed=3)
    expected = Video2World(path)(
        "A ball falls." if encoder else None,
        video=to_clip(frames),
        condition_frames=given,
        seeds=3,
        frames=17,
        height=32,
        width=48,
        fps=12.0,
        steps=2,
    )
    np.testing.assert_array_equal(made, to_frames(expected.video))
    np.testing.assert_array_equal(made[:given], frames)
    other = predictor.predict(frames, "A ball falls.", fps=12.0, frames=17, seed=4)
    assert (other[given:] != made[given:]).any()


def test_a_released_model_takes_the_tokenizer_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "released.safetensors"
    save(WorldModel(PRESETS["toy-video"]), path)  # with the released networks' defaults
    predictor = WorldModelPredictor(path, tokenizer="nano-cv8x8x8")
    assert predictor.codec.geometry == Video2World(model_file(tmp_path, encoder=False)).codec.geometry
    with pytest.raises(InputError, match="preset without weights"):
        WorldModelPredictor(path)


def test_frames_that_the_model_cannot_take_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes text alone"):
        WorldModelPredictor(model_file(tmp_path, encoder=False, preset="toy"))
    predictor = WorldModelPredictor(model_file(tmp_path, encoder=False), guidance=0)
    with pytest.raises(InputError, match="condition_frames is 4"):
        predictor.predict(np.zeros((4, 32, 48, 3), np.uint8), "", fps=12.0, frames=17, seed=0)


def test_the_command_scores_a_model_from_its_file(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model_file(tmp_path, encoder=True)
    command = ["evaluate", str(path), "--worlds", str(squares), "--conditioning", "9", "--seeds", "2"]
    assert main([*command, "--steps", "1", "--guidance", "0", "--json"]) == 0
    printed = capsys.readouterr().out
    last = json.loads(printed.splitlines()[-1])
    assert last["sampling"] == {"steps": 1, "guidance": 0}
    assert last["model"] == str(path)
    assert "the model beats copy-last-frame on motion-weighted IoU in 0 of 1 moving scenes" in printed
    figures = last["conditioning"]["9"]["figures"]["total"]
    assert next(iter(figures)) == "model"
    assert figures["model"]["psnr"]["value"] < figures["tokenizer round trip"]["psnr"]["value"]
    assert main(["evaluate", str(tmp_path / "none.safetensors"), "--worlds", str(squares)]) == 2
    assert capsys.readouterr().err.count("\n") == 1

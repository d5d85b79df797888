"""Figures of known reconstructions, and the picture of the worst frames."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_tokenizer import PRESETS, CausalTokenizer
from cosmos_tokenizer.evaluate import Score, row, score_clip, summary, table
from cosmos_tokenizer.jsontext import to_json
from cosmos_tokenizer.media import to_clip, to_frames
from cosmos_tokenizer.metrics import psnr_per_frame, psnr_per_video, ssim_per_frame
from cosmos_tokenizer.passes import Passes, passes_of
from cosmos_tokenizer.report import AMPLIFIED, ROWS, difference, write_worst
from cosmos_tokenizer.tally import Sample
from cosmos_tokenizer.video import Footage


def _footage(frames: np.ndarray, announced: int | None = None) -> Footage:
    return Footage(frames=iter(frames), size=frames.shape[1:3], rate=Fraction(24), announced=announced)


def _scored(model: CausalTokenizer, frames: np.ndarray, **options: object) -> tuple[Score, list[Sample]]:
    passes = passes_of(model, frames.shape[1:3], exact=False, tile=None)
    return score_clip(passes, _footage(frames, len(frames)), "a.mp4", **options)


def test_scores_are_those_of_the_reconstruction(
    gradients: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CausalTokenizer(PRESETS["toy"])
    frames = gradients(4, 20, 36).clip(0, 200)
    levels = np.array([2, 0, 40, 4], np.uint8)[:, None, None, None]
    # Let the model decode to the clip itself, frame i brighter by levels[i], and to three frames of padding.
    made = np.concatenate([frames + levels, frames[:3]])
    monkeypatch.setattr(Passes, "decode", lambda self, tokens, **_: (made for _ in [list(tokens)]))
    heard = []
    score, samples = _scored(model, frames, samples=2, done=heard.append)
    decibels = [20 * math.log10(255 / d) for d in (2, 40, 4)]
    assert score.psnr_frame == pytest.approx(sum(decibels) / 3)
    assert score.psnr_video == pytest.approx(10 * math.log10(255**2 / ((4 + 1600 + 16) / 4)))
    assert score.identical_frames == 1
    assert (score.frames, score.height, score.width) == (4, 20, 36)
    assert [(s.label, round(s.psnr, 6)) for s in samples] == [
        ("a.mp4, frame 0", round(decibels[0], 6)),
        ("a.mp4, frame 2", round(decibels[1], 6)),
    ]
    assert np.array_equal(samples[1].after, frames[2] + 40)
    assert 0 < score.ssim < 1
    assert score.encode_ms > 0
    assert score.memory_mb > 0
    assert sum(heard) == 4


@pytest.mark.parametrize(("height", "width", "count"), [(16, 16, 20), (19, 37, 20), (32, 48, 9), (16, 16, 1)])
def test_a_clip_in_passes_scores_as_the_whole_clip(height: int, width: int, count: int) -> None:
    model = CausalTokenizer(PRESETS["toy"]).eval()
    frames = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    passes = replace(passes_of(model, (height, width), exact=True, tile=None), step=1)
    score, _ = score_clip(passes, _footage(frames), "a.mp4")
    x, y = torch.from_numpy(frames), torch.from_numpy(_whole(model, frames))
    # The network's rounding may turn a level here and there; of one reconstruction, test_tally shows 1e-9.
    assert score.psnr_frame == pytest.approx(float(psnr_per_frame(x, y).mean()), abs=1e-3)
    assert score.psnr_video == pytest.approx(psnr_per_video(x, y), abs=1e-3)
    assert score.ssim == pytest.approx(float(ssim_per_frame(x, y).mean()), abs=1e-4)
    assert score.frames == count
    assert score.token_shape == tuple(model.encode(to_clip(frames)).shape[1:])


def _whole(model: CausalTokenizer, frames: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return to_frames(model.reconstruct(to_clip(frames)))


@pytest.mark.parametrize(("name", "dtype", "bits"), [("toy", torch.float32, 32), ("toy", torch.bfloat16, 16)])
def test_compression_counts_stored_bits(
    name: str, dtype: torch.dtype, bits: int, gradients: Callable[..., np.ndarray]
) -> None:
    score, _ = _scored(CausalTokenizer(PRESETS[name]).to(dtype), gradients(5, 32, 48))
    assert score.compression == pytest.approx(5 * 32 * 48 * 24 / (math.prod(score.token_shape) * bits))


def test_indices_count_the_bits_that_a_code_needs(gradients: Callable[..., np.ndarray]) -> None:
    config = replace(PRESETS["toy"], kind="discrete", levels=(5, 5, 3), latent_channels=3)  # 75 codes: 7 bits
    score, _ = _scored(CausalTokenizer(config), gradients(5, 32, 48))
    assert score.compression == pytest.approx(5 * 32 * 48 * 24 / (math.prod(score.token_shape) * 7))


def _score(name: str, psnr: float, frames: int = 10) -> Score:
    return Score(
        file=name,
        frames=frames,
        height=32,
        width=48,
        token_shape=(4, 3, 4, 6),
        compression=96.0,
        psnr_frame=psnr,
        psnr_video=psnr - 1,
        ssim=0.9,
        identical_frames=0,
        encode_ms=1.0,
        decode_ms=frames / 10,
        memory_mb=psnr,
    )


def test_the_table_has_a_line_for_each_file_and_the_means() -> None:
    lines = table([_score("a.mp4", 30.0), _score("long-name.mp4", 34.0, 30)]).splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["a.mp4", "10", "32x48", "4x3x4x6", "96.0", "30.00", "29.00", "0.9000", "2.0", "30"]
    assert lines[3].split() == ["mean", "40", "96.0", "32.00", "31.00", "0.9000", "3.5", "34"]
    assert len(table([_score("a.mp4", 30.0)]).splitlines()) == 2


def test_identical_clips_do_not_hide_others_and_leave_json_valid() -> None:
    scores = [_score("a", math.inf), _score("b", 31.0)]
    assert summary(scores)["psnr_frame"] == 31.0
    assert math.isinf(summary(scores[:1])["psnr_video"])
    assert table(scores[:1])
    read = json.loads(to_json([row(s) for s in scores]), parse_constant=pytest.fail)
    assert read[0]["psnr_frame"] is None
    assert read[1]["token_shape"] == [4, 3, 4, 6]


def test_json_text_never_holds_nan() -> None:
    assert to_json({"a": (math.nan, 1.5), "b": -math.inf}) == '{"a": [null, 1.5], "b": null}'


def test_differences_are_amplified_without_wrapping() -> None:
    before, after = np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 13, np.uint8)
    assert difference(before, after).tolist() == difference(after, before).tolist()
    assert difference(before, after)[0, 0, 0] == 3 * AMPLIFIED
    assert difference(before, before + 200).max() == 255


def test_the_sheet_shows_the_worst_frames_first(tmp_path: Path) -> None:
    def sample(psnr: float, width: int = 40) -> Sample:
        colour = np.full((30, width, 3), int(psnr), np.uint8)
        return Sample(label="é" * 100, psnr=psnr, before=colour, after=colour + 10)

    write_worst(tmp_path / "w.png", [sample(40.0), sample(20.0), *[sample(50.0)] * ROWS, sample(30.0, 1000)])
    sheet = np.asarray(Image.open(tmp_path / "w.png"))
    flat = [int(line[0, 0]) for line in sheet[:, :40] if (line == line[0, 0]).all() and line[0, 0] < 255]
    order = [value for i, value in enumerate(flat) if i == 0 or flat[i - 1] != value]
    assert order == [20, 30, 40, 50]
    assert sheet.shape[1] < 3 * 660

"""Figures of known reconstructions, and the picture of the worst frames."""

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cosmos_tokenizer import PRESETS, CausalTokenizer
from cosmos_tokenizer.evaluate import Sample, Score, row, score_clip, summary, table
from cosmos_tokenizer.jsontext import to_json
from cosmos_tokenizer.progress import Progress
from cosmos_tokenizer.report import AMPLIFIED, ROWS, difference, write_worst


@pytest.fixture
def progress() -> Progress:
    return Progress(1, stream=io.StringIO())


def _brighter(model: CausalTokenizer, clip: Tensor, levels: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model decode to the clip itself, frame i brighter by levels[i] of 255."""
    shift = torch.tensor(levels).view(1, 1, -1, 1, 1) / 127.5
    monkeypatch.setattr(model, "decode", lambda tokens, frames, size: clip + shift)


def test_scores_are_those_of_the_reconstruction(
    gradients: Callable[..., np.ndarray], progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CausalTokenizer(PRESETS["toy"])
    frames = gradients(4, 20, 36).clip(0, 200)
    _brighter(model, torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1, [2, 0, 40, 4], monkeypatch)
    score, samples = score_clip(model, frames, "a.mp4", progress=progress, samples=2)
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


@pytest.mark.parametrize(("name", "dtype", "bits"), [("toy", torch.float32, 32), ("toy", torch.bfloat16, 16)])
def test_compression_counts_stored_bits(
    name: str, dtype: torch.dtype, bits: int, gradients: Callable[..., np.ndarray], progress: Progress
) -> None:
    model = CausalTokenizer(PRESETS[name]).to(dtype)
    score, _ = score_clip(model, gradients(5, 32, 48), "a", progress=progress)
    assert score.compression == pytest.approx(5 * 32 * 48 * 24 / (math.prod(score.token_shape) * bits))


def test_indices_count_the_bits_that_a_code_needs(gradients: Callable[..., np.ndarray], progress: Progress) -> None:
    config = replace(PRESETS["toy"], kind="discrete", levels=(5, 5, 3), latent_channels=3)  # 75 codes: 7 bits
    score, _ = score_clip(CausalTokenizer(config), gradients(5, 32, 48), "a", progress=progress)
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

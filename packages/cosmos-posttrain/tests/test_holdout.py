import math
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from cosmos_posttrain import holdout
from cosmos_posttrain.clip_pool import to_video
from cosmos_posttrain.losses import perceptual_distance
from cosmos_posttrain.networks.efficientnet import EfficientNetLite0
from cosmos_tokenizer import InputError


def flat_clip(name: str, level: int) -> holdout.HeldOut:
    return holdout.HeldOut(name=name, frames=np.full((5, 16, 24, 3), level, np.uint8))


def write_counting_film(path: Path, frames: int, size: tuple[int, int]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for n in range(frames):
            picture = np.full((size[1], size[0], 3), n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_windows_begin_where_their_name_says(tmp_path: Path) -> None:
    write_counting_film(tmp_path / "bikes.mp4", 230, (48, 32))
    write_counting_film(tmp_path / "carphone.mp4", 110, (44, 36))
    windows = holdout.held_out(tmp_path)
    assert [w.name for w in windows][:2] == ["bikes@10", "bikes@45"]
    assert [w.name for w in windows][-1] == "carphone@90"
    assert windows[0].frames.shape == (17, 256, 256, 3)
    assert windows[-1].frames.shape == (17, 36, 44, 3)
    for window in windows:
        start = int(window.name.split("@")[1])
        np.testing.assert_allclose(window.frames.mean(axis=(1, 2, 3)), start + np.arange(17), atol=1)


def test_a_clip_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bikes.mp4.*footage.py --only bikes"):
        holdout.held_out(tmp_path)


def test_a_constant_error_has_its_known_psnr() -> None:
    score = holdout.score(flat_clip("a@0", 100), "off", lambda video: video + 0.02)
    assert score.per_frame == pytest.approx(40, abs=1e-3)
    assert score.per_video == pytest.approx(40, abs=1e-3)


def test_per_video_pools_the_error_of_unequal_frames() -> None:
    def first_frame_worse(video: torch.Tensor) -> torch.Tensor:
        off = torch.full((1, 1, 5, 1, 1), 0.02)
        off[:, :, 0] = 0.2
        return video + off

    score = holdout.score(flat_clip("a@0", 100), "off", first_frame_worse)
    assert score.first_frame == score.worst_frame == pytest.approx(20, abs=1e-3)
    assert score.per_frame == pytest.approx(36, abs=1e-3)
    assert score.per_video == pytest.approx(10 * math.log10(4 / ((0.04 + 4 * 0.0004) / 5)), abs=1e-3)


def test_reconstructions_are_clamped_to_the_range() -> None:
    assert holdout.score(flat_clip("a@0", 255), "over", lambda video: video + 1).per_frame == math.inf


def test_a_judge_adds_its_distance_to_scores_and_table() -> None:
    torch.manual_seed(0)
    judge = EfficientNetLite0().eval()
    clips = [flat_clip("a@0", 90)]
    same, other = (
        holdout.evaluate({"codec": codec}, clips, judge) for codec in (lambda video: video, lambda video: -video)
    )
    assert same[0].perceptual_distance == 0
    expected = perceptual_distance(judge, -to_video(clips[0].frames[None]), to_video(clips[0].frames[None]))
    assert other[0].perceptual_distance == pytest.approx(float(expected.mean()))
    lines = holdout.table(other).splitlines()
    assert lines[0].endswith("| perceptual distance |")
    assert lines[2].endswith(f"| {float(expected.mean()):.4f} |")
    assert {line.count("|") for line in lines} == {8}
    assert holdout.summarise(other)["codec"]["mean"]["perceptual_distance"] == pytest.approx(float(expected.mean()))


def test_summary_weighs_clips_equally_whatever_their_windows() -> None:
    clips = [flat_clip("a@0", 90), flat_clip("a@9", 90), flat_clip("b@0", 90)]
    errors = iter([0.02, 0.02, 0.2])
    scores = holdout.evaluate({"codec": lambda video: video + next(errors)}, clips)
    summary = holdout.summarise(scores)["codec"]
    assert [round(summary[key]["per_frame"], 2) for key in ("a", "b", "mean")] == [40.0, 20.0, 30.0]
    assert "| **mean** | codec | 30.00 |" in holdout.table(scores)

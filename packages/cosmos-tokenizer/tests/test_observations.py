"""What an evaluation watches: figures of known networks, in pieces as of the whole, and on the command line."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cosmos_tokenizer import load, observations
from cosmos_tokenizer.images import write_image
from cosmos_tokenizer.media import to_clip
from cosmos_tokenizer.metrics import LPIPS, CodeUsage, FeatureStatistics, ImageFeatures, VideoFeatures
from cosmos_tokenizer.observations import FeaturePairs, Networks, Observations
from cosmos_tokenizer.video import Video, read_video, write_video

Gradients = Callable[..., np.ndarray]
Run = Callable[..., Any]


class _Means(nn.Module):
    """Means and spreads of the channels, and how long the clip is."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        frames = torch.full([x.shape[0], 1], float(x.shape[2]), device=x.device)
        return torch.cat([flat.mean(2), flat.std(2), frames], dim=1)


class _Distance(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean((1, 2, 3))


@pytest.fixture
def networks(tmp_path: Path) -> dict[str, Path]:
    paths = {"means": tmp_path / "means.pt", "distance": tmp_path / "distance.pt"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(_Means()), str(paths["means"]))
        torch.jit.save(torch.jit.script(_Distance()), str(paths["distance"]))
    return paths


def _random(count: int, seed: int, shape: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape, 3), np.uint8)


def test_clips_in_pieces_are_compared_as_whole_ones(networks: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VideoFeatures, "frames", 7)
    fvd, lpips = VideoFeatures(networks["means"]), LPIPS(networks["distance"])
    observed = Observations((4, 3), Networks(fvd=fvd, lpips=lpips))
    sides = FeatureStatistics(), FeatureStatistics()
    together = CodeUsage((4, 3))
    for seed, count in enumerate((9, 5, 7)):
        before, after = _random(count, seed), _random(count, seed + 10)
        tokens = torch.randint(0, 12, (1, 3, 2, 2), generator=torch.Generator().manual_seed(seed))
        watching = observed.begin(still=False)
        for index in range(3):
            watching.tokens(tokens[:, index : index + 1])
        for part in (slice(0, 1), slice(1, 4), slice(4, None)):
            watching.frames(before[part], after[part])
        figures = watching.finish()
        assert figures["lpips"] == pytest.approx(float(lpips.per_frame(*map(torch.from_numpy, (before, after))).mean()))
        alone = CodeUsage((4, 3))
        for usage in (alone, together):
            usage.update(tokens)
        assert figures["code_usage"] == alone.usage
        assert figures["code_perplexity"] == alone.perplexity
        for statistics, frames in zip(sides, (before, after), strict=True):
            statistics.update(fvd.features(fvd.prepare(torch.from_numpy(frames[:7])))[None])
    assert observed.clips is not None
    result = observed.clips.result()
    assert result["value"] == pytest.approx(sides[0].distance(sides[1]), rel=1e-6)
    assert (result["samples"], result["features"]) == (3, 7)
    assert result["low"] <= result["value"] <= result["high"]
    assert "covariance is singular" in result["warning"]
    assert observed.codes is not None
    assert observed.codes.perplexity == together.perplexity


def test_frames_past_those_a_network_looks_at_are_not_kept(networks: dict[str, Path]) -> None:
    watching = Observations(None, Networks(fvd=VideoFeatures(networks["means"]))).begin(still=False)
    for _ in range(8):
        watching.frames(_random(50, 0, (8, 9)), _random(50, 1, (8, 9)))
    assert [sum(map(len, kept)) for kept in watching._prepared] == [300, 300]


def test_past_so_many_pairs_there_is_a_figure_without_an_interval(
    networks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observations, "KEPT", 3)
    pairs = FeaturePairs(ImageFeatures(networks["means"]))
    for seed in range(5):
        pairs.add(*(pairs.network.prepare(torch.from_numpy(_random(1, s))) for s in (seed, seed + 10)))
        assert (pairs._kept is None) == (seed >= 3)
    result = pairs.result()
    assert result["low"] is None
    assert result["samples"] == 5
    assert result["value"] > 0
    assert "95%" not in observations.sentence("rFID", result)


def test_equal_sets_are_at_distance_0(networks: dict[str, Path]) -> None:
    pairs = FeaturePairs(ImageFeatures(networks["means"]))
    for seed in range(4):
        prepared = pairs.network.prepare(torch.from_numpy(_random(1, seed)))
        pairs.add(prepared, prepared)
    result = pairs.result()
    assert result["value"] == pytest.approx(0, abs=1e-9)
    assert (result["low"], result["high"]) == pytest.approx((0, 0), abs=1e-9)


def test_benchmark_folders_are_evaluated_with_networks(
    place: Path, run: Run, networks: dict[str, Path], gradients: Gradients
) -> None:
    for index, sequence in enumerate(("swan", "bear")):
        Path(f"DAVIS/JPEGImages/480p/{sequence}").mkdir(parents=True)
        for number, frame in enumerate(gradients(5, 32, 40, step=9 + 40 * index)):
            write_image(f"DAVIS/JPEGImages/480p/{sequence}/{number:05}.jpg", frame)
    Path("tb/panda").mkdir(parents=True)
    write_video("tb/panda/a.mp4", Video(frames=gradients(6, 32, 40, step=70), rate=read_video("clip.mp4").rate))
    means, distance = networks["means"], networks["distance"]
    options = f"--fid-network {means} --fvd-network {means} --lpips-network {distance} --out report --json"
    write_image("pic2.png", gradients(1, 20, 33, step=90)[0])
    done = run(f"evaluate DAVIS tb pic.png pic2.png {options}", "discrete")
    assert done.err == ""
    assert done.code == 0
    names = ["DAVIS/JPEGImages/480p/bear", "DAVIS/JPEGImages/480p/swan", "tb/panda/a.mp4", "pic.png", "pic2.png"]
    assert [row["file"] for row in done.json["files"]] == names
    assert [row["frames"] for row in done.json["files"]] == [5, 5, 6, 1, 1]
    assert "2 folders of pictures are taken as clips of 24 frames per second" in done.out
    assert (done.json["rfvd"]["samples"], done.json["rfid"]["samples"]) == (3, 2)
    assert done.json["rfvd"]["value"] > 0
    assert "rFID" in done.out
    for word in ("LPIPS", "codes", "perplexity"):
        assert word in done.out
    assert json.loads(Path("report/metrics.json").read_text())["rfid"] == done.json["rfid"]
    for row in done.json["files"]:
        assert row["lpips"] > 0
        assert 1 <= row["code_perplexity"] <= 2 ** row["code_bits"] + 1e-9
    assert done.json["mean"]["code_usage"] >= max(row["code_usage"] for row in done.json["files"])


def test_the_codes_that_are_counted_are_those_of_encode(place: Path, run: Run) -> None:
    done = run("evaluate clip.mp4 --json", "discrete")
    model = load("models/discrete.safetensors")
    usage = CodeUsage(model.config.levels)
    with torch.inference_mode():
        usage.update(model.encode(to_clip(read_video("clip.mp4").frames)))
    [row] = done.json["files"]
    assert row["code_usage"] == usage.usage
    assert row["code_perplexity"] == pytest.approx(usage.perplexity)
    assert done.json["mean"]["code_bits"] == pytest.approx(usage.entropy_bits)


def test_a_continuous_model_without_networks_has_none_of_these(place: Path, run: Run) -> None:
    done = run("evaluate clip.mp4 pic.png --json")
    assert done.json["files"][0]["lpips"] is None
    assert done.json["mean"]["code_usage"] is None
    assert "rfid" not in done.json
    assert "perplexity" not in done.out.splitlines()[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("evaluate clip.mp4 pic.png --fid-network means.pt", "--fid-network compares sets of pictures"),
        ("evaluate clip.mp4 pic.png --fvd-network means.pt", "--fvd-network compares sets of videos"),
        ("evaluate clip.mp4 --lpips-network none.pt", "none.pt: no such file"),
        ("evaluate clip.mp4 --lpips-network clip.mp4", "clip.mp4: is not a TorchScript network"),
        ("evaluate clip.mp4 --lpips-network means.pt", "means.pt: fails on"),
        ("evaluate list.txt", "list.txt: 1 of its 1 clips"),
        ("evaluate pair --fvd-network short.pt", "fails on 1x3x7x224x224"),
    ],
)
def test_bad_networks_and_lists_are_one_line(
    line: str, words: str, place: Path, run: Run, networks: dict[str, Path]
) -> None:
    class _Short(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.avg_pool3d(x, [16, 1, 1]).mean((2, 3, 4))

    Path("means.pt").symlink_to(networks["means"])
    Path("list.txt").write_text("no-such-clip\n")
    Path("pair").mkdir()
    for name in "ab":
        (Path("pair") / f"{name}.mp4").symlink_to(place / "clip.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(_Short()), "short.pt")
    done = run(line)
    assert done.code == 2
    assert words in done.err
    assert done.err.count("\n") == 1

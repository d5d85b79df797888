"""The content stage: parity with torch, near-duplicates against others, edge cases, and the conformance check."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cosmos_curate import InputError
from cosmos_curate.content import efficientnet
from cosmos_curate.content.embedding import SIZE
from cosmos_curate.content.heads import Head
from cosmos_curate.content.network import Network
from cosmos_curate.content.stage import SAMPLING, ContentConfig, content_stage
from cosmos_curate.content.video_types import imagenet, type_by_labels
from cosmos_curate.media.frames import Frames
from cosmos_curate.media.reading import read_samplings
from cosmos_curate.schema import VIDEO_TYPES
from cosmos_curate.stage import Item, check_stage

ITEM = Item(id="a", path="a.mp4")


def clip(pixels: np.ndarray) -> dict:
    return {SAMPLING: Frames(pixels=pixels, times_s=np.arange(len(pixels), dtype=np.float64))}


@pytest.fixture(scope="module")
def process():
    return content_stage(ContentConfig()).open()


def moving(picture, seed: int, *, height: int = 180, width: int = 320, frames: int = 24) -> np.ndarray:
    """A window that glides over a picture."""
    large = picture(height + 60, width + 120, seed)
    return np.stack([large[k : k + height, 3 * k : 3 * k + width] for k in range(frames)])


def test_onnx_and_torch_agree_on_any_number_and_size_of_frames() -> None:
    run = efficientnet.open_network("features", "logits", "projected")
    network = Network(efficientnet.weights_file())
    rng = np.random.default_rng(0)
    for count, height, width in ((1, 16, 16), (3, 224, 224), (9, 100, 399)):
        frames = efficientnet.prepare(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))
        with torch.inference_mode():
            expected = network(torch.from_numpy(frames))
        for ours, theirs in zip(run(frames), expected, strict=True):
            assert ours.dtype == np.float32
            assert np.abs(ours - theirs.numpy()).max() < 1e-4 * max(1.0, theirs.abs().max().item())


def test_labels_are_in_the_order_of_the_weights() -> None:
    drawn = np.full((224, 224, 3), (120, 170, 220), np.uint8)
    cv2.rectangle(drawn, (80, 20), (144, 204), (25, 25, 25), -1)
    for row, colour in enumerate(((230, 30, 30), (90, 70, 20), (20, 70, 40))):
        cv2.circle(drawn, (112, 55 + 57 * row), 22, colour, -1, cv2.LINE_AA)
    probabilities = efficientnet.open_classifier()(drawn[None])[1]
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert imagenet().names[probabilities[0].argmax()] == "traffic light"


def test_the_embedder_gives_the_features_alone() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (10, 30, 50, 3), dtype=np.uint8)
    features = efficientnet.open_embedder()(frames)
    assert (features.shape, features.dtype) == ((10, efficientnet.FEATURES), np.float32)
    assert (features >= 0).all()
    assert np.allclose(features, efficientnet.open_classifier()(frames)[0], atol=1e-5)


def test_frames_are_squashed_whole_and_normalised() -> None:
    frame = np.zeros((1, 100, 400, 3), np.uint8)
    frame[:, :, 200:] = (255, 127, 63)
    ready = efficientnet.prepare(frame)
    assert ready[0, :, 10, 0] == pytest.approx([-127 / 128] * 3)
    assert ready[0, :, 10, 223] == pytest.approx([1, 0, -0.5])
    assert np.abs(np.diff(efficientnet.prepare(frame, soft=8)[0, 0, 10])).max() < np.abs(np.diff(ready[0, 0, 10])).max()


def test_the_stage_keeps_its_word(process, picture) -> None:
    check_stage(content_stage(ContentConfig()), ITEM, clip(moving(picture, 0)[:6]))
    found = process(ITEM, clip(moving(picture, 0)[:6]))
    json.dumps({name: value for name, value in found.items() if name != "embedding"})
    assert (found["embedding"].dtype, found["embedding"].shape) == (np.float16, (SIZE,))
    assert np.linalg.norm(found["embedding"].astype(np.float64)) == pytest.approx(1, abs=2e-3)
    assert len(found["tags"]) == len(found["tag_scores"]) == 5
    assert found["tag_scores"] == sorted(found["tag_scores"], reverse=True)
    assert 0 < found["tag_scores"][0] <= 1
    assert found["video_type"] in VIDEO_TYPES


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 224, 400, 3), np.uint8),
        np.full((2, 16, 16, 3), 128, np.uint8),
        np.full((6, 224, 224, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (5, 17, 401, 3), dtype=np.uint8),
        np.repeat(np.random.default_rng(1).integers(0, 256, (3, 90, 60, 1), dtype=np.uint8), 3, 3),
        np.random.default_rng(2).integers(0, 256, (2, 1, 1, 3), dtype=np.uint8),
    ],
    ids=["one black frame", "16x16 gray", "white", "odd sizes", "gray noise", "one pixel"],
)
def test_odd_clips_have_all_columns(process, pixels: np.ndarray) -> None:
    found = process(ITEM, clip(pixels))
    assert np.isfinite(found["embedding"]).all()
    assert np.linalg.norm(found["embedding"].astype(np.float64)) == pytest.approx(1, abs=2e-3)
    assert 0 <= found["video_type_score"] <= 1
    assert found["video_type"] in VIDEO_TYPES


def test_reencoded_and_rescaled_copies_are_near_and_other_clips_are_not(process, picture, video, tmp_path) -> None:
    def embedding(pixels: np.ndarray, name: str, crf: int) -> np.ndarray:
        path = video(tmp_path / f"{name}.mp4", pixels, crf=crf)
        return process(ITEM, read_samplings(path, [SAMPLING]))["embedding"].astype(np.float64)

    clips = [moving(picture, seed) for seed in range(4)]
    originals = [embedding(pixels, f"{k}", 18) for k, pixels in enumerate(clips)]
    for k, pixels in enumerate(clips[:2]):
        small = np.stack([cv2.resize(frame, (200, 112), interpolation=cv2.INTER_AREA) for frame in pixels])
        assert originals[k] @ embedding(pixels, f"{k} crf", 31) > 0.95
        assert originals[k] @ embedding(small, f"{k} small", 23) > 0.95
    cosines = np.array(originals) @ np.array(originals).T
    assert cosines[~np.eye(4, dtype=bool)].max() < 0.95


def test_a_trained_head_says_the_type(picture, tmp_path: Path) -> None:
    head = Head(
        labels=("driving", "first-person view"),
        mean=np.zeros(SIZE, np.float32),
        scale=np.ones(SIZE, np.float32),
        hidden_weight=np.zeros((SIZE, 2), np.float32),
        hidden_bias=np.ones(2, np.float32),
        output_weight=np.eye(2, dtype=np.float32),
        output_bias=np.array([0, 2], np.float32),
    )
    head.save(tmp_path / "head.npz")
    config = ContentConfig(type_head=str(tmp_path / "head.npz"), tags=2)
    found = content_stage(config).open()(ITEM, clip(moving(picture, 1)[:3]))
    assert found["video_type"] == "first-person view"
    assert found["video_type_score"] == pytest.approx(np.exp(2) / (1 + np.exp(2)), rel=1e-5)
    assert len(found["tags"]) == 2
    plain = content_stage(ContentConfig(tags=2))
    assert content_stage(config).key("a") != plain.key("a") != content_stage(ContentConfig()).key("a")
    assert content_stage(config).weights["type_head"] == head.sha256


def test_a_head_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    def saved(labels: tuple[str, str], dims: int) -> str:
        Head(
            labels=labels,
            mean=np.zeros(dims, np.float32),
            scale=np.ones(dims, np.float32),
            hidden_weight=np.zeros((dims, 1), np.float32),
            hidden_bias=np.zeros(1, np.float32),
            output_weight=np.zeros((1, 2), np.float32),
            output_bias=np.zeros(2, np.float32),
        ).save(tmp_path / "head.npz")
        return str(tmp_path / "head.npz")

    with pytest.raises(InputError, match="'clean'"):
        content_stage(ContentConfig(type_head=saved(("clean", "overlay"), SIZE)))
    with pytest.raises(InputError, match=f"7 numbers, not {SIZE}"):
        content_stage(ContentConfig(type_head=saved(("driving", "other"), 7)))
    with pytest.raises(InputError, match="no head at"):
        content_stage(ContentConfig(type_head=str(tmp_path / "none.npz")))
    with pytest.raises(InputError, match="tags"):
        ContentConfig(tags=0)


def test_labels_are_imagenets_thousand_each_once_and_vote_for_a_type() -> None:
    labels = imagenet()
    assert len(labels.synsets) == len(set(labels.synsets)) == len(set(labels.names)) == 1000
    assert list(labels.synsets) == sorted(labels.synsets)
    assert all(name.startswith("n0") or name.startswith("n1") for name in labels.synsets)
    assert set(labels.types) == set(VIDEO_TYPES) - {"first-person view", "dynamic camera"}
    vote = dict(zip(labels.names, labels.types, strict=True))
    assert vote["sports car"] == vote["traffic light"] == "driving"
    assert vote["valley"] == vote["tabby"] == "nature dynamics"
    assert vote["screwdriver"] == "hand and object manipulation"
    assert vote["library"] == "spatial awareness and navigation"
    assert vote["ballplayer"] == "human motion and activity"
    assert vote["web site"] == "synthetic rendering"


def test_the_type_by_labels_is_told_above_half_alone() -> None:
    cars = np.array([kind == "driving" for kind in imagenet().types])
    probabilities = np.where(cars, 0.6 / cars.sum(), 0.4 / (~cars).sum()).astype(np.float32)
    kind, score = type_by_labels(probabilities)
    assert (kind, score) == ("driving", pytest.approx(0.6, abs=1e-5))
    kind, score = type_by_labels(np.full(1000, 0.001, np.float32))
    assert (kind, score) == ("other", pytest.approx(1 - 0.426, abs=1e-3))

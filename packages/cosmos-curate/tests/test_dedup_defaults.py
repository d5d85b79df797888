"""The defaults mark a re-encode and a rescale of a clip, and not another shot, on drawn film."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cosmos_curate.content.stage import ContentConfig, content_stage
from cosmos_curate.dedup.clips import DedupInput
from cosmos_curate.dedup.config import DedupConfig
from cosmos_curate.dedup.find import find_duplicates
from cosmos_curate.dedup.fingerprint import fingerprint_stage
from cosmos_curate.media.reading import read_samplings
from cosmos_curate.stage import Item


@pytest.fixture(scope="module")
def clips(
    tmp_path_factory: pytest.TempPathFactory, video: Callable[..., Path], picture: Callable[..., np.ndarray]
) -> DedupInput:
    """Three shots; of the first two a re-encode at crf 31 and a rescale to 5/8, each named for its shot."""
    folder = tmp_path_factory.mktemp("clips")
    files: dict[str, tuple[Path, int]] = {}
    for shot in range(3):
        wide = picture(288, 512 + 100, shot)
        frames = np.stack([wide[:, 10 * index : 10 * index + 512] for index in range(10)])
        files[f"{shot} original"] = video(folder / f"{shot}.mp4", frames), 288 * 512
        if shot < 2:
            files[f"{shot} worse"] = video(folder / f"{shot}w.mp4", frames, crf=31), 288 * 512
            small = np.stack([cv2.resize(frame, (320, 180), interpolation=cv2.INTER_AREA) for frame in frames])
            files[f"{shot} small"] = video(folder / f"{shot}s.mp4", small), 180 * 320
    content, fingerprint = content_stage(ContentConfig()), fingerprint_stage()
    embed, hash_frames = content.open(), fingerprint.open()
    embeddings, hashes = [], []
    for name, (path, _) in files.items():
        frames = read_samplings(path, [*content.samplings, *fingerprint.samplings])
        embeddings.append(embed(Item(id=name, path=str(path)), frames)["embedding"])
        hashes.append(str(hash_frames(Item(id=name, path=str(path)), frames)["phash"]))
    return DedupInput(
        ids=list(files),
        embeddings=np.stack(embeddings),
        sha256=[None] * len(files),
        phash=hashes,
        duration_s=np.full(len(files), 10 / 24),
        pixels=np.array([pixels for _, pixels in files.values()]),
        bytes=np.array([path.stat().st_size for path, _ in files.values()]),
        quality=np.full(len(files), np.nan, np.float32),
    )


def right(clips: DedupInput) -> dict[str, str | None]:
    return {name: None if name.endswith("original") else f"{name[0]} original" for name in clips.ids}


@pytest.mark.parametrize("hashes", [True, False])
def test_copies_are_marked_and_other_shots_are_not(clips: DedupInput, hashes: bool):
    found = find_duplicates(
        clips if hashes else replace(clips, phash=[None] * len(clips.ids)), DedupConfig(device="cpu")
    )
    assert dict(zip(clips.ids, found.dup_of, strict=True)) == right(clips)


def test_hashes_alone_mark_rescaled_clips_and_nothing_wrong(clips: DedupInput):
    found = find_duplicates(replace(clips, embeddings=np.zeros_like(clips.embeddings)), DedupConfig(device="cpu"))
    marked = {name: of for name, of in zip(clips.ids, found.dup_of, strict=True) if of is not None}
    assert {"0 small", "1 small"} <= marked.keys()
    assert marked.items() <= right(clips).items()


def test_torch_is_not_asked_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert DedupConfig().resolved_device() == "cpu"
    assert DedupConfig(device="cuda").resolved_device() == "cuda"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ImportError):
        DedupConfig().resolved_device()

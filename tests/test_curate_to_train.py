"""What `cosmos-curate run` writes is what `cosmos-posttrain train` reads, in both layouts of shards."""

from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import pytest

from cosmos_curate.cli import main as curate
from cosmos_posttrain.cli import main as posttrain
from cosmos_posttrain.data import open_source
from cosmos_tokenizer.video import Video, write_video


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage")
    t, y, x = np.mgrid[:72, :72, :96].astype(np.float32)
    for seed in range(3):
        fields = np.random.default_rng(seed).uniform(0.05, 0.9, (6, 3))
        waves = sum(np.sin(a * x + b * y + (a + 0.2) * t / 2 + c * 9) for a, b, c in fields)
        frames = np.clip(127 + 25 * waves[..., None] * (1, 0.8, 0.6), 0, 255).astype(np.uint8)
        write_video(folder / f"{seed}.mp4", Video(frames=frames, rate=Fraction(24)))
    return folder


@pytest.mark.parametrize("layout", ["webdataset", "cosmos"])
def test_a_folder_of_videos_becomes_shards_that_a_recipe_trains_on(layout, footage, tmp_path, capsys):
    out, run = tmp_path / "curated", tmp_path / "run"
    fast = ["--detector", "stride", "--set", "cut.guard_s=0.1", "--no-dedup"]
    assert curate(["run", str(footage), str(out), "--layout", layout, *fast]) == 0
    kept = [row for row in pq.read_table(out / "manifest.parquet").to_pylist() if row["keep"]]
    assert kept
    source = open_source(out / "shards")
    found = sorted(
        (d.frames, d.height, d.width, round(d.rate, 6), d.text) for d in map(source.describe, range(len(source)))
    )
    assert found == sorted(
        (row["num_frames"], row["height"], row["width"], round(row["framerate"], 6), row["caption"]) for row in kept
    )
    capsys.readouterr()
    small = ["--set", "data.crop=32", "--set", "data.sides=[32]", "--set", "validation_clips=1", "--steps", "2"]
    assert posttrain(["train", "tokenizer-toy", "--data", str(out / "shards"), "--out", str(run), *small]) == 0
    assert (run / "model.safetensors").is_file()

"""Shards of tokens as a dataset: each sample as it was encoded, once among all workers and ranks."""

import json
import pickle
import shutil
import sys
import tarfile
from argparse import Namespace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, codec_commands, load, read_shards, save
from cosmos_tokenizer.shard_workers import one_thread
from cosmos_tokenizer.shards import write_shards
from cosmos_tokenizer.tokens import load_tokens
from cosmos_tokenizer.video import Video, write_video

CLIPS = 9


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, (name, preset) in enumerate({"toy": "toy", "other": "toy", "discrete": "toy-discrete"}.items()):
        torch.manual_seed(seed)
        save(CausalTokenizer(PRESETS[preset]), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine clips of one size, of which one has a caption."""
    folder = tmp_path_factory.mktemp("clips")
    for index in range(CLIPS):
        frames = np.random.default_rng(index).integers(0, 255, (3, 17, 23, 3), np.uint8)
        write_video(folder / f"{index}.mp4", Video(frames=frames, rate=Fraction(25)))
    (folder / "4.txt").write_text("The caption.")
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, models: Path, clips: Path) -> Path:
    """Four shards of two clips and one of one."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(clips, folder, models / "toy.safetensors", per_shard=2)
    return folder


def _keys(samples: object) -> list[str]:
    return [sample["key"] for sample in samples]


ALL = [str(index) for index in range(CLIPS)]


@pytest.mark.parametrize(("model", "latents"), [("toy", "float16"), ("toy", "float32"), ("discrete", "float16")])
def test_samples_are_what_the_encode_command_writes(
    model: str, latents: str, models: Path, clips: Path, tmp_path: Path
) -> None:
    source = models / f"{model}.safetensors"
    write_shards(clips, tmp_path / "shards", source, latents=latents, per_shard=5)
    options = {"model": str(source), "preset": None, "device": "cpu", "dtype": None, "exact": False, "tile": None}
    with one_thread():
        codec_commands.encode(Namespace(inputs=[str(clips)], output=str(tmp_path / "tokens"), **options))
    samples = list(read_shards(tmp_path / "shards"))
    assert _keys(samples) == ALL
    for sample in samples:
        expected = load_tokens(tmp_path / "tokens" / f"{sample['key']}.safetensors").values
        found = sample["indices" if model == "discrete" else "latents"]
        assert found.dtype == (torch.int32 if model == "discrete" else getattr(torch, latents))
        assert torch.equal(found, expected.to(found.dtype))
        assert [sample[name] for name in ("frames", "height", "width", "rate")] == [3, 17, 23, 25.0]
        assert sample["caption"] == ("The caption." if sample["key"] == "4" else "")
        assert json.loads(sample["json"])["source"] == f"{sample['key']}.mp4"


def test_a_batch_of_a_loader_is_decoded_as_it_is(shards: Path, models: Path) -> None:
    [*_, batch] = DataLoader(read_shards(shards), batch_size=3)
    video = load(models / "toy.safetensors").decode(batch["latents"].float(), frames=3, size=(17, 23))
    assert video.shape == (3, 3, 3, 17, 23)
    assert batch["frames"].tolist() == [3, 3, 3]
    assert batch["key"] == ["6", "7", "8"]


@pytest.mark.parametrize("pattern", ["", "shard-*.tar", "shard-00000[0-3].tar", "shard-000001.tar"])
@pytest.mark.parametrize("shuffle", [0, 3])
def test_two_workers_give_each_sample_once(pattern: str, shuffle: int, shards: Path) -> None:
    """Of five shards, of four, and of one, which both read."""
    dataset = read_shards(shards / pattern, shuffle=shuffle)
    expected = sorted(_keys(dataset))
    assert len(expected) == {"shard-00000[0-3].tar": 8, "shard-000001.tar": 2}.get(pattern, CLIPS)
    assert sorted(_keys(DataLoader(dataset, batch_size=None, num_workers=2))) == expected


@pytest.mark.parametrize(("ranks", "split"), [(2, [5, 4]), (3, [4, 3, 2]), (6, [2, 2, 2, 1, 1, 1])])
@pytest.mark.parametrize("shuffle", [0, 100])
def test_ranks_share_the_samples(
    ranks: int, split: list[int], shuffle: int, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, found = read_shards(shards, shuffle=shuffle), []
    for rank in range(ranks):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        found.append(_keys(dataset))
    assert sorted(sum(found, [])) == ALL
    assert shuffle or [len(keys) for keys in found] == split


def test_an_epoch_has_its_own_order_which_the_seed_decides(shards: Path) -> None:
    dataset = read_shards(shards, shuffle=4, seed=1)
    first = _keys(dataset)
    assert first != ALL
    assert first == _keys(dataset) == _keys(read_shards(shards, shuffle=4, seed=1))
    assert first != _keys(read_shards(shards, shuffle=4, seed=2))
    dataset.set_epoch(1)
    assert sorted(_keys(dataset)) == ALL
    assert _keys(dataset) == _keys(pickle.loads(pickle.dumps(dataset))) != first


def test_workers_that_live_on_hear_of_the_next_epoch(shards: Path) -> None:
    dataset = read_shards(shards, shuffle=4)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    first = _keys(loader)
    dataset.set_epoch(1)
    assert _keys(loader) == _keys(dataset) != first


def test_shards_of_two_models_are_not_read_as_one(shards: Path, models: Path, clips: Path, tmp_path: Path) -> None:
    write_shards(clips, tmp_path / "other", models / "other.safetensors")
    shutil.copytree(shards, tmp_path / "toy")
    with pytest.raises(InputError, match=r"toy/shard-000000.tar: was made by another model \(.*toy\.safetensors\)"):
        read_shards(tmp_path / "*" / "*.tar")


def test_a_folder_that_is_not_finished_or_lacks_a_shard_is_refused(shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shards, tmp_path / "copy"))
    last = folder / "shard-000004.tar"
    whole = last.read_bytes()
    last.write_bytes(whole[:-512])
    with pytest.raises(InputError, match=r"shard-000004\.tar: is missing or not whole; run the same command again"):
        read_shards(folder)
    last.write_bytes(whole)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["shards"][2]["bytes"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="is not finished; run the same command again"):
        read_shards(folder)
    (folder / "manifest.json").unlink()
    for wrong, line in ((tmp_path, "holds no manifest"), (folder, "stands in the folder without a manifest")):
        with pytest.raises(InputError, match=line):
            read_shards(wrong)
    with pytest.raises(InputError, match="is no folder and no shard, and matches none"):
        read_shards(folder / "part-*.tar")


def test_damage_is_an_error_that_names_the_shard_or_the_sample(shards: Path, tmp_path: Path) -> None:
    shard = tmp_path / "shard.tar"
    whole = (shards / "shard-000000.tar").read_bytes()
    with tarfile.open(shards / "shard-000000.tar") as tar:
        starts = [member.offset for member in tar]
    for cut in (200, starts[1], starts[2], starts[3] + 700):
        shard.write_bytes(whole[:cut] + bytes(512))
        with pytest.raises(InputError, match="shard.tar: is not a shard of tokens, or is damaged"):
            read_shards(shard)
    dataset = read_shards(shards / "shard-000000.tar")
    dataset.shards = [shard]
    shard.write_bytes(whole[: starts[3] + 700])  # after it was opened
    with pytest.raises(InputError, match=r"shard.tar: is truncated or damaged"):
        list(dataset)
    at = whole.index(b"\x93NUMPY")
    shard.write_bytes(whole[:at] + b"no" + whole[at + 2 :])
    with pytest.raises(InputError, match="sample 0 is damaged"):
        list(read_shards(shard))


def test_without_webdataset_one_line_names_the_extra(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(InputError, match=r"^webdataset is needed .*pip install \"cosmos-tokenizer\[shards\]\"$"):
        read_shards(shards)


def test_webdataset_reads_the_shards_alone(shards: Path) -> None:
    from webdataset.tariterators import group_by_keys, tar_file_expander

    def opened() -> object:
        for shard in sorted(shards.glob("*.tar")):
            with shard.open("rb") as stream:
                yield {"url": str(shard), "stream": stream}

    found = {sample["__key__"]: set(sample) for sample in group_by_keys(tar_file_expander(opened()))}
    assert list(found) == ALL
    assert found["4"] - found["3"] == {"txt"}
    assert found["3"] >= {"json", "npy"}

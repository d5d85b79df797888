"""A folder of clips as shards of tokens: what is in them, and that nothing but clips, model and options decides it."""

import errno
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, InputError, load, save
from cosmos_tokenizer.cli import main
from cosmos_tokenizer.images import write_image
from cosmos_tokenizer.media import to_clip
from cosmos_tokenizer.shard_plan import SHARD_BYTES, Clip, clips_in, into_shards
from cosmos_tokenizer.shard_workers import write_in_processes
from cosmos_tokenizer.shard_writer import Recipe
from cosmos_tokenizer.shards import write_shards
from cosmos_tokenizer.video import Video, read_video, write_video

Gradients = Callable[..., np.ndarray]

RECIPE = Recipe(source="", name="", preset=None, device="cpu", dtype=None, latents="float16", exact=False, tile=None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained toys: two continuous ones and a discrete one."""
    folder = tmp_path_factory.mktemp("models")
    for seed, (name, preset) in enumerate({"toy": "toy", "other": "toy", "discrete": "toy-discrete"}.items()):
        torch.manual_seed(seed)
        save(CausalTokenizer(PRESETS[preset]), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def toy(models: Path) -> Path:
    return models / "toy.safetensors"


@pytest.fixture
def clips(tmp_path: Path, gradients: Gradients) -> Path:
    """Five clips of odd lengths and sizes and a picture, some in a folder of their own, one with what belongs to it."""
    folder = tmp_path / "clips"
    (folder / "a.b").mkdir(parents=True)
    for index, name in enumerate(("1.mp4", "2.mp4", "3 v1.5.mp4", "a.b/4.mp4", "a.b/5.mp4")):
        frames = gradients(3 + index, 17 + 2 * index, 38, step=index + 1)
        write_video(folder / name, Video(frames=frames, rate=Fraction(30000, 1001)))
    write_image(folder / "1.png", gradients(1, 33, 20)[0])
    (folder / "2.json").write_text('{"camera": [0.5, NaN], "Stadt": "Köln"}')
    (folder / "2.txt").write_text("Ein Weg über die Brücke.\n")
    return folder


def _damage(clip: Path) -> None:
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def _all_members(folder: Path) -> dict[str, bytes]:
    return {name: data for shard in sorted(folder.glob("*.tar")) for name, data in _members(shard).items()}


@pytest.mark.parametrize("model", ["toy", "discrete"])
def test_a_sample_holds_what_encode_gives_and_what_lies_beside_the_clip(
    model: str, models: Path, clips: Path, tmp_path: Path
) -> None:
    written = write_shards(clips, tmp_path / "out", models / f"{model}.safetensors", per_shard=4)
    assert (written.shards, written.samples, written.kept, written.skipped) == (2, 6, 0, ())
    members = _all_members(tmp_path / "out")
    keys = ["1%2Emp4", "1%2Epng", "2", "3%20v1%2E5", "a%2Eb/4", "a%2Eb/5"]
    assert list(members) == [f"{key}.{suffix}" for key in keys for suffix in ("json", "npy", *["txt"] * (key == "2"))]
    assert members["2.txt"].decode() == "Ein Weg über die Brücke."

    tokenizer = load(models / f"{model}.safetensors")
    clip = read_video(clips / "2.mp4")
    with torch.inference_mode():
        expected = tokenizer.fold().encode(to_clip(clip.frames))[0].numpy()
    values, record = np.load(io.BytesIO(members["2.npy"])), json.loads(members["2.json"])
    if model == "toy":
        assert values.dtype == np.float16
        np.testing.assert_allclose(values, expected, atol=1e-3)
    else:
        assert values.dtype == np.min_scalar_type(tokenizer.config.codebook_size - 1) != np.int32
        assert np.array_equal(values, expected)
    assert record == {
        "source": "2.mp4",
        "kind": tokenizer.config.kind,
        "frames": 4,
        "height": 19,
        "width": 38,
        "rate": "30000/1001",
        "temporal": tokenizer.geometry.temporal,
        "spatial": tokenizer.geometry.spatial,
        "window": None,
        "model": str(models / f"{model}.safetensors"),
        "fingerprint": tokenizer.fingerprint,
        "metadata": {"camera": [0.5, None], "Stadt": "Köln"},
    }
    assert json.loads(members["1%2Epng.json"])["rate"] is None


def test_latents_are_stored_in_the_type_asked_for_and_refused_where_they_do_not_fit(
    toy: Path, clips: Path, tmp_path: Path
) -> None:
    write_shards(clips, tmp_path / "full", toy, latents="float32")
    assert np.load(io.BytesIO(_all_members(tmp_path / "full")["2.npy"])).dtype == np.float32
    model = load(toy)
    for parameter in model.encoder.parameters():
        parameter.data *= 30
    save(model, tmp_path / "large.safetensors")
    with pytest.raises(InputError, match="reach .* float16 cannot hold; try --latents float32"):
        write_shards(clips, tmp_path / "half", tmp_path / "large.safetensors")
    assert write_shards(clips, tmp_path / "wide", tmp_path / "large.safetensors", latents="float32").samples == 6


def test_two_workers_write_the_bytes_that_one_writes(toy: Path, clips: Path, tmp_path: Path) -> None:
    _damage(clips / "a.b" / "4.mp4")
    for workers in (1, 2):
        write_shards(clips, tmp_path / f"by{workers}", toy, per_shard=2, workers=workers)
    assert _contents(tmp_path / "by1") == _contents(tmp_path / "by2")
    assert {"shard-000000.tar", "shard-000001.tar", "shard-000002.tar", "manifest.json"} == set(
        _contents(tmp_path / "by1")
    )


def test_a_process_has_one_thread_while_it_encodes_and_its_own_number_after(
    toy: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = torch.get_num_threads(), set()
    encode = CausalTokenizer.encode_raw

    def spied(*args: object, **options: object) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return encode(*args, **options)

    monkeypatch.setattr(CausalTokenizer, "encode_raw", spied)
    torch.set_num_threads(3)
    try:
        write_shards(clips, tmp_path / "out", toy)
        assert (seen, torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(before)


def test_clips_that_cannot_be_read_are_told_skipped_and_named_with_the_reason(
    toy: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _damage(clips / "2.mp4")
    (clips / "a.b" / "5.json").write_text("{")
    written = write_shards(clips, tmp_path / "out", toy, per_shard=2)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    listed = [skipped for shard in manifest["shards"] for skipped in shard["skipped"]]
    assert [row["source"] for row in listed] == ["2.mp4", "a.b/5.mp4"]
    assert listed == list(written.skipped)
    assert "is truncated" in listed[0]["reason"]
    assert "5.json beside it is damaged" in listed[1]["reason"]
    assert written.samples == 4 == sum(shard["samples"] for shard in manifest["shards"])
    assert not {"2.npy", "a%2Eb/5.npy"} & _all_members(tmp_path / "out").keys()
    out = capsys.readouterr().out
    assert f"{clips}/2.mp4: skipped, is truncated" in out


def test_a_folder_of_which_no_clip_can_be_read_is_an_error(toy: Path, clips: Path, tmp_path: Path) -> None:
    for clip in clips.rglob("*.mp4"):
        _damage(clip)
    (clips / "1.png").unlink()
    for _ in range(2):
        with pytest.raises(InputError, match="1.mp4: is .*and no other clip could be encoded either"):
            write_shards(clips, tmp_path / "out", toy)


def test_shards_that_are_finished_are_kept(
    toy: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert write_shards(clips, out, toy, per_shard=2).kept == 0
    whole = _contents(out)
    monkeypatch.chdir(toy.parent)
    assert write_shards(clips, out, "toy.safetensors", per_shard=2).kept == 3  # by another name, the same model
    assert _contents(out) == whole
    (out / "shard-000001.tar").write_bytes(b"")
    assert write_shards(clips, out, "toy.safetensors", per_shard=2).kept == 2
    assert _contents(out) == whole


def test_a_run_that_is_killed_is_finished_by_the_next(toy: Path, clips: Path, tmp_path: Path) -> None:
    """Killed when the first shard is finished. The workers hold its output's pipe, which closes when they are gone."""
    out = tmp_path / "out"
    (tmp_path / "killed.py").write_text(
        "import os, signal, sys; from cosmos_tokenizer import shards\n"
        "if __name__ == '__main__':\n"
        "    write = shards.write_figures\n"
        "    shards.write_figures = lambda *found: (write(*found), os.kill(os.getpid(), signal.SIGKILL))\n"
        "    shards.write_shards(*sys.argv[1:], per_shard=2, workers=2)\n"
    )
    line = [sys.executable, str(tmp_path / "killed.py"), str(clips), str(out), str(toy)]
    killed = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    assert "Traceback" not in killed.stdout  # workers too tell their errors there
    left = set(_contents(out))
    assert {"manifest.json", "shard-000002.tar"} & left == {"manifest.json"}
    assert len({"shard-000000.tar.json", "shard-000001.tar.json"} & left) == 1
    (out / ".0123456789abcdef.99.partial").write_bytes(b"as a killed worker leaves it")
    assert write_shards(clips, out, toy, per_shard=2).kept == 1
    write_shards(clips, tmp_path / "at once", toy, per_shard=2)
    assert _contents(out) == _contents(tmp_path / "at once")


def test_a_worker_that_is_killed_is_told_and_the_others_leave_nothing_half_written(
    toy: Path, clips: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, source=toy)
    shards = into_shards(((clip, 0) for clip in clips_in(clips, {".mp4"})), 1)
    events = write_in_processes(tmp_path / "out", shards, recipe, 2)
    next(events)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(InputError, match=r"a worker was killed \(exit code -9\).*fewer --workers"):
        list(events)
    assert multiprocessing.active_children() == []
    assert len(list((tmp_path / "out").glob(".*.partial"))) <= 1  # that of the killed one


def test_what_a_worker_raises_is_raised_here(clips: Path, tmp_path: Path) -> None:
    [shard] = into_shards(((clip, 0) for clip in clips_in(clips, {".mp4"})), 9)
    with pytest.raises(InputError, match="no-such-model"):
        list(write_in_processes(tmp_path / "out", [shard], replace(RECIPE, source="no-such-model"), 2))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model": "other"}, "was begun with another model .*finish it with what it was begun with"),
        ({"tile": 32}, r"another option \(--tile: not given, now 32\)"),
        ({"latents": "float32"}, r"\(--latents: float16, now float32\)"),
        ({"dtype": "bfloat16"}, r"\(--dtype: float32, now bfloat16\)"),
        ({"exact": True}, r"\(--exact: not given, now given\)"),
        ({"per_shard": 3}, r"\(--per-shard: 2, now 3\).*or name another folder"),
    ],
)
def test_another_model_or_option_on_the_same_folder_is_refused(
    changed: dict, named: str, models: Path, clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_shards(clips, out, models / "toy.safetensors", per_shard=2)
    before = _contents(out)
    chosen = {"model": "toy", "per_shard": 2} | changed
    with pytest.raises(InputError, match=named):
        write_shards(clips, out, models / f"{chosen.pop('model')}.safetensors", **chosen)
    assert _contents(out) == before


def test_other_clips_are_refused_on_the_same_folder(toy: Path, clips: Path, tmp_path: Path) -> None:
    def again() -> None:
        write_shards(clips, tmp_path / "out", toy)

    again()
    (clips / "2.mp4").rename(clips / "9.mp4")
    with pytest.raises(InputError, match=r"begun with 2\.mp4, which is gone"):
        again()
    (clips / "2.mp4").write_bytes((clips / "9.mp4").read_bytes())
    with pytest.raises(InputError, match=r"begun without 9\.mp4; encode new clips into another folder"):
        again()
    (clips / "9.mp4").unlink()
    whole = (clips / "2.mp4").read_bytes()
    for other in (whole + b"more", whole[:-1] + bytes([whole[-1] ^ 1]), bytes([whole[0] ^ 1]) + whole[1:]):
        (clips / "2.mp4").write_bytes(other)
        with pytest.raises(InputError, match=r"2\.mp4 was another file"):
            again()
    (clips / "2.mp4").write_bytes(whole)
    again()


def test_folders_that_are_none_or_another_thing_are_refused(toy: Path, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for folder, output, line in (
        ("empty", "out", "holds no videos or pictures"),
        ("file", "out", "is no folder"),
        ("clips", "file", "is a file, and shards go into a folder"),
    ):
        with pytest.raises(InputError, match=line):
            write_shards(tmp_path / folder, tmp_path / output, toy)
    for name, line in (("shard-000000.tar", "without a manifest"), ("manifest.json", "is not a manifest of shards")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / name).write_text('{"format": "another"}')
        with pytest.raises(InputError, match=line):
            write_shards(clips, tmp_path / name, toy)
    assert not (tmp_path / "out").exists()


def test_a_shard_that_cannot_be_written_leaves_nothing(
    toy: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_shards(clips, tmp_path / "out", toy)
    assert caught.value.filename == str(tmp_path / "out" / "shard-000000.tar")
    assert set(_contents(tmp_path / "out")) == {"manifest.json"}


def test_the_command_counts_what_stands_there(
    toy: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _damage(clips / "2.mp4")
    line = ["encode", str(clips), str(tmp_path / "out"), "--model", str(toy), "--shards", "--per-shard", "4", "--json"]
    for kept in (0, 2):
        assert main(line) == 0
        *_, summary, last = capsys.readouterr().out.splitlines()
        assert summary.startswith(f"5 clips in 2 shards{', 2 of them from before' if kept else ''}, 1 skipped; ")
        found = json.loads(last)
        [skipped] = found.pop("skipped")
        assert (skipped["source"], skipped["reason"][:12]) == ("2.mp4", "is truncated")
        assert found == {
            "command": "encode",
            "model": str(toy),
            "manifest": str(tmp_path / "out" / "manifest.json"),
            "shards": 2,
            "kept": kept,
            "samples": 5,
        }


def test_options_of_shards_are_refused_without_shards_and_shards_of_several_inputs(
    toy: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, said in (
        ([str(clips), "out", "--workers", "2"], "--workers, --per-shard and --latents are of shards; add --shards"),
        ([str(clips), "more", "out", "--shards"], "more: --shards takes one folder of clips"),
        ([str(clips), str(tmp_path / "out"), "--shards", "--per-shard", "0"], "--per-shard is 0; give at least 1"),
    ):
        assert main(["encode", *options, "--model", str(toy)]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_two_clips_share_a_key_and_webdataset_reads_every_key_whole(tmp_path: Path) -> None:
    names = ["a.mp4", "a.mov", "a.mp4.mov", "b c.mp4", "b%20c.mp4", "__x__/a.mp4", "é.mp4", "d.e/f.g.mp4", ".h.mp4"]
    for name in (*names, os.fsdecode(b"\xff.mp4"), ".hidden/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    keys = [clip.key for clip in clips_in(tmp_path, {".mp4", ".mov"})]
    assert keys == sorted(set(keys))
    assert set(keys) == {
        *("a%2Emov", "a%2Emp4", "a%2Emp4%2Emov", "b%20c", "b%2520c", "%5F_x__/a", "%C3%A9", "d%2Ee/f%2Eg", "%FF"),
    }


def test_shards_close_at_a_number_of_clips_and_at_a_size() -> None:
    clips = [Clip(path=Path(name), source=name, key=name, content="") for name in "abcdefgh"]
    sizes = [1, 2, 3, SHARD_BYTES + 1, 4, SHARD_BYTES - 4, 1, 0]
    dealt = into_shards(zip(clips, sizes, strict=True), 2)
    assert ["".join(clip.key for clip in shard.clips) for shard in dealt] == ["ab", "c", "d", "ef", "gh"]
    assert [shard.name for shard in dealt[:2]] == ["shard-000000.tar", "shard-000001.tar"]

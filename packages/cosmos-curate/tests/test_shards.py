"""Shards: every clip has a bin, plans keep to their caps and do not depend on order, equal clips give equal tars."""

import io
import json
import tarfile

import numpy as np
import pytest

from cosmos_curate import InputError
from cosmos_curate.clips.cut import clip_name
from cosmos_curate.engine.storage import Store
from cosmos_curate.shards.bins import Bins
from cosmos_curate.shards.plan import ShardConfig, plan
from cosmos_curate.shards.records import record
from cosmos_curate.shards.tars import write_tar
from cosmos_curate.shards.write import write_shards


def row(number, **changes):
    clip = {"clip_id": f"{number:032x}", "width": 1280, "height": 720, "duration_s": 4.0, "bytes": 100, "repeats": 1}
    return clip | changes


@pytest.mark.parametrize(
    ("width", "height", "duration", "folder"),
    [
        (1280, 720, 2.0, "resolution_720_1080/aspect_ratio_16_9/duration_lt_5"),
        (1279, 719, 5.0, "resolution_lt_720/aspect_ratio_16_9/duration_5_10"),
        (1080, 1920, 9.99, "resolution_ge_1080/aspect_ratio_9_16/duration_5_10"),
        (16, 16, 0.04, "resolution_lt_720/aspect_ratio_1_1/duration_lt_5"),
        (7680, 4320, 3600.0, "resolution_ge_1080/aspect_ratio_16_9/duration_ge_30"),
        (10000, 2, 30.0, "resolution_lt_720/aspect_ratio_16_9/duration_ge_30"),
        (2, 10000, 10.0, "resolution_lt_720/aspect_ratio_9_16/duration_10_30"),
        (640, 480, 3.0, "resolution_lt_720/aspect_ratio_4_3/duration_lt_5"),
        (480, 640, 3.0, "resolution_lt_720/aspect_ratio_3_4/duration_lt_5"),
    ],
)
def test_bins_are_open_at_both_ends(width, height, duration, folder):
    assert Bins().folder(width=width, height=height, duration_s=duration) == folder


def test_bins_may_be_one():
    one = Bins(short_sides=(), aspects=((1, 1),), durations_s=())
    assert one.folder(width=3, height=9, duration_s=1.0) == "resolution_any/aspect_ratio_1_1/duration_any"


@pytest.mark.parametrize(
    "edges", [{"short_sides": (720, 720)}, {"durations_s": (0.0, 5.0)}, {"aspects": ((16, 9), (4, 3))}]
)
def test_edges_that_do_not_rise_are_named(edges):
    with pytest.raises(InputError, match=next(iter(edges))):
        Bins(**edges)
    with pytest.raises(InputError, match="aspects"):
        Bins(aspects=())


@pytest.mark.parametrize("layout", ["tar", ""])
def test_another_layout_is_named(layout):
    with pytest.raises(InputError, match="webdataset"):
        ShardConfig(layout=layout)


def test_plan_keeps_caps_and_places_and_does_not_depend_on_order():
    rng = np.random.default_rng(0)
    rows = [row(n, bytes=int(rng.integers(1, 400)), duration_s=float(rng.uniform(2, 40))) for n in range(200)]
    config = ShardConfig(most_bytes=1000, most_clips=7)
    shards = plan(rows, config)
    assert sorted(place for shard in shards for place in shard.places) == list(range(200))
    for shard in shards:
        assert 1 <= len(shard.keys) <= 7
        assert len(shard.keys) == 1 or sum(rows[place]["bytes"] for place in shard.places) <= 1000
        assert [rows[place]["clip_id"] for place in shard.places] == list(shard.keys)
    order = rng.permutation(200)
    again = plan([rows[place] for place in order], config)
    assert [(shard.name, shard.keys) for shard in again] == [(shard.name, shard.keys) for shard in shards]
    other = plan(rows, ShardConfig(most_bytes=1000, most_clips=7, seed=1))
    assert {key for shard in other for key in shard.keys} == {key for shard in shards for key in shard.keys}
    assert [shard.keys for shard in other] != [shard.keys for shard in shards]


def test_a_clip_larger_than_the_cap_has_a_tar_of_its_own():
    shards = plan([row(n, bytes=5000) for n in range(3)], ShardConfig(most_bytes=1000))
    assert [shard.name.rpartition("/")[2] for shard in shards] == ["000000.tar", "000001.tar", "000002.tar"]


def test_repeats_are_keys_of_their_own():
    [shard] = plan([row(0, repeats=3), row(1, repeats=1)], ShardConfig())
    assert sorted(shard.keys) == sorted([f"{0:032x}", f"{0:032x}-1", f"{0:032x}-2", f"{1:032x}"])
    assert sorted(shard.places) == [0, 0, 0, 1]


def test_equal_members_give_equal_tars_whose_index_is_right(tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(np.random.default_rng(0).bytes(1537))
    long = "k" * 150
    members = [
        ("a.mp4", clip),
        ("a.json", b"{}"),
        ("b.mp4", b""),
        ("b.json", b"x" * 512),
        (f"{long}.mp4", b"long name"),
    ]
    first = write_tar(tmp_path / "1.tar", members)
    clip.touch()
    second = write_tar(tmp_path / "2.tar", members)
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    assert first == second
    whole = (tmp_path / "1.tar").read_bytes()
    head, *lines = first.index.splitlines()
    assert head == "v1.2 3"
    entries = [line.split(" ") for line in lines]
    listed = [tuple(entry[at : at + 4]) for entry in entries for at in range(0, len(entry), 4)]
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        for (suffix, offset, size, name), info in zip(listed, tar.getmembers(), strict=True):
            assert (name, name.partition(".")[2], int(size), int(offset)) == (
                info.name,
                suffix,
                info.size,
                info.offset_data,
            )
            assert whole[int(offset) : int(offset) + int(size)] == tar.extractfile(info).read()
            assert (info.mtime, info.uid, info.gid, info.uname) == (0, 0, 0, "")


@pytest.mark.parametrize("name", ["../a.mp4", "/a.mp4", "a/b.mp4", ".a.mp4", "..\\a.mp4", "a\0.mp4"])
def test_no_member_leads_out_of_the_folder(name, tmp_path):
    with pytest.raises(InputError, match="plain file name"):
        write_tar(tmp_path / "1.tar", [(name, b"")])


def test_record_has_what_loops_read_at_the_top_and_no_nulls():
    said = json.loads(record(row(1, num_frames=96, caption="Ein Fluß", framerate=23.976, motion=None, tags=["a"])))
    assert said["num_frames"] == 96
    assert said["caption"] == "Ein Fluß"
    assert said["tags"] == ["a"]
    assert "motion" not in said
    assert "repeats" not in said


def shards_of(store, rows, tmp_path, embed=None, layout="webdataset"):
    """Write shards of made-up clips, and return the places and the bytes of each tar."""
    for each in rows:
        store.write_whole(clip_name(each["clip_id"]), each["sha256"].encode())
    places = write_shards(store, rows, ShardConfig(layout=layout), work=str(tmp_path / "work"), embed=embed)
    return places, {name: store.read_bytes(name) for name in store.list("shards") if name.endswith(".tar")}


def members(tar):
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}


@pytest.mark.parametrize("change", [{"caption": "other"}, {"sha256": "other"}])
def test_a_tar_is_written_anew_where_a_record_or_a_clip_changed(change, tmp_path):
    store = Store(tmp_path / "out")
    rows = [row(number, sha256=f"{number:05}", caption="a") for number in range(3)]
    shards_of(store, rows, tmp_path)
    _, [tar] = zip(*shards_of(store, [rows[0], rows[1] | change, rows[2]], tmp_path)[1].items(), strict=True)
    held = members(tar)
    assert held[f"{rows[1]['clip_id']}.mp4"] == (rows[1] | change)["sha256"].encode()
    assert json.loads(held[f"{rows[1]['clip_id']}.json"])["caption"] == (rows[1] | change)["caption"]


def test_a_clip_that_repeats_is_named_by_its_first_key(tmp_path):
    rows = [row(number, sha256="x", repeats=5) for number in range(8)]
    places, _ = shards_of(Store(tmp_path / "out"), rows, tmp_path)
    assert [places[place][1] for place in range(8)] == [each["clip_id"] for each in rows]


def test_another_text_encoder_gives_other_embeddings(tmp_path):
    class Encoder:
        def __init__(self, identity, value):
            self.identity, self.value = identity, value

        def __call__(self, texts):
            return [np.full((1, 4), self.value, np.float16) for _ in texts]

    store, rows = Store(tmp_path / "out"), [row(0, sha256="x", caption="a", windows=None)]
    found = [
        next(tar for name, tar in tars.items() if "/t5_xxl/" in name)
        for encoder in (Encoder("a", 0), Encoder("b", 1))
        for _, tars in [shards_of(store, rows, tmp_path, encoder, "cosmos")]
    ]
    assert found[0] != found[1]

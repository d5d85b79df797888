"""Buckets and the order of batches, on sources that are nothing but numbers."""

import contextlib
import io
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest

from cosmos_posttrain.data import Source, StreamConfig
from cosmos_posttrain.data.buckets import Bucket, Shape, Sorted, frame_size, sort_samples
from cosmos_posttrain.data.plan import Plan, Position, make_plan
from cosmos_tokenizer import InputError

MakeSource = Callable[..., Source]

START = Position(epoch=0, batch=0)


def config(**changes: object) -> StreamConfig:
    settings: dict = {"batch": 4, "frames": (5,), "sides": (32,), "crop": 16, "images": 0.25}
    return StreamConfig(**(settings | changes))


def quietly(source: Source, settings: StreamConfig) -> Sorted:
    return sort_samples(source, settings, lambda line: None)


def plan_of(source: Source, settings: StreamConfig, world: int = 1) -> Plan:
    return make_plan(quietly(source, settings).buckets, settings, world=world)


def clips_of(plan: Plan, epoch: int) -> list[int]:
    return [
        int(plan.buckets[b].samples[place])
        for b, places in plan.epoch(epoch)
        if plan.buckets[b].shape.media == "video"
        for place in places
    ]


def test_every_epoch_has_every_clip_once_in_another_order(numbers: MakeSource) -> None:
    source = numbers([(9, 40, 40), (9, 40, 70)] * 16, stills=3)
    for crop in (16, None):
        plan = plan_of(source, config(crop=crop))
        epochs = [clips_of(plan, epoch) for epoch in range(4)]
        assert all(sorted(order) == list(range(32)) for order in epochs)
        assert len({tuple(order) for order in epochs}) == 4
        assert clips_of(plan, 2) == epochs[2]
        assert clips_of(plan_of(source, config(crop=crop, seed=1)), 0) != epochs[0]


def test_a_batch_that_is_not_full_is_filled_with_samples_taken_twice(numbers: MakeSource) -> None:
    for count in (1, 3, 5, 7):
        plan = plan_of(numbers([(9, 40, 40)] * count), config(images=None))
        taken = Counter(clips_of(plan, 0))
        assert set(taken) == set(range(count))
        assert max(taken.values()) - min(taken.values()) <= 1
        assert sum(taken.values()) == -(-count // 4) * 4


def test_pictures_lie_evenly_among_clips_at_the_asked_share(numbers: MakeSource) -> None:
    source = numbers([(9, 40, 40)] * 60, stills=50)
    plan = plan_of(source, config(images=0.25))
    media = [plan.buckets[b].shape.media for b, _ in plan.epoch(0)]
    assert plan.batches() == len(media) == 20
    assert [k for k, kind in enumerate(media) if kind == "image"] == [3, 7, 11, 15, 19]
    # 50 pictures make 3 batches of 20, so that 3 epochs of 5 batches are 5 whole passes.
    taken = Counter(
        (b, tuple(sorted(places)))
        for epoch in range(3)
        for b, places in plan.epoch(epoch)
        if plan.buckets[b].shape.media == "image"
    )
    assert sum(taken.values()) == 15
    seen = Counter(place for (_, places), times in taken.items() for place in places * times)
    assert set(seen) == set(range(50))
    assert set(seen.values()) <= {5, 6, 7, 8, 9, 10}
    assert plan_of(source, config(images=0.0)).batches() == 15
    assert plan_of(source, config(images=None)).batches() == 18


def test_frames_of_clips_stand_in_where_there_are_no_pictures(numbers: MakeSource) -> None:
    plan = plan_of(numbers([(9, 40, 40)] * 16), config(images=0.5))
    media = Counter(plan.buckets[b].shape.media for b, _ in plan.epoch(0))
    assert media == {"video": 4, "image": 4}
    assert {(b.shape.frames, b.batch) for b in plan.buckets} == {(5, 4), (1, 16)}


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_one_order_slot_by_slot(world: int, numbers: MakeSource) -> None:
    settings = config(batch=6)
    plan = plan_of(numbers([(9, 40, 40)] * 20, stills=9), settings, world)
    alone = list(islice(plan.walk(START, rank=0, world=1), 12))
    parts = [list(islice(plan.walk(START, rank=rank, world=world), 12)) for rank in range(world)]
    for whole, *split in zip(alone, *parts, strict=True):
        assert {draw.bucket for draw in split} == {whole.bucket}
        for name in ("places", "seeds"):
            together = [value for row in zip(*[getattr(d, name) for d in split], strict=True) for value in row]
            assert tuple(together) == getattr(whole, name)


def test_a_walk_from_any_position_is_the_rest_of_the_walk(numbers: MakeSource) -> None:
    plan = plan_of(numbers([(9, 40, 40)] * 11, stills=30), config())
    whole = list(islice(plan.walk(START, rank=0, world=1), 14))
    at = START
    for done in range(14):
        assert list(islice(plan.walk(at, rank=0, world=1), 14 - done)) == whole[done:]
        at = plan.after(at)
    assert at.epoch > 1
    seeds = [seed for draw in whole for seed in draw.seeds]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_order_is_the_same_in_another_process(numbers: MakeSource) -> None:
    code = (
        "import numpy as np; from cosmos_posttrain.data.buckets import Bucket, Shape;"
        "from cosmos_posttrain.data.plan import Plan, Position;"
        "s = Shape(media='video', side=32, frames=5, height=16, width=16);"
        "p = Plan(buckets=(Bucket(shape=s, samples=np.arange(9), batch=4),), images=None, seed=5);"
        "w = p.walk(Position(epoch=1, batch=1), rank=1, world=2); d = next(w);"
        "print(d.places, d.seeds, p.digest(b'x'))"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(code, {})
    assert there == here.getvalue() != ""


def test_odd_sizes_fall_into_their_buckets(numbers: MakeSource) -> None:
    sizes = [(30, 721, 1281), (30, 1281, 721), (30, 719, 719), (30, 2000, 300), (9, 361, 480), (17, 100, 101)]
    settings = config(frames=(9, 17), sides=(352, 720), crop=None, images=None)
    found = {int(k): bucket.shape for bucket in quietly(numbers(sizes), settings).buckets for k in bucket.samples}
    assert {k: (s.side, s.frames, s.height, s.width) for k, s in found.items()} == {
        0: (720, 17, 720, 1280),
        1: (720, 17, 1280, 720),
        2: (352, 17, 352, 352),
        3: (352, 17, 624, 352),
        4: (352, 9, 352, 464),
        5: (352, 17, 352, 352),
    }


def test_a_clip_goes_to_the_longest_length_that_its_smallest_step_fills(numbers: MakeSource) -> None:
    settings = config(frames=(5, 9), steps=(2, 3), images=0.0)
    buckets = quietly(numbers([(16, 40, 40), (17, 40, 40), (9, 40, 40), (100, 40, 40)]), settings).buckets
    assert {b.shape.frames: b.samples.tolist() for b in buckets} == {5: [0, 2], 9: [1, 3]}


def test_aspects_are_open_at_both_ends_and_their_edges_hold() -> None:
    cases = [0.01, 0.64, 0.66, 0.87, 0.89, 1.15, 1.17, 1.54, 1.56, 99.0]
    assert [frame_size(64, aspect, 16) for aspect in cases] == [
        (112, 64), (112, 64), (80, 64), (80, 64), (64, 64), (64, 64), (64, 80), (64, 80), (64, 112), (64, 112),
    ]  # fmt: skip


def test_smaller_shapes_have_larger_batches_for_the_same_pixels(numbers: MakeSource) -> None:
    sizes = [(30, 90, 90)] * 40 + [(10, 40, 40)] * 40
    settings = config(frames=(9, 17), sides=(32, 64), crop=None, images=None)
    batches = {b.shape.pixels: b.batch for b in quietly(numbers(sizes, stills=400), settings).buckets}
    assert batches == {17 * 64 * 64: 4, 9 * 32 * 32: 4 * 7, 32 * 32: 4 * 68}
    few = {b.shape.frames: b.batch for b in quietly(numbers(sizes, stills=5), settings).buckets}
    assert few[1] == 8
    given = config(frames=(9, 17), sides=(32, 64), crop=None, images=None, image_batch=6)
    assert {b.shape.frames: b.batch for b in quietly(numbers(sizes, stills=5), given).buckets}[1] == 6


def test_short_clips_are_left_out_counted_and_told_in_one_line(numbers: MakeSource) -> None:
    said: list[str] = []
    source = numbers([(9, 40, 40), (4, 40, 40), (8, 40, 40), (17, 40, 40)])
    found = sort_samples(source, config(steps=(2, 3)), said.append)
    assert found.short == 2
    assert [b.samples.tolist() for b in found.buckets if b.shape.media == "video"] == [[0, 3]]
    assert said == ["2 of 4 samples have fewer than 9 frames and are left out; the longest of them, k2, has 8"]


@pytest.mark.parametrize(
    ("sizes", "stills", "words"),
    [
        (
            [(4, 40, 40), (7, 40, 40)],
            3,
            "no clip has 5 frames at a step of 2; the longest, k1, has 7: ask for 4 frames",
        ),
        ([], 3, "there are pictures alone"),
    ],
)
def test_no_clip_long_enough_is_an_error_with_the_way_out(
    sizes: list, stills: int, words: str, numbers: MakeSource
) -> None:
    with pytest.raises(InputError, match=words):
        quietly(numbers(sizes, stills=stills), config(steps=(2,)))


def test_one_frame_makes_pictures_of_everything(numbers: MakeSource) -> None:
    found = quietly(numbers([(4, 40, 40), (7, 40, 40)], stills=3), config(frames=(1,)))
    assert [(b.shape.media, b.samples.tolist()) for b in found.buckets] == [("image", [0, 1, 2, 3, 4])]


def test_batches_that_processes_cannot_share_are_refused(numbers: MakeSource) -> None:
    source = numbers([(9, 40, 40)] * 20, stills=9)
    with pytest.raises(InputError, match="a batch of 4 clips cannot be shared by 3 processes; give a multiple of 3"):
        plan_of(source, config(images=0.0), world=3)
    with pytest.raises(InputError, match="a batch of 7 pictures cannot be shared by 2 processes"):
        plan_of(source, config(image_batch=7), world=2)


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch", 0), ("frames", ()), ("steps", (0,)), ("crop", 48), ("crop", 15), ("images", 1.0),
     ("flip", 1.5), ("unscaled", float("nan")), ("seed", -1), ("image_batch", 0)],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(field: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        config(**{field: value})
    assert "\n" not in str(caught.value)


def test_sides_are_multiples_where_whole_frames_are_taken() -> None:
    assert config(crop=32, sides=(40,)).sides == (40,)
    with pytest.raises(InputError, match="a side of 40 is no multiple of 16"):
        config(crop=None, sides=(40,))


def test_a_digest_tells_other_samples_and_settings_apart(numbers: MakeSource) -> None:
    def digest(settings: StreamConfig, count: int = 8) -> str:
        found = quietly(numbers([(9, 40, 40)] * count), settings)
        return make_plan(found.buckets, settings, world=1).digest(found.digest)

    digests = [digest(config()), digest(config(), 9), digest(config(seed=1)), digest(config(batch=2))]
    assert len(set(digests)) == 4
    assert digest(config()) == digests[0]
    assert digest(config(flip=0.0)) == digests[0]


def test_a_large_epoch_is_planned_in_arrays() -> None:
    shape = Shape(media="video", side=32, frames=5, height=16, width=16)
    plan = Plan(buckets=(Bucket(shape=shape, samples=np.arange(10**5), batch=100),), images=None, seed=0)
    assert plan.batches() == 1000
    assert len(set(np.concatenate([places for _, places in plan.epoch(3)]).tolist())) == 10**5

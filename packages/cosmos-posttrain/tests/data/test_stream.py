import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_posttrain.data import Batch, Source, Stream, StreamConfig, open_source
from cosmos_tokenizer import InputError

MakeSource = Callable[..., Source]


def config(**changes: object) -> StreamConfig:
    settings: dict = {"batch": 6, "frames": (5,), "sides": (32,), "crop": 16, "images": 0.25, "seed": 3}
    return StreamConfig(**(settings | changes))


def take(stream: Stream, count: int) -> list[Batch]:
    batches = [next(stream) for _ in range(count)]
    stream.close()
    return batches


def assert_same(first: Batch, second: Batch) -> None:
    assert torch.equal(first.video, second.video)
    for name in ("keys", "seeds", "texts", "rates", "skipped"):
        assert getattr(first, name) == getattr(second, name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, clip_bytes: Callable[..., bytes]) -> Path:
    """Return a folder of six clips of odd sizes, one of them broken."""
    path = tmp_path_factory.mktemp("folder")
    for n in range(6):
        (path / f"{n}.mp4").write_bytes(clip_bytes(7 + n, 40 + n, 56 - n, n))
    data = bytearray((path / "2.mp4").read_bytes())
    at = data.index(b"mdat")
    data[at + 8 : at + 2000] = bytes(1992)
    (path / "2.mp4").write_bytes(data)
    return path


def test_batches_are_what_they_say(folder: Path) -> None:
    (folder / "1.txt").write_text("one")
    batches = take(Stream(open_source(folder), config(), say=lambda line: None), 3)
    assert [tuple(b.video.shape) for b in batches] == [(6, 3, 5, 16, 16), (6, 3, 1, 16, 16), (6, 3, 5, 16, 16)]
    for batch in batches:
        assert batch.video.dtype == torch.float32
        assert batch.video.is_contiguous()
        assert -1 <= batch.video.min() < -0.5 < 0.5 < batch.video.max() <= 1
        assert len(batch.keys) == len(set(batch.seeds)) == len(batch.texts) == len(batch.rates) == len(batch.video)
        assert set(batch.texts) == {"one", None}
        assert all((text == "one") == (key == "1.mp4") for key, text in zip(batch.keys, batch.texts, strict=True))
    assert set(batches[0].rates) == {24.0}
    assert set(batches[1].rates) == {None}


def test_workers_and_resuming_change_no_bit(folder: Path) -> None:
    source, said = open_source(folder), []
    alone = take(Stream(source, config(), say=said.append), 9)
    assert said == ["skipped: 2.mp4: " + said[0].removeprefix("skipped: 2.mp4: ")]
    assert [batch.skipped for batch in alone][-1] == 1
    stream = Stream(source, config(), workers=2, say=said.append)
    states = []
    for batch in alone[:4]:
        assert_same(next(stream), batch)
        states.append(json.loads(json.dumps(stream.state_dict())))
    assert len(multiprocessing.active_children()) == 2
    stream.load_state_dict(states[1])
    assert multiprocessing.active_children() == []
    for batch in alone[2:6]:
        assert torch.equal(next(stream).video, batch.video)
    stream.close()
    assert multiprocessing.active_children() == []
    assert len(said) == 2


def test_a_stream_goes_on_from_every_position(numbers: MakeSource) -> None:
    source = numbers([(9, 40, 40)] * 10, stills=8)
    stream = Stream(source, config())
    batches, states = [], [stream.state_dict()]
    for _ in range(12):
        batches.append(next(stream))
        states.append(stream.state_dict())
    assert states[-1]["epoch"] >= 2
    for done, state in enumerate(states[:-1]):
        again = Stream(source, config())
        again.load_state_dict(state)
        assert again.state_dict() == state
        for batch in batches[done:][:3]:
            assert_same(next(again), batch)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_have_the_batches_of_one(world: int, numbers: MakeSource) -> None:
    source = numbers([(9, 40, 44)] * 10, broken=(3, 4), stills=8)
    alone = Stream(source, config(), say=lambda line: None)
    parts = [Stream(source, config(), rank=rank, world=world, say=lambda line: None) for rank in range(world)]
    for _ in range(6):
        whole, split = next(alone), [next(part) for part in parts]
        assert all(len(part.keys) == len(whole.keys) // world for part in split)
        assert torch.equal(torch.stack([part.video for part in split], dim=1).flatten(0, 1), whole.video)
        for name in ("keys", "seeds", "texts", "rates"):
            rows = zip(*[getattr(part, name) for part in split], strict=True)
            assert tuple(value for row in rows for value in row) == getattr(whole, name)
        assert all(part.state_dict() == alone.state_dict() for part in parts)


def test_a_broken_sample_is_replaced_by_the_next_of_its_bucket_and_told_once(numbers: MakeSource) -> None:
    sizes = [(9, 40, 40)] * 6
    said: list[str] = []
    whole = Stream(numbers(sizes), config(images=0.0))
    holed = Stream(numbers(sizes, broken=(2, 3, 5)), config(images=0.0), say=said.append)
    replaced = {"k2": "k4", "k3": "k4", "k5": "k0"}
    for _ in range(4):
        clean, batch = next(whole), next(holed)
        assert batch.keys == tuple(replaced.get(key, key) for key in clean.keys)
        assert batch.seeds == clean.seeds
        assert batch.skipped == 3
    assert sorted(said) == ["skipped: k2: is broken", "skipped: k3: is broken", "skipped: k5: is broken"]


def test_a_bucket_with_nothing_readable_stops_with_one_line(numbers: MakeSource) -> None:
    said: list[str] = []
    stream = Stream(numbers([(9, 40, 40)] * 3, broken=(0, 1, 2)), config(images=0.0), say=said.append)
    with pytest.raises(InputError, match="none of the 3 samples like it can be read: k[0-2]: is broken"):
        next(stream)
    assert len(said) == 3


def test_a_nan_pixel_and_a_lying_record_cost_their_samples_alone(
    tmp_path: Path, clip_bytes: Callable[..., bytes], write_tar: Callable[..., Path]
) -> None:
    clips = np.random.default_rng(0).uniform(-1, 1, (4, 5, 40, 40, 3)).astype(np.float32)
    clips[1, 0, 3, 4, 2] = np.nan
    np.save(tmp_path / "training.npy", clips)
    said: list[str] = []
    batch = next(Stream(open_source(tmp_path), config(images=0.0, batch=4), say=said.append))
    assert batch.skipped == 1
    assert "training.npy/1" not in batch.keys
    assert torch.isfinite(batch.video).all()
    assert said == ["skipped: training.npy/1: holds NaN or infinite pixels; make it again"]
    record = {"num_frames": 50, "height": 40, "width": 56}
    members = {"a.mp4": clip_bytes(5), "a.json": record, "b.mp4": clip_bytes(6), "c.mp4": b"no video"}
    source = open_source(write_tar(tmp_path / "x.tar", members))
    said.clear()
    stream = Stream(source, config(images=0.0, batch=2), say=said.append)
    keys = {key for _ in range(6) for key in next(stream).keys}
    assert "x.tar/b.mp4" in keys
    assert next(stream).skipped == len(said) == 2
    assert said[0].startswith("skipped: x.tar/c.mp4: is not a video, or is damaged")
    assert said[1].startswith("skipped: x.tar/a.mp4: ends after 5 frames")


def test_nothing_readable_at_all_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"none of the 1 samples can be read; the first: a.mp4: is not a video") as got:
        Stream(open_source(tmp_path), config())
    assert "\n" not in str(got.value)


def test_other_samples_than_at_the_saved_position_are_told(numbers: MakeSource) -> None:
    said: list[str] = []
    before = Stream(numbers([(9, 40, 40)] * 30), config())
    take(before, 5)
    after = Stream(numbers([(9, 40, 40)] * 6), config(), say=said.append)
    after.load_state_dict(before.state_dict())
    assert len(said) == 1
    assert after.state_dict()["epoch"] == 1
    next(after)


def test_the_stream_leaves_torchs_random_numbers_alone(folder: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    take(Stream(open_source(folder), config(), workers=1, say=lambda line: None), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_killed_worker_is_one_line(folder: Path) -> None:
    stream = Stream(open_source(folder), config(), workers=1, say=lambda line: None)
    next(stream)
    [worker] = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(InputError, match="a data worker was killed"):
        take(stream, 20)
    stream.close()


def test_workers_leave_ctrl_c_to_the_trainer(folder: Path) -> None:
    stream = Stream(open_source(folder), config(), workers=1, say=lambda line: None)
    next(stream)
    [worker] = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    take(stream, 20)
    stream.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_workers_of_a_killed_trainer_end(folder: Path) -> None:
    code = (
        "import multiprocessing, sys, time\n"
        "from cosmos_posttrain.data import Stream, StreamConfig, open_source\n"
        "if __name__ == '__main__':\n"
        "    config = StreamConfig(batch=2, frames=(5,), sides=(32,), crop=32)\n"
        f"    stream = Stream(open_source({str(folder)!r}), config, workers=1, say=lambda line: None)\n"
        "    next(stream)\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    script = folder / "trainer.py"
    script.write_text(code)
    trainer = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    worker = int(trainer.stdout.readline())
    os.kill(worker, 0)
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its trainer")


@pytest.mark.parametrize("given", [{"rank": 2, "world": 2}, {"rank": -1}, {"workers": -1}])
def test_a_rank_outside_the_world_is_refused(given: dict[str, int], numbers: MakeSource) -> None:
    with pytest.raises(InputError, match="rank is"):
        Stream(numbers([(9, 40, 40)]), config(batch=4), **given)

"""Stages in a worker: what is recorded is not run again, frames are decoded once, poison goes into quarantine."""

import errno
from dataclasses import replace

import numpy as np
import pytest

from cosmos_curate.engine.attempts import attempt, placeless
from cosmos_curate.engine.keys import keys_of
from cosmos_curate.engine.ledger import Ledger
from cosmos_curate.engine.plan import steps_of
from cosmos_curate.engine.steps import remember
from cosmos_curate.engine.storage import OutputError, Store
from cosmos_curate.errors import InputError, Unusable
from cosmos_curate.media.frames import Frames, Sampling
from cosmos_curate.stage import Item, Resources, Stage, same

GRAY, SMALL = Sampling(gray=True), Sampling(short_side=8)


class Calls:
    """Counts what ran; makes stages that count."""

    def __init__(self):
        self.ran = []

    def stage(self, name, values, *, reads=(), samplings=(), version=1, fail=None, **more):
        def process(item, frames):
            self.ran.append(name)
            assert set(frames) == set(samplings)
            if fail is not None:
                fail(self.ran.count(name))
            return {key: value(item, frames) if callable(value) else value for key, value in values.items()}

        return Stage(
            name=name,
            version=version,
            over="clip",
            open=lambda: process,
            reads=reads,
            writes=tuple(values),
            samplings=samplings,
            **more,
        )

    def decode(self, path, samplings):
        self.ran.append(("decode", tuple(samplings)))
        return {
            s: Frames(pixels=np.zeros((2, 8, 8, 1 if s.gray else 3), np.uint8), times_s=np.arange(2.0))
            for s in samplings
        }


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def run(tmp_path, calls):
    (tmp_path / "clip.mp4").write_bytes(b"x")

    def run_stages(stages, *, item=None, **options):
        steps = steps_of(
            stages,
            inputs=str(tmp_path),
            output=str(tmp_path / "out"),
            work=str(tmp_path / "work"),
            read=calls.decode,
            **options,
        )
        items, measures = [item or Item(id="ab12", path="clip.mp4", columns={"duration_s": 2.5})], []
        for step in steps:
            work = step.open()
            results = [work(one) for one in items]
            items = [one for result in results for one in result.items]
            measures += [measure for result in results for measure in result.measures]
        return items[0], measures

    return run_stages


def test_a_second_run_runs_nothing_and_gives_the_same(run, calls):
    def values(item, frames):
        return np.arange(3, dtype=np.float16)

    stages = [
        calls.stage("one", {"a": 0.1 + 0.2, "b": float("nan"), "c": [1, 2]}, samplings=(GRAY,)),
        calls.stage("two", {"embedding": values, "text": "é\ud800"}),
    ]
    first, measures = run(stages, carry=["embedding"])
    assert calls.ran == [("decode", (GRAY,)), "one", "two"]
    calls.ran.clear()
    second, again = run(stages, carry=["embedding"])
    assert calls.ran == []
    assert all(same(first.columns[name], second.columns[name]) for name in first.columns)
    assert first.columns["a"] == 0.1 + 0.2
    assert [m.reused for m in again] == [1, 1]
    assert [m.stage for m in measures] == ["one", "decode", "two"]
    assert {m.video_s for m in measures} == {2.5}


def test_frames_are_decoded_once_and_only_for_stages_that_are_missing(run, calls):
    one = calls.stage("one", {"a": 1}, samplings=(GRAY,))
    two = calls.stage("two", {"b": lambda item, frames: frames[SMALL].pixels.shape[-1]}, samplings=(SMALL, GRAY))
    three = calls.stage("three", {"c": 1})
    run([one, two, three])
    assert calls.ran[0] == ("decode", (GRAY, SMALL))
    assert len(calls.ran) == 4
    calls.ran.clear()
    item, _ = run([one, replace(two, version=2), three])
    assert calls.ran == [("decode", (SMALL, GRAY)), "two"]
    assert item.columns["b"] == 3
    calls.ran.clear()
    run([one, two, three])
    assert calls.ran == [], "results of both versions stay"


def test_a_stage_runs_again_when_what_it_reads_is_made_anew(run, calls):
    tags = calls.stage("tags", {"tags": ["dog"]})
    caption = calls.stage("caption", {"caption": lambda item, frames: str(item.columns["tags"])}, reads=("tags",))
    run([tags, caption])
    calls.ran.clear()
    other = calls.stage("tags", {"tags": ["cat"]}, settings={"model": "better"})
    item, _ = run([other, caption])
    assert calls.ran == ["tags", "caption"]
    assert item.columns["caption"] == "['cat']"


def test_what_a_stage_reads_must_be_written_before(calls):
    with pytest.raises(InputError, match="stage caption reads tags, which no stage before it writes"):
        keys_of([calls.stage("caption", {"caption": ""}, reads=("tags",))])
    with pytest.raises(InputError, match="two stages are called one"):
        keys_of([calls.stage("one", {"a": 1}), calls.stage("one", {"b": 1})])
    with pytest.raises(InputError, match="stage two writes a, which a stage before it writes"):
        keys_of([calls.stage("one", {"a": 1}), calls.stage("two", {"a": 1})])
    given = keys_of([calls.stage("caption", {"caption": ""}, reads=("tags",))], {"tags": "x"})
    assert given != keys_of([calls.stage("caption", {"caption": ""}, reads=("tags",))], {"tags": "y"})


def test_a_flaky_stage_is_tried_again(run, calls):
    def fail(count):
        if count < 3:
            raise ConnectionError("not yet")

    item, _ = run([calls.stage("flaky", {"a": 1}, fail=fail)])
    assert item.columns["a"] == 1
    assert "quarantine" not in item.columns
    assert calls.ran == ["flaky"] * 3


def test_poison_is_retried_then_put_aside_and_recorded(run, calls):
    def fail(count):
        raise RuntimeError(f"broken\nbadly {count}")

    stages = [calls.stage("good", {"a": 1}), calls.stage("bad", {"b": 1}, fail=fail), calls.stage("last", {"c": 1})]
    item, measures = run(stages)
    assert item.columns["quarantine"] == "bad: RuntimeError: broken badly 3"
    assert item.columns["a"] == 1
    assert calls.ran == ["good", "bad", "bad", "bad"]
    assert [m.quarantined for m in measures] == [0, 1]
    calls.ran.clear()
    again, measures = run(stages)
    assert again == item
    assert calls.ran == []
    assert [m.quarantined for m in measures] == [0, 1]
    run(stages, retry=True)
    assert calls.ran == ["bad"] * 3


def test_what_no_retry_mends_is_tried_once(run, calls):
    def fail(count):
        raise Unusable("no frames")

    item, _ = run([calls.stage("bad", {"b": 1}, fail=fail)])
    assert item.columns["quarantine"] == "bad: no frames"
    assert calls.ran == ["bad"]


def test_a_missing_file_and_a_lying_stage_are_put_aside(run, calls):
    item, _ = run([calls.stage("one", {"a": 1})], item=Item(id="ab13", path="gone.mp4"))
    assert item.columns["quarantine"].startswith("one: FileNotFoundError")
    liar = replace(calls.stage("liar", {"a": 1}), writes=("a", "b"))
    assert "declares ['a', 'b'] and wrote ['a']" in run([liar])[0].columns["quarantine"]
    odd = calls.stage("odd", {"a": np.zeros(1, np.complex64)})
    assert "a column cannot hold complex64" in run([odd])[0].columns["quarantine"]


def test_a_wrong_setting_ends_the_run_and_is_recorded_of_no_item(run, calls, tmp_path):
    def fail(count):
        raise InputError("the key is wrong")

    with pytest.raises(InputError, match="the key is wrong"):
        run([calls.stage("bad", {"b": 1}, fail=fail)])
    assert calls.ran == ["bad"]
    assert not (tmp_path / "out" / "ledger").exists()


def test_a_path_out_of_the_folder_is_not_read(run, calls):
    with pytest.raises(InputError, match="is no name of a file inside"):
        run([calls.stage("one", {"a": 1})], item=Item(id="ab14", path="../../etc/passwd"))
    assert calls.ran == []


def test_a_full_disk_ends_the_run(run, calls, tmp_path):
    def fail(count):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="bad: No space left on device; free some space and run again"):
        run([calls.stage("bad", {"b": 1}, fail=fail)])
    assert not (tmp_path / "out" / "ledger").exists()
    assert calls.ran == ["bad"]


def test_an_error_on_opening_a_stage_is_not_the_items(run, calls):
    def no_model():
        raise InputError("no weights")

    with pytest.raises(InputError, match="no weights"):
        run([replace(calls.stage("one", {"a": 1}), open=no_model)])


def test_stages_share_a_worker_when_their_resources_are_equal(calls, tmp_path):
    gpu = Resources(gpus=1.0)
    stages = [
        calls.stage("one", {"a": 1}),
        calls.stage("two", {"b": 1}),
        calls.stage("three", {"embedding": 1}, resources=gpu),
        calls.stage("four", {"c": 1}, reads=("embedding",)),
    ]
    steps = steps_of(stages, inputs="i", output=str(tmp_path), work="w", carry=["times"])
    assert [[stage.name for stage in step.stages] for step in steps] == [["one", "two"], ["three"], ["four"]]
    assert [step.resources for step in steps] == [Resources(), gpu, Resources()]
    assert [sorted(step.carry) for step in steps] == [["embedding", "times"], ["embedding", "times"], ["times"]]


def test_arrays_stay_in_the_ledger_unless_they_are_wanted(run, calls, tmp_path):
    vector = np.array([1, 2], np.float16)
    stages = [
        calls.stage("one", {"embedding": vector}),
        calls.stage("two", {"b": lambda item, _: float(item.columns["embedding"][1])}, reads=("embedding",)),
    ]
    item, _ = run(stages)
    assert item.columns == {"duration_s": 2.5, "b": 2.0}
    records = Ledger(Store(tmp_path / "out")).read("ab12").values()
    assert any(same(record.columns.get("embedding"), vector) for record in records)


def test_remember_computes_once_and_again_when_files_are_gone(tmp_path):
    ledger, item, made = Ledger(Store(tmp_path)), Item(id="ab", path="x"), []

    def compute():
        made.append(1)
        return {"clips": [{"id": "c", "first": 0}]}

    first, measure = remember(ledger, item, "cut", "key", compute)
    again, reused = remember(ledger, item, "cut", "key", compute, valid=lambda columns: len(columns["clips"]) == 1)
    assert (first, measure.reused, reused.reused, len(made)) == (again, 0, 1, 1)
    remember(ledger, item, "cut", "key", compute, valid=lambda columns: False)
    remember(ledger, item, "cut", "other", compute)
    assert len(made) == 3
    assert set(ledger.read("ab")) == {"key", "other"}


def test_attempts_below_one_are_refused():
    with pytest.raises(InputError, match="attempts 0 is below 1"):
        attempt("x", dict, attempts=0)


def test_reasons_are_the_same_wherever_a_run_is_made(run, calls, tmp_path):
    def fail(count):
        raise ValueError(f"cannot read '{tmp_path}/in/deep/a.mp4' by way of {tmp_path}/work/curate-1/x9.mp4: odd")

    text = placeless(
        f"{tmp_path}/in/deep/a.mp4, {tmp_path}/w/curate-1/x9.mp4: odd", inputs=f"{tmp_path}/in", work=f"{tmp_path}/w"
    )
    assert text == "deep/a.mp4, a working file: odd"
    item, _ = run([calls.stage("bad", {"b": 1}, fail=fail)])
    assert str(tmp_path) not in item.columns["quarantine"]

"""The local executor: its contract, bounded queues, resources never exceeded, clean stops; metrics and progress."""

import io
import json
import threading
import time
import urllib.request
from dataclasses import dataclass, field, replace

import pytest

from cosmos_curate.engine.budget import Budget
from cosmos_curate.engine.executor import check_executor, open_executor
from cosmos_curate.engine.local import LocalExecutor
from cosmos_curate.engine.metrics import Metrics
from cosmos_curate.engine.progress import Progress
from cosmos_curate.engine.prometheus import endpoint
from cosmos_curate.engine.steps import Measure, StepResult
from cosmos_curate.errors import InputError
from cosmos_curate.stage import Item, Resources


@dataclass
class Probe:
    """A step that notes how many of it run at once."""

    name: str
    resources: Resources = Resources()
    workers: int | None = None
    pause_s: float = 0.0
    fan: int = 1
    wait: threading.Event | None = None
    fail: BaseException | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    now: int = 0
    most: int = 0
    opened: int = 0
    seen: int = 0

    def open(self):
        with self.lock:
            self.opened += 1
        return self.run

    def run(self, item):
        with self.lock:
            self.now += 1
            self.seen += 1
            self.most = max(self.most, self.now)
        if self.wait is not None:
            self.wait.wait(10)
        time.sleep(self.pause_s)
        with self.lock:
            self.now -= 1
        if self.fail is not None and self.seen > 3:
            raise self.fail
        items = tuple(replace(item, id=f"{item.id}-{part}") for part in range(self.fan))
        return StepResult(items=items, measures=(Measure(stage=self.name),))


def numbered(count):
    return [Item(id=f"{number:03}", path="x") for number in range(count)]


def curate_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("curate-")]


@pytest.mark.parametrize("cpus", [1, 2, 5])
def test_the_local_executor_keeps_its_word(cpus):
    executor = open_executor("local", cpus=cpus)
    check_executor(executor)
    executor.close()
    assert curate_threads() == []


def test_no_more_is_in_use_than_there_is():
    total = Resources(cpus=3, gpus=1.0, network=4)
    steps = [
        Probe("cut", Resources(cpus=2), pause_s=0.002, fan=3),
        Probe("score", Resources(cpus=1), pause_s=0.002),
        Probe("embed", Resources(cpus=0.0, gpus=0.5), pause_s=0.002),
        Probe("ask", Resources(cpus=0.0, network=1), pause_s=0.002),
        Probe("large", Resources(cpus=64), workers=2, pause_s=0.001),
    ]
    results = list(LocalExecutor(total).stream(numbered(8), steps))
    assert sum(len(result.items) for result in results) == 24
    assert [step.opened for step in steps] == [1, 3, 2, 4, 1]
    assert [step.most <= most for step, most in zip(steps, [1, 3, 2, 4, 1], strict=True)] == [True] * 5
    assert steps[3].most > 1, "connections are used at once"


def test_items_are_taken_only_as_fast_as_results():
    taken = []

    def items():
        for item in numbered(1000):
            taken.append(item)
            yield item

    step = Probe("slow", workers=1)
    executor = LocalExecutor(Resources(cpus=1))
    stream = executor.stream(items(), [step])
    next(stream)
    deadline = time.monotonic() + 5
    while executor.depths() != {"slow": 2} and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert executor.depths() == {"slow": 2}
    # Out of the queue: one given, four wait for the caller, one with the worker; two queued and one about to be.
    assert len(taken) <= 1 + 4 + 1 + 2 + 1
    stream.close()
    assert curate_threads() == []
    assert len(taken) < 20


def test_queues_never_pass_their_bound(monkeypatch):
    deepest = {}
    executor = LocalExecutor(Resources(cpus=2))
    stream = executor.stream(numbered(40), [Probe("fan", fan=9), Probe("slow", pause_s=0.0005)])
    for _ in stream:
        for name, depth in executor.depths().items():
            deepest[name] = max(depth, deepest.get(name, 0))
    assert {name: queue.peak for name, queue in executor._queues.items()} == {"fan": 4, "slow": 4}
    assert max(deepest.values()) <= 4


def test_a_later_step_goes_first():
    budget, order, begun = Budget(Resources(cpus=1)), [], []

    def work(rank):
        begun.append(rank)
        with budget.hold(Resources(), rank):
            order.append(rank)

    with budget.hold(Resources(), 0):
        threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 2, 1)]
        for thread in threads:
            thread.start()
        while len(budget._waiting) < 3:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == [2, 1, 0]


def test_who_waits_for_a_gpu_keeps_no_core_idle():
    budget = Budget(Resources(cpus=2, gpus=1.0))
    with budget.hold(Resources(gpus=1.0), 5):
        thread = threading.Thread(target=lambda: budget.hold(Resources(gpus=1.0), 5).__enter__(), daemon=True)
        thread.start()
        while not budget._waiting:
            time.sleep(0.001)
        idle = threading.Thread(target=lambda: budget.hold(Resources(), 0).__enter__(), daemon=True)
        idle.start()
        idle.join(timeout=30)
        assert not idle.is_alive()
        assert thread.is_alive()
    thread.join(timeout=30)
    assert not thread.is_alive()


@pytest.mark.parametrize("error", [InputError("bad"), ZeroDivisionError("x"), SystemExit(3)])
def test_an_error_ends_the_run_and_its_threads(error):
    step = Probe("bad", fail=error, pause_s=0.001)
    stream = LocalExecutor(Resources(cpus=2)).stream(numbered(500), [Probe("good"), step, Probe("after")])
    with pytest.raises(type(error)):
        list(stream)
    assert curate_threads() == []
    assert step.seen < 20


def test_an_error_of_the_source_of_items_ends_the_run():
    def items():
        yield from numbered(2)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(LocalExecutor(Resources(cpus=2)).stream(items(), [Probe("good")]))
    assert curate_threads() == []


def test_an_interrupt_ends_the_run_and_its_threads():
    stream = LocalExecutor(Resources(cpus=2)).stream(numbered(500), [Probe("one"), Probe("two", pause_s=0.001)])
    next(stream)
    with pytest.raises(KeyboardInterrupt):
        stream.throw(KeyboardInterrupt())
    assert curate_threads() == []


def test_a_step_that_cannot_run_is_named():
    executor = LocalExecutor(Resources(cpus=2))
    with pytest.raises(InputError, match="step embed needs gpus 1 and there is 0"):
        executor.stream([], [Probe("embed", Resources(gpus=1))])
    with pytest.raises(InputError, match="two steps have one name: a, a"):
        executor.stream([], [Probe("a"), Probe("a")])


def test_without_steps_items_come_back():
    assert len(list(LocalExecutor(Resources(cpus=2)).stream(numbered(30), []))) == 30


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("slurm", {}, "executor 'slurm' is none of local, ray"),
        ("local", {"cpus": 0}, "cpus 0 is below 1"),
        ("local", {"gpus": -1.0}, "gpus -1.0 is below 0"),
        ("local", {"network": 0}, "network 0 is below 1"),
    ],
)
def test_bad_settings_are_named(name, options, message):
    with pytest.raises(InputError, match=message):
        open_executor(name, **options)


def test_metrics_add_up_and_are_json():
    metrics = Metrics()
    metrics.add([Measure(stage="a", wall_s=2.0, cpu_s=1.0, gpu_s=0.5, video_s=1800.0)] * 2)
    metrics.add([Measure(stage="a", reused=1, video_s=3600.0), Measure(stage="b", quarantined=1)])
    metrics.drop("motion", 3)
    depths = iter([{"a": 5}, {"a": 2}])
    list(metrics.watch([StepResult(), StepResult()], lambda: next(depths)))
    report = json.loads(json.dumps(metrics.to_json()))
    stage = report["stages"]["a"]
    assert (stage["items"], stage["reused"], stage["wall_s"], stage["video_s"]) == (3, 1, 4, 7200)
    assert (stage["cpu_s_per_clip_hour"], stage["gpu_s_per_clip_hour"]) == (2, 1)
    assert stage["video_hours_per_h"] == pytest.approx(7200 / report["elapsed_s"])
    assert report["stages"]["b"]["cpu_s_per_clip_hour"] is None
    assert (report["drops"], report["queues"]) == ({"motion": 3}, {"a": {"depth": 2, "deepest": 5}})


def test_prometheus_reads_what_was_measured_and_the_port_is_given_back():
    metrics = Metrics()
    result = StepResult(measures=(Measure(stage="cut", video_s=7.5),) * 2)
    assert list(metrics.watch([result], lambda: {"cut": 4})) == [result]
    metrics.drop("motion")
    for _ in range(2):
        with endpoint(metrics, 0) as port:
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
            with pytest.raises(InputError, match="metrics cannot be served on"), endpoint(metrics, port):
                pass
    assert 'cosmos_curate_items_total{stage="cut"} 2.0' in text
    assert 'cosmos_curate_video_seconds_total{stage="cut"} 15.0' in text
    assert 'cosmos_curate_drops_total{rule="motion"} 1.0' in text
    assert 'cosmos_curate_queue_depth{step="cut"} 4.0' in text
    assert "python_info" not in text
    with pytest.raises(InputError), metrics.serving(99999):
        pass
    with metrics.serving(None):
        pass


def test_progress_counts_video_hours_and_tells_what_is_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Progress(7200) as progress:
        progress.add(1800.0, reused=True)
        assert progress.eta_s() is None
        now[0] += 60
        progress.add(1800.0)
        assert progress.eta_s() == pytest.approx(120)
        progress.more(1800.0)
        now[0] += 1
    assert capsys.readouterr().out.splitlines() == [
        "1.000 of 2.000 video-hours, 2 clips, 0:02:00 left",
        "1.000 of 2.500 video-hours, 2 clips, 0:03:03 left",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    with Progress(3600) as progress:
        progress.add(1800.0)
        progress.add(9000.0)
    assert "1.00 of 1.00 video-hours" in out.getvalue()

"""A bar on a terminal, a line every few seconds elsewhere."""

import io

import pytest
import torch
from torch import nn

from cosmos_tokenizer.progress import PERIOD, Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_off_a_terminal_lines_come_by_the_clock_and_tell_the_time_left() -> None:
    clock, out = Clock(), io.StringIO()
    with Progress(4, stream=out, clock=clock) as progress:
        progress.start("a.mp4")
        progress.advance(0.5)
        assert out.getvalue() == ""
        clock.now = PERIOD
        progress.advance(0.5)
        assert out.getvalue() == "a.mp4: 25% of all, about 15 s left\n"
        progress.advance(0.5)
        assert out.getvalue().count("\n") == 1


def test_no_time_is_told_from_too_little_work() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress(100, stream=out, clock=clock)
    progress.start("a.mp4")
    clock.now = PERIOD
    progress.advance(1.0)
    assert out.getvalue() == "a.mp4: 1% of all\n"


def test_on_a_terminal_a_bar_shows_the_share_and_is_cleared() -> None:
    out = Terminal()
    with Progress(2, stream=out) as progress:
        progress.start("a.mp4")
        progress.advance(1.0)
        progress.say("a.mp4 -> b.mp4")
        progress.start("c.mp4")
        progress.advance(1.0)
    assert "c.mp4  50%|" in out.getvalue()
    assert "a.mp4 -> b.mp4\n" in out.getvalue()


def test_a_network_counts_its_layers_up_to_its_share_exactly() -> None:
    clock, out = Clock(), io.StringIO()
    net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(4)], nn.Sequential(nn.ReLU(), nn.ReLU()))
    progress = Progress(1, stream=out, clock=clock)
    progress.start("x")
    net[2].register_forward_hook(lambda *_: setattr(clock, "now", PERIOD))
    with progress.follow(net, 0.6):
        net(torch.zeros(1, 2))
        net(torch.zeros(1, 2))  # a second pass must not count twice
    assert out.getvalue() == "x: 30% of all, about 12 s left\n"
    clock.now *= 2
    progress.advance(0.0)
    assert out.getvalue().splitlines()[-1].startswith("x: 60% of all")
    assert all(not leaf._forward_hooks for leaf in net.modules() if leaf is not net[2])


def test_layers_are_let_go_when_the_network_fails() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RuntimeError), Progress(1, stream=io.StringIO()).follow(net, 1.0):  # noqa: PT012
        net(torch.zeros(1, 3))
    assert not net[0]._forward_hooks


def test_frames_of_one_unit_are_counted_and_the_time_left_told() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress(2, stream=out, clock=clock)
    progress.start("a.mp4")
    with progress.counting(10) as count:
        count(4)
        clock.now = PERIOD
        count(1)
        assert out.getvalue() == "a.mp4: 25% of all, about 15 s left\n"
    clock.now *= 2
    progress.advance(0.0)
    assert out.getvalue().splitlines()[-1] == "a.mp4: 50% of all, about 10 s left"


def test_more_frames_than_announced_end_at_the_units_end() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress(2, stream=out, clock=clock)
    progress.start("a.mp4")
    with progress.counting(10) as count:
        clock.now = PERIOD
        count(40)
    assert out.getvalue() == "a.mp4: 50% of all, about 5 s left\n"
    clock.now *= 2
    progress.advance(0.0)
    assert out.getvalue().splitlines()[-1].startswith("a.mp4: 50% of all")


def test_an_unknown_number_of_frames_is_counted_up() -> None:
    clock, out, terminal = Clock(), io.StringIO(), Terminal()
    progress = Progress(2, stream=out, clock=clock)
    progress.start("a.mkv")
    with progress.counting(None) as count, Progress(1, stream=terminal) as bar:
        count(7)
        clock.now = PERIOD
        count(8)
        assert out.getvalue() == "a.mkv, 15 frames: 0% of all\n"
        bar.start("b.mkv")
        with bar.counting(None) as count_on_bar:
            count_on_bar(15)
            assert bar._bar is not None
            assert bar._bar.desc == "b.mkv, 15 frames"
    clock.now *= 2
    progress.advance(0.0)
    assert out.getvalue().splitlines()[-1].startswith("a.mkv: 50% of all")

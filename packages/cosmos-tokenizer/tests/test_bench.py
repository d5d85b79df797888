"""Measuring: turns, what counts, memory that a run really held, and the table."""

import json
from collections.abc import Callable

import pytest
import torch

from cosmos_tokenizer import PRESETS, CausalTokenizer, cli
from cosmos_tokenizer.bench import bench, clip_of, forms, measure, table

CPU = torch.device("cpu")


def test_runs_take_turns_and_the_first_turn_does_not_count() -> None:
    order: list[str] = []
    costs = measure({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeat=3, device=CPU)
    assert order == ["a", "b"] * 4
    assert set(costs) == {"a", "b"}


def test_memory_is_what_a_run_held_and_not_what_it_left_behind() -> None:
    kept = {}

    def spend(megabytes: int) -> None:
        kept["last"] = float(torch.ones(megabytes << 18).sum())

    costs = measure({"large": lambda: spend(64), "small": lambda: spend(8)}, repeat=2, device=CPU)
    if costs["large"].bytes is None or costs["small"].bytes is None:
        pytest.skip("this system does not tell the peak memory of a process")
    assert 60e6 < costs["large"].bytes < 90e6
    assert costs["small"].bytes < 20e6


@pytest.mark.parametrize("name", ["toy", "toy-discrete"])
def test_every_form_gives_the_clip(name: str, random_tokenizer: Callable[..., CausalTokenizer]) -> None:
    model = random_tokenizer(PRESETS[name])
    clip = clip_of(model, 17, (32, 24))
    with torch.no_grad():
        tokens = model.encode(clip)
        whole = model.decode(tokens)
    for encode, decode in forms(model).values():
        torch.testing.assert_close(encode(clip), tokens, atol=1e-5, rtol=0)
        torch.testing.assert_close(decode(tokens), whole, atol=1e-4, rtol=0)


def test_the_table_has_a_line_for_each_form_and_half(random_tokenizer: Callable[..., CausalTokenizer]) -> None:
    rows = bench(random_tokenizer(PRESETS["toy"]), frames=9, size=(16, 16), repeat=1)
    assert [(row["form"], row["half"]) for row in rows] == [
        (form, half) for half in ("encode", "decode") for form in ("trained", "folded", "folded, stream")
    ]
    assert len(table(rows).splitlines()) == 7


def test_the_command_prints_the_table_and_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "nano-dv4x8x8", "--frames", "5", "--size", "32x16", "--repeat", "1", "--json"]
    assert cli.main(command) == 0
    *_, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert (found["frames"], found["height"], found["width"]) == (5, 32, 16)
    assert len(found["rows"]) == 6
    assert all(row["ms_per_frame"] > 0 for row in found["rows"])


@pytest.mark.parametrize(
    ("option", "said"),
    [("--frames=0", "--frames is 0"), ("--repeat=0", "--repeat is 0"), ("--size=12", "--size is '12'")],
)
def test_a_senseless_number_is_one_line(option: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "nano-dv4x8x8", option]) == 2
    assert capsys.readouterr().err.startswith(f"cosmos-tokenizer: {said}")

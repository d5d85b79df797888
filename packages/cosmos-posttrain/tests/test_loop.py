"""The loop: exact resume after kills, averages, accumulation, steps that are not finite, and what it refuses."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from inspect import unwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cosmos_posttrain import (
    Batches,
    LoopConfig,
    Objective,
    OptimizerConfig,
    ParallelConfig,
    ParameterGroup,
    train,
)
from cosmos_posttrain.averages import Average
from cosmos_tokenizer import InputError

SCRIPT = Path(__file__).with_name("line.py")
FIELDS: dict[str, Any] = {
    "steps": 13,
    "optimizer": {"name": "adamw", "rate": 0.01, "options": {"weight_decay": 0.1}},
    "schedule": {"warmup": 3, "shape": "cosine"},
    "averages": [{"decay": 0.9}, {"width": 0.1}],
    "save_every": 4,
    "validate_every": 6,
}


def silent(line: str) -> None:
    pass


def run_script(
    run: Path, fields: dict[str, Any], *options: str, before: Callable[[], None] = lambda: None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(run), json.dumps(fields), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=before)


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("optimizer", [FIELDS["optimizer"], {"name": "muon", "rate": 0.01}])
def test_a_run_killed_twice_ends_with_the_same_weights_bit_for_bit(
    optimizer: dict[str, Any], line: ModuleType, tmp_path: Path
) -> None:
    fields = FIELDS | {"optimizer": optimizer}
    whole = line.Line()
    train(whole, line.PointStream(), line.config_of(fields), tmp_path / "whole", say=silent)
    cut = tmp_path / "cut"
    for stop, options in (("6", ()), ("11", ("--resume",))):
        done = run_script(cut, fields, *options, "--kill-at", stop)
        assert done.returncode == -signal.SIGKILL, done.stderr
        with (cut / "metrics.jsonl").open("a") as file:
            file.write('{"step": 7, "lo')
    resumed = line.Line()
    train(resumed, line.PointStream(), line.config_of(fields), cut, resume=True, say=silent)
    assert resumed.weights() == whole.weights()
    assert [row["step"] for row in rows(cut)] == list(range(1, 14))
    same = ("loss", "half", "rate", "grad_norm")
    assert [[row[name] for name in same] for row in rows(cut)] == [
        [row[name] for name in same] for row in rows(tmp_path / "whole")
    ]


@pytest.mark.parametrize(
    "optimizer",
    [FIELDS["optimizer"], {"name": "muon", "rate": 0.01}, {"name": "sgd", "rate": 0.1, "options": {"momentum": 0.9}}],
)
def test_a_parameter_may_get_its_first_gradient_behind_a_checkpoint(
    optimizer: dict[str, Any], line: ModuleType, tmp_path: Path
) -> None:
    fields = FIELDS | {"schedule": {}, "optimizer": optimizer}
    whole = line.Line(late=6)
    train(whole, line.PointStream(), line.config_of(fields), tmp_path / "whole", say=silent)
    for steps in (4, 8, 13):
        parts = line.Line(late=6)
        config = line.config_of(fields | {"steps": steps})
        train(parts, line.PointStream(), config, tmp_path / "parts", resume=True, say=silent)
    assert parts.weights() == whole.weights()


def test_a_checkpoint_with_more_or_less_than_the_run_has_is_refused(line: ModuleType, tmp_path: Path) -> None:
    config = line.config_of(FIELDS)
    for name, saved, resumed, said in (
        ("more", 6, 0, r"another network or optimizer \(there is averages.decay-0.9.second.bias too\)"),
        ("less", 0, 6, r"another network or optimizer \(there is no averages.decay-0.9.second.bias\)"),
    ):
        train(line.Line(late=saved), line.PointStream(), config, tmp_path / name, say=silent)
        with pytest.raises(InputError, match=said):
            train(line.Line(late=resumed), line.PointStream(), config, tmp_path / name, resume=True, say=silent)


def test_the_line_is_what_the_protocols_ask_for(line: ModuleType) -> None:
    assert isinstance(line.Line(), Objective)
    assert isinstance(line.PointStream(), Batches)


def test_the_weights_left_are_the_first_average(line: ModuleType, tmp_path: Path) -> None:
    def weights(model: Any) -> list[torch.Tensor]:
        return [value.detach().clone() for value in model.module.parameters()]

    fields = FIELDS | {"steps": 5, "schedule": {}, "averages": [{"decay": 0.3}, {"decay": 0.9}]}
    # A run without averages leaves its last weights: cut short at every step, they are the trajectory.
    trajectory = []
    for steps in range(1, 6):
        model = line.Line()
        config = line.config_of(fields | {"steps": steps, "averages": []})
        train(model, line.PointStream(), config, tmp_path / str(steps), say=silent)
        trajectory.append(weights(model))
    expected = trajectory[0]
    for step, later in enumerate(trajectory[1:], start=2):
        kept = min(0.3, (step - 1) / (step + 8))
        expected = [kept * a + (1 - kept) * b for a, b in zip(expected, later, strict=True)]
    model, validated = line.Line(), []
    validate = model.validate
    model.validate = lambda: validated.append(weights(model)) or validate()
    train(model, line.PointStream(), line.config_of(fields), tmp_path / "run", say=silent)
    for a, b, c in zip(weights(model), expected, validated[-1], strict=True):
        torch.testing.assert_close(a, b)
        assert torch.equal(a, c)


def test_training_lowers_the_loss_and_keeps_the_newest_checkpoints(line: ModuleType, tmp_path: Path) -> None:
    config = line.config_of(FIELDS | {"steps": 60, "save_every": 10, "validate_every": 20})
    said: list[str] = []
    stream = line.PointStream()
    train(line.Line(), stream, config, tmp_path, say=said.append)
    found = rows(tmp_path)
    assert [row["step"] for row in found if "score" in row] == [20, 40, 60]
    assert found[-1]["loss"] < 0.5 * found[0]["loss"]
    assert all(row["half"] == pytest.approx(row["loss"] / 2) for row in found)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-50", "step-60"]
    assert np.asarray(Image.open(tmp_path / "samples/step-60-grid.png")).shape == (4, 5, 3)
    assert any((tmp_path / "tensorboard").iterdir())
    assert said[-1].startswith("step 60/60, loss ")
    assert all(word in said[-1] for word in ("steps/s", "samples/s", "left", "GB"))
    assert stream.closed


def test_several_batches_of_one_step_are_one_larger_batch(line: ModuleType, tmp_path: Path) -> None:
    class Joined(line.PointStream):
        def __next__(self) -> Any:
            one, two = super().__next__(), super().__next__()
            return line.Points(x=torch.cat([one.x, two.x]), keys=one.keys + two.keys)

    fields = FIELDS | {"optimizer": {"name": "sgd", "rate": 0.1}, "clip": 1e9}
    parts, whole = line.Line(noisy=False), line.Line(noisy=False)
    train(parts, line.PointStream(), line.config_of(fields | {"accumulate": 2}), tmp_path / "parts", say=silent)
    train(whole, Joined(), line.config_of(fields), tmp_path / "whole", say=silent)
    for a, b in zip(parts.module.parameters(), whole.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    assert [row["loss"] for row in rows(tmp_path / "parts")] == pytest.approx(
        [row["loss"] for row in rows(tmp_path / "whole")], abs=1e-6
    )


def test_gradients_are_clipped_to_their_norm(line: ModuleType, tmp_path: Path) -> None:
    fields = FIELDS | {"optimizer": {"name": "sgd", "rate": 1.0}, "schedule": {}, "steps": 1, "averages": []}
    free, clipped = line.Line(noisy=False), line.Line(noisy=False)
    before = [p.detach().clone() for p in free.module.parameters()]
    train(free, line.PointStream(), line.config_of(fields | {"clip": 1e9}), tmp_path / "a", say=silent)
    train(clipped, line.PointStream(), line.config_of(fields | {"clip": 0.01}), tmp_path / "b", say=silent)
    steps = [
        torch.cat([(a - b).detach().flatten() for a, b in zip(before, model.module.parameters(), strict=True)])
        for model in (free, clipped)
    ]
    assert rows(tmp_path / "a")[0]["grad_norm"] == pytest.approx(float(steps[0].norm()), rel=1e-5)
    torch.testing.assert_close(steps[1], steps[0] * 0.01 / steps[0].norm(), atol=1e-7, rtol=1e-3)


def test_each_group_is_clipped_to_its_own_norm(line: ModuleType, tmp_path: Path) -> None:
    class Two(line.Line):
        def groups(self) -> list[ParameterGroup]:
            named = dict(self.module.named_parameters())
            parts = [{k: v for k, v in named.items() if k.startswith("2.") == last} for last in (False, True)]
            return [ParameterGroup(parameters=part) for part in parts]

    fields = {"optimizer": {"name": "sgd", "rate": 1.0}, "steps": 1, "averages": []}
    free, clipped = Two(noisy=False), Two(noisy=False)
    before = {name: p.detach().clone() for name, p in free.module.named_parameters()}
    train(free, line.PointStream(), line.config_of(fields | {"clip": 1e9}), tmp_path / "a", say=silent)
    norms = {}
    for last in (False, True):
        parts = [before[n] - p for n, p in free.module.named_parameters() if n.startswith("2.") == last]
        norms[last] = float(torch.cat([part.detach().flatten() for part in parts]).norm())
    most = sum(norms.values()) / 2
    assert min(norms.values()) < most < max(norms.values())
    train(clipped, line.PointStream(), line.config_of(fields | {"clip": most}), tmp_path / "b", say=silent)
    for (name, p), free_p in zip(clipped.module.named_parameters(), free.module.parameters(), strict=True):
        share = min(1.0, most / norms[name.startswith("2.")])
        torch.testing.assert_close(before[name] - p, (before[name] - free_p) * share, atol=1e-6, rtol=1e-3)


def test_a_step_that_is_not_finite_is_passed_over_and_its_samples_are_named(line: ModuleType, tmp_path: Path) -> None:
    objective, said = line.Line(), []
    loss = objective.loss
    objective.loss = lambda batch, step: {
        name: value * (float("nan") if step in (2, 5) else 1.0) for name, value in loss(batch, step).items()
    }
    train(objective, line.PointStream(), line.config_of(FIELDS), tmp_path, say=said.append)
    assert all(np.isfinite(value).all() for value in objective.weights().values())
    assert sum("not finite, passed over" in text for text in said) == 2
    found = json.loads((tmp_path / "nonfinite/step-3.json").read_text())
    assert found["keys"] == [f"2-{i}" for i in range(16)]
    again = line.PointStream()
    again.load_state_dict(found["batches"])
    assert list(next(again).keys) == found["keys"]
    assert json.loads((tmp_path / "checkpoints/step-12/progress.json").read_text())["not_finite"] == 2


def test_too_many_such_steps_end_the_run_and_keep_what_was_saved(line: ModuleType, tmp_path: Path) -> None:
    objective = line.Line()
    loss = objective.loss
    objective.loss = lambda batch, step: {
        name: value * (float("inf") if step >= 5 else 1.0) for name, value in loss(batch, step).items()
    }
    config = line.config_of(FIELDS | {"most_not_finite": 2})
    with pytest.raises(
        FloatingPointError, match=r"step 8: .*3 times by now; .*nonfinite/step-8\.json names the samples"
    ):
        train(objective, line.PointStream(), config, tmp_path, say=silent)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-4"]


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_taken(line: ModuleType, tmp_path: Path) -> None:
    whole = line.Line()
    train(whole, line.PointStream(), line.config_of(FIELDS), tmp_path, say=silent)
    newest = tmp_path / "checkpoints/step-13"
    data = next(newest.glob("__0_*"))
    data.write_bytes(data.read_bytes()[:-1] + b"!")
    (tmp_path / "checkpoints/step-14.partial").mkdir()
    again, said = line.Line(), []
    train(again, line.PointStream(), line.config_of(FIELDS), tmp_path, resume=True, say=said.append)
    assert again.weights() == whole.weights()
    assert "step-13: is damaged (__0_0.distcp is not what was written); the one before it is taken" in said[0]
    assert "resumed behind step 12" in said[1]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["damaged-step-13", "step-12", "step-13"]


def test_a_checkpoint_may_be_damaged_again_and_again(line: ModuleType, tmp_path: Path) -> None:
    whole = line.Line()
    train(whole, line.PointStream(), line.config_of(FIELDS), tmp_path, say=silent)
    for _ in range(3):
        (tmp_path / "checkpoints/step-13/whole.json").unlink()
        again = line.Line()
        train(again, line.PointStream(), line.config_of(FIELDS), tmp_path, resume=True, say=silent)
        assert again.weights() == whole.weights()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["damaged-step-13", "damaged-step-13-2", "damaged-step-13-3", "step-12", "step-13"]


@pytest.mark.parametrize("damage", ["whole.json", "progress.json", ".metadata", "__0_0.distcp"])
def test_a_checkpoint_that_lacks_a_file_is_none(damage: str, line: ModuleType, tmp_path: Path) -> None:
    train(line.Line(), line.PointStream(), line.config_of(FIELDS), tmp_path, say=silent)
    (tmp_path / "checkpoints/step-13" / damage).unlink()
    said: list[str] = []
    train(line.Line(), line.PointStream(), line.config_of(FIELDS), tmp_path, resume=True, say=said.append)
    assert f"damaged ({damage}: No such file" in said[0]


@pytest.mark.parametrize("within", [True, False])
def test_a_full_disk_stops_the_run_in_one_line_and_keeps_what_was_saved(
    within: bool, line: ModuleType, tmp_path: Path
) -> None:
    fields = FIELDS | {"schedule": {}}
    whole, resumed = line.Line(), line.Line()
    train(whole, line.PointStream(), line.config_of(fields), tmp_path / "whole", say=silent)
    run = tmp_path / "run"
    train(line.Line(), line.PointStream(), line.config_of(fields | {"steps": 4}), run, say=silent)
    size = (run / "checkpoints/step-4/__0_0.distcp").stat().st_size
    # Torch meets the limit inside a tensor, and complains of its format, or behind the last one.
    limit = size // 2 if within else size - 1

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    done = run_script(run, fields, "--resume", before=limited)
    assert done.returncode == 1
    said = f"OSError: [Errno 27] File too large: it is not written, and those before it are still there: '{run}/"
    assert done.stderr.splitlines()[-1] == f"{said}checkpoints/step-8'"
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-4"]
    train(resumed, line.PointStream(), line.config_of(fields), run, resume=True, say=silent)
    assert resumed.weights() == whole.weights()


def test_a_checkpoint_that_cannot_be_written_stops_the_run_at_the_next_step(line: ModuleType, tmp_path: Path) -> None:
    objective = line.Line()
    loss = objective.loss

    def wait_for_the_writer(batch: Any, step: int) -> dict[str, torch.Tensor]:
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join()
        return loss(batch, step)

    objective.loss = wait_for_the_writer
    (tmp_path / "checkpoints").write_text("no folder")
    with pytest.raises(NotADirectoryError, match=r"it is not written.*checkpoints/step-4"):
        train(objective, line.PointStream(), line.config_of(FIELDS), tmp_path, say=silent)
    # The writer may have failed before the next step began.
    assert [row["step"] for row in rows(tmp_path)] in ([1, 2, 3, 4], [1, 2, 3, 4, 5])


def test_a_disk_too_full_for_a_line_of_figures_is_named(line: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*/metrics\.jsonl'"):
        train(line.Line(), line.PointStream(), line.config_of(FIELDS), tmp_path, say=silent)


def test_what_cannot_be_trained_is_named(line: ModuleType, tmp_path: Path) -> None:
    adamw = OptimizerConfig(rate=1.0)
    for fields, said in (
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1, "clip": 0.0}, "clip is 0.0"),
        ({"steps": 1, "accumulate": 0}, "accumulate is 0"),
        ({"steps": 1, "most_not_finite": -1}, "most_not_finite is -1"),
        ({"steps": 1, "seed": -1}, "seed is -1: give a number from 0 up"),
        ({"steps": 1, "averages": (Average(decay=0.9), Average(decay=0.9))}, "each profile once"),
    ):
        with pytest.raises(InputError, match=said):
            LoopConfig(optimizer=adamw, **fields)
    config = line.config_of(FIELDS)
    train(line.Line(), line.PointStream(), config, tmp_path, say=silent)
    with pytest.raises(InputError, match="already holds a run: resume it"):
        train(line.Line(), line.PointStream(), config, tmp_path, say=silent)
    other = line.config_of(FIELDS | {"clip": 0.5})
    with pytest.raises(InputError, match=r"begun with clip 1\.0, and now it is 0\.5"):
        train(line.Line(), line.PointStream(), other, tmp_path, resume=True, say=silent)
    shorter = line.config_of(FIELDS | {"steps": 3})
    with pytest.raises(InputError, match="has done 13 steps, and steps is 3: resume with 13 or more"):
        train(line.Line(), line.PointStream(), shorter, tmp_path, resume=True, say=silent)
    larger = line.Line()
    larger.module[2] = torch.nn.Linear(6, 5)
    with pytest.raises(InputError, match="belong|those of another network"):
        train(larger, line.PointStream(), config, tmp_path, resume=True, say=silent)


def test_a_finished_run_goes_on_to_more_steps(line: ModuleType, tmp_path: Path) -> None:
    fields = FIELDS | {"schedule": {"warmup": 3}}
    whole, parts = line.Line(), line.Line()
    train(whole, line.PointStream(), line.config_of(fields), tmp_path / "whole", say=silent)
    train(line.Line(), line.PointStream(), line.config_of(fields | {"steps": 7}), tmp_path / "parts", say=silent)
    train(parts, line.PointStream(), line.config_of(fields), tmp_path / "parts", resume=True, say=silent)
    assert parts.weights() == whole.weights()


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_recomputing_changes_nothing(checkpointing: str, line: ModuleType, tmp_path: Path) -> None:
    plain, recomputed = line.Line(), line.Line()
    train(plain, line.PointStream(), line.config_of(FIELDS), tmp_path / "a", say=silent)
    config = line.config_of(FIELDS | {"parallel": {"checkpointing": checkpointing}})
    train(recomputed, line.PointStream(), config, tmp_path / "b", say=silent)
    assert plain.weights() == recomputed.weights()


def test_low_precision_keeps_masters_in_float32(line: ModuleType, tmp_path: Path) -> None:
    model = line.Line()
    config = line.config_of(FIELDS | {"steps": 40, "parallel": {"precision": "bfloat16"}})
    train(model, line.PointStream(), config, tmp_path, say=silent)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert rows(tmp_path)[-1]["loss"] < 0.7 * rows(tmp_path)[0]["loss"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"weights": "cut"}, "weights is 'cut': use one of replicated, sharded"),
        ({"checkpointing": "some"}, "checkpointing is 'some'"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"shard_over": -1}, "shard_over is -1"),
    ],
)
def test_another_way_to_run_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        unwrap(ParallelConfig.__init__)(object.__new__(ParallelConfig), **fields)

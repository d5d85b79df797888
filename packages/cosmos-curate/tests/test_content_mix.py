"""The mix: exact shares, the cap, and that order and seed decide as they should."""

import numpy as np
import pytest

from cosmos_curate import InputError
from cosmos_curate.content.mix import PAPER_TARGET, MixConfig, plan_repeats
from cosmos_curate.schema import VIDEO_TYPES


def clips(counts: dict[str, int]) -> tuple[list[str], list[str]]:
    types = [name for name, count in counts.items() for _ in range(count)]
    return [f"clip-{index}" for index in range(len(types))], types


def used(types: list[str], repeats: np.ndarray) -> dict[str, int]:
    return {name: int(sum(r for t, r in zip(types, repeats, strict=True) if t == name)) for name in VIDEO_TYPES}


def test_plenty_of_every_type_gives_the_papers_percents_exactly() -> None:
    ids, types = clips(dict.fromkeys(VIDEO_TYPES, 60))
    plan = plan_repeats(ids, types, MixConfig(size=100))
    assert list(used(types, plan.repeats).values()) == [20, 16, 16, 11, 10, 8, 8, 4, 7]
    assert sum(PAPER_TARGET.values()) == pytest.approx(1)
    assert plan.report["absent"] == plan.report["capped"] == []


@pytest.mark.parametrize("seed", range(20))
def test_any_counts_keep_size_cap_and_evenness(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = {name: int(rng.integers(0, 40)) * int(rng.random() < 0.8) for name in VIDEO_TYPES}
    target = {name: float(rng.integers(0, 5)) for name in VIDEO_TYPES} | {"driving": 1.0}
    ids, types = clips(counts)
    most = int(rng.integers(1, 6))
    size = None if seed % 3 == 0 else int(rng.integers(0, 300))
    plan = plan_repeats(ids, types, MixConfig(target=target, size=size, most=most, seed=seed))
    got = used(types, plan.repeats)
    room = sum(most * count for name, count in counts.items() if target[name] > 0)
    assert plan.repeats.sum() == plan.report["size"] == min(len(ids) if size is None else size, room)
    assert plan.repeats.max(initial=0) <= most
    for name in VIDEO_TYPES:
        own = plan.repeats[[t == name for t in types]]
        assert np.ptp(own) <= 1 if len(own) else got[name] == 0
        assert target[name] > 0 or got[name] == 0
    # Types that are short of nothing stand to each other as their shares do, but for rounding.
    level = {name: got[name] / target[name] for name in VIDEO_TYPES if target[name] and got[name] < most * counts[name]}
    slack = 1 / min((target[name] for name in level), default=1)
    assert not level or max(level.values()) - min(level.values()) <= 2 * slack
    full = [got[name] / target[name] for name in VIDEO_TYPES if target[name] and got[name] == most * counts[name]]
    assert all(value <= min(level.values()) + 2 * slack for value in full if level)


def test_a_permutation_of_the_clips_permutes_the_plan() -> None:
    rng = np.random.default_rng(5)
    types = [VIDEO_TYPES[index] for index in rng.integers(0, 9, 80)]
    ids = [f"{index:032x}" for index in rng.permutation(80)]
    order = rng.permutation(80)
    plan = plan_repeats(ids, types, MixConfig())
    other = plan_repeats([ids[k] for k in order], [types[k] for k in order], MixConfig())
    assert (plan.repeats[order] == other.repeats).all()
    assert plan.report == other.report


def test_the_seed_changes_which_clips_and_not_how_many() -> None:
    ids, types = clips({"driving": 50, "nature dynamics": 10})
    one, other = (plan_repeats(ids, types, MixConfig(seed=seed)) for seed in (0, 1))
    assert used(types, one.repeats) == used(types, other.repeats)
    assert (one.repeats != other.repeats).any()


def test_absent_types_give_their_share_to_the_others_and_are_named() -> None:
    ids, types = clips({"driving": 30, "nature dynamics": 30})
    plan = plan_repeats(ids, types, MixConfig(target={"driving": 1.0, "nature dynamics": 1.0, "other": 2.0}, size=20))
    assert used(types, plan.repeats)["driving"] == used(types, plan.repeats)["nature dynamics"] == 10
    assert plan.report["absent"] == ["other"]
    assert plan.report["types"]["other"] == {"target": 0.5, "clips": 0, "used": 0}


def test_a_type_with_few_clips_stops_at_the_cap_and_is_named() -> None:
    ids, types = clips({"driving": 2, "nature dynamics": 30})
    plan = plan_repeats(ids, types, MixConfig(target={"driving": 1.0, "nature dynamics": 1.0}, size=32))
    assert used(types, plan.repeats)["driving"] == 8
    assert used(types, plan.repeats)["nature dynamics"] == 24
    assert plan.report["capped"] == ["driving"]


def test_clips_without_type_are_other_and_no_clips_are_no_mistake() -> None:
    plan = plan_repeats(["a", "b"], [None, "other"], MixConfig())
    assert plan.repeats.tolist() == [1, 1]
    assert plan_repeats([], [], MixConfig()).repeats.tolist() == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target": {"cats": 1.0}}, "'cats' is no type"),
        ({"target": {"driving": -1.0}}, "0 or more"),
        ({"target": {"driving": 0.0}}, "not all 0"),
        ({"target": {"driving": float("nan")}}, "0 or more"),
        ({"size": -1}, "size"),
        ({"most": 0}, "most"),
    ],
)
def test_senseless_settings_are_refused(settings: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        MixConfig(**settings)


def test_ids_must_be_unique_and_as_many_as_types() -> None:
    with pytest.raises(InputError, match="twice"):
        plan_repeats(["a", "a"], ["other", "other"], MixConfig())
    with pytest.raises(InputError, match="1 ids and 2 types"):
        plan_repeats(["a"], ["other", "other"], MixConfig())


def test_what_rounding_leaves_goes_to_the_largest_remainder() -> None:
    ids, types = clips({"driving": 5, "other": 5})
    plan = plan_repeats(ids, types, MixConfig(target={"driving": 0.45, "other": 0.55}, size=3))
    assert used(types, plan.repeats)["driving"] == 1
    assert used(types, plan.repeats)["other"] == 2

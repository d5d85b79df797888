"""A template tells what was measured, and the same of a row of the manifest."""

import math

import numpy as np
import pyarrow as pa
import pytest

from cosmos_curate.captions.stage import CaptionConfig, caption_stage
from cosmos_curate.captions.template import READS, template_caption, template_columns
from cosmos_curate.schema import CAMERA_MOTIONS, VIDEO_TYPES, arrow_schema
from cosmos_curate.stage import Item, check_stage

FULL = {
    "duration_s": 4.2,
    "num_frames": 101,
    "camera_motion": "pan left",
    "camera_motions": ["pan left", "zoom in"],
    "motion": 0.3,
    "video_type": "driving",
    "video_type_score": 0.614,
    "tags": ["cab", "street sign", "minibus", "tow truck"],
    "tag_scores": [0.55, 0.2, 0.15, 0.12],
    "brightness": 0.2,
    "colorfulness": 80.0,
    "text": 'NO "EXIT"\n  here',
}


def test_it_tells_what_there_is() -> None:
    assert template_caption(FULL) == (
        "A clip of 4.2 seconds; the camera pans left and zooms in; much moves; perhaps of the kind driving (0.61); "
        "a classifier sees cab (0.55), street sign (0.20), minibus (0.15); dim and in strong colours; "
        "it reads \"NO 'EXIT' here\"."
    )


@pytest.mark.parametrize("columns", [{}, dict.fromkeys(READS), {"motion": math.nan, "brightness": math.inf}])
def test_it_says_nothing_of_what_is_unknown(columns: dict) -> None:
    assert template_caption(columns) == "A clip."


@pytest.mark.parametrize("name", READS)
def test_every_column_alone_may_be_missing(name: str) -> None:
    assert template_caption({k: v for k, v in FULL.items() if k != name}).startswith("A clip")
    assert template_caption(FULL | {name: None}).endswith(".")


def test_every_name_of_the_schema_has_words() -> None:
    told = {template_caption({"camera_motion": motion}) for motion in CAMERA_MOTIONS}
    assert len(told) == len(CAMERA_MOTIONS)
    assert "A clip." not in told
    assert all(kind in template_caption({"video_type": kind}) for kind in VIDEO_TYPES)


def test_unsure_tags_are_left_out_and_long_texts_are_cut() -> None:
    assert template_caption({"tags": ["cab"], "tag_scores": [0.09]}) == "A clip."
    said = template_caption({"text": "x" * 500})
    assert len(said) < 110
    assert said.endswith('…".')


def test_a_row_of_the_manifest_gives_the_same() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        columns = FULL | {
            "duration_s": float(rng.choice([0.05, 0.25, 4.45, rng.uniform(0, 60)])),
            "motion": float(rng.choice([0.01, 0.05, 0.2, rng.uniform(0, 0.3)])),
            "brightness": float(rng.choice([0.15, 0.3, 0.7, rng.uniform()])),
            "colorfulness": float(rng.uniform(0, 90)),
            "video_type_score": float(rng.choice([0.005, 0.125, 0.615, rng.uniform()])),
            "tag_scores": [float(score) for score in (*rng.choice([0.1, 0.105, 0.345], 2), *rng.uniform(size=2))],
        }
        row = pa.Table.from_pylist([columns], schema=arrow_schema()).to_pylist()[0]
        assert template_columns(row) == template_columns(columns)


def test_the_stage_keeps_its_word_and_its_columns_fit_the_schema() -> None:
    stage = caption_stage(CaptionConfig())
    assert stage.samplings == ()
    for columns in (FULL, {}):
        item = Item(id="a" * 64, path="/nowhere.mp4", columns=columns)
        check_stage(stage, item, {})
        made = dict(stage.open()(item, {}))
        assert made["caption_source"] == "template"
        row = pa.Table.from_pylist([made], schema=arrow_schema()).to_pylist()[0]
        assert row["windows"] == made["windows"]
    assert dict(stage.open()(Item(id="a", path="", columns=FULL), {}))["windows"] == [
        {
            "first_frame": 0,
            "end_frame": 101,
            "caption": template_caption(FULL),
            "status": "ok",
            "prompt_tokens": None,
            "output_tokens": None,
        }
    ]

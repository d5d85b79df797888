"""Columns of the manifest, keys of a shard's records and bins of shards: what readers of the output rely on.

`VERSION` is semantic: a new column raises the minor number, a changed or removed one the major.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow

VERSION = "1.0"


@dataclass(frozen=True)
class Column:
    """One column: its name, its type as Arrow names it, and what it says; a value is null where it does not apply."""

    name: str
    type: str
    about: str


COLUMNS = (
    Column("clip_id", "string", "from the source's bytes, the span and the encoding; of a whole source, its own id"),
    Column("source", "string", "path of the video below the input folder"),
    Column("source_sha256", "string", "of the video's bytes"),
    Column("start_s", "double", "when the clip's first frame is shown, on the source's clock"),
    Column("end_s", "double", "when its last frame gives way"),
    Column("duration_s", "double", "end_s - start_s"),
    Column("num_frames", "int32", "frames of the clip, counted by decoding it"),
    Column("framerate", "double", "frames a second, on average"),
    Column("width", "int32", "pixels of the clip"),
    Column("height", "int32", "pixels of the clip"),
    Column("bytes", "int64", "size of the clip's mp4"),
    Column("sha256", "string", "of the clip's mp4"),
    Column("source_width", "int32", "pixels as shown: upright and square"),
    Column("source_height", "int32", "pixels as shown"),
    Column("source_codec", "string", "as FFmpeg names it"),
    Column("source_bit_rate", "int64", "bits a second of the video stream"),
    Column("variable_rate", "bool", "whether the source's frames are unevenly spaced"),
    Column("rotation", "int32", "degrees that the source asks to be turned by"),
    Column("letterbox", "list<int32>", "bars cut off: pixels left, top, right, bottom of the upright picture"),
    Column("detector", "string", "what found the shots"),
    Column("motion", "float", "what moves in the scene beside the camera: share of the diagonal a second"),
    Column("camera_speed", "float", "how fast the camera moves the picture: share of the diagonal a second"),
    Column("shake", "float", "jerk of the camera from frame to frame: share of the diagonal a second"),
    Column("camera_motion", "string", "the camera's main motion"),
    Column("camera_motions", "list<string>", "all of its motions, main one first"),
    Column("motion_vectors", "float", "mean length of the codec's motion vectors: share of the diagonal a second"),
    Column("quality", "float", "technical quality, higher is better"),
    Column("brisque", "float", "BRISQUE, lower is better"),
    Column("blur", "float", "share of the picture's edges that are soft, from 0 to 1"),
    Column("blockiness", "float", "strength of a codec's block edges, 0 for none"),
    Column("aesthetic", "float", "of a scorer that was plugged in"),
    Column("text_overlay", "float", "text laid over the picture, from 0 to 1"),
    Column("text_area", "float", "share of the picture that any text takes"),
    Column("text", "string", "what was read, in order of appearance"),
    Column("video_type", "string", "one of VIDEO_TYPES"),
    Column("video_type_score", "float", "from 0 to 1"),
    Column("tags", "list<string>", "what the picture shows, best first"),
    Column("tag_scores", "list<float>", "from 0 to 1"),
    Column("brightness", "float", "mean luma from 0 to 1"),
    Column("colorfulness", "float", "Hasler and Suesstrunk's measure, 0 for gray"),
    Column("phash", "string", "perceptual hash of the clip"),
    Column("caption", "string", "of the whole clip, or of its first window"),
    Column("caption_source", "string", "template, or the model's name"),
    Column("windows", "list<window>", "captions of parts of the clip, tokens counted"),
    Column("keep", "bool", "whether the clip is in the shards"),
    Column("drop_rule", "string", "name of the first rule that it failed; quarantine and duplicate among them"),
    Column("drop_value", "string", "the value that failed"),
    Column("dup_of", "string", "clip_id of the copy that was kept"),
    Column("dup_similarity", "float", "cosine to it, 1 for equal bytes"),
    Column("quarantine", "string", "why the clip or its source could not be used"),
    Column("repeats", "int32", "times that it is in the shards, for the mix"),
    Column("shard", "string", "tar below the output folder"),
    Column("key", "string", "of its record in the shard"),
)

VIDEO_TYPES = (
    "nature dynamics",
    "hand and object manipulation",
    "spatial awareness and navigation",
    "driving",
    "human motion and activity",
    "first-person view",
    "dynamic camera",
    "synthetic rendering",
    "other",
)
"""The nine groups of arXiv 2501.03575, section 3."""

CAMERA_MOTIONS = (
    "static",
    "pan left",
    "pan right",
    "tilt up",
    "tilt down",
    "zoom in",
    "zoom out",
    "roll left",
    "roll right",
    "shake",
)
"""Named for the camera: in a pan to the left the picture moves to the right; rolling left turns it clockwise."""

CLIP, RECORD, CAPTION = "mp4", "json", "txt"
"""Suffixes of a key's members in a shard."""

RECORD_KEYS = (
    "clip_id",
    "num_frames",
    "framerate",
    "width",
    "height",
    "caption",
    "caption_source",
    "source",
    "source_sha256",
    "start_s",
    "end_s",
    "camera_motion",
    "video_type",
    "windows",
)
"""Top-level keys of a record; more may come."""


def arrow_schema() -> "pyarrow.Schema":
    """Return the manifest's Arrow schema; its metadata names the version."""
    import pyarrow as pa

    window = pa.struct(
        [
            ("first_frame", pa.int32()),
            ("end_frame", pa.int32()),
            ("caption", pa.string()),
            ("status", pa.string()),
            ("prompt_tokens", pa.int32()),
            ("output_tokens", pa.int32()),
        ]
    )
    types = {
        "string": pa.string(),
        "bool": pa.bool_(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float": pa.float32(),
        "double": pa.float64(),
        "list<int32>": pa.list_(pa.int32()),
        "list<float>": pa.list_(pa.float32()),
        "list<string>": pa.list_(pa.string()),
        "list<window>": pa.list_(window),
    }
    return pa.schema([(c.name, types[c.type]) for c in COLUMNS], metadata={"cosmos_curate.schema": VERSION})

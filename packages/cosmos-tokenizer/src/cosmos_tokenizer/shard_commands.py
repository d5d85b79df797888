"""`cosmos-tokenizer encode FOLDER OUTPUT --shards`: a folder of clips to shards. Returns what `--json` prints."""

from argparse import Namespace
from typing import Any

from cosmos_tokenizer.codec_commands import source_of
from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.shards import PER_SHARD, write_shards


def encode(args: Namespace) -> dict[str, Any]:
    """Write shards and say what stands there now."""
    if len(args.inputs) != 1:
        raise InputError(f"{args.inputs[1]}: --shards takes one folder of clips; put the clips, or links, into one")
    written = write_shards(
        args.inputs[0],
        args.output,
        source_of(args.model),
        preset=args.preset,
        device=args.device,
        dtype=args.dtype,
        latents=args.latents or "float16",
        exact=args.exact,
        tile=args.tile,
        per_shard=PER_SHARD if args.per_shard is None else args.per_shard,
        workers=1 if args.workers is None else args.workers,
    )
    skipped = f", {len(written.skipped)} skipped" if written.skipped else ""
    kept = f", {written.kept} of them from before" if written.kept else ""
    print(f"{written.samples} clips in {written.shards} shards{kept}{skipped}; {written.manifest} names them")
    return {
        "model": written.model,
        "manifest": str(written.manifest),
        "shards": written.shards,
        "kept": written.kept,
        "samples": written.samples,
        "skipped": list(written.skipped),
    }

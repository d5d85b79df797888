"""`cosmos-diffusion embed CAPTIONS OUTPUT`: text embeddings of many captions, before a training or a generation."""

from argparse import ArgumentParser, Namespace
from typing import Any


def add_embed_arguments(command: ArgumentParser) -> None:
    """The arguments of the command, but for `--json`, which all have."""
    command.add_argument(
        "captions",
        metavar="CAPTIONS",
        help='folder of .txt files, a caption each, or a file of JSON lines with "caption" and "name"',
    )
    command.add_argument(
        "output", metavar="OUTPUT", help="folder for NAME.safetensors; run again to finish a broken run"
    )
    command.add_argument(
        "--encoder",
        default="google-t5/t5-11b",
        metavar="SOURCE",
        help="hub id or folder of a T5, or of a diffusers pipeline with one (default google-t5/t5-11b)",
    )
    command.add_argument(
        "--weights",
        default="bfloat16",
        choices=("bfloat16", "float32", "int8"),
        help="of the encoder; int8 needs half the memory of bfloat16 (default bfloat16)",
    )
    command.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    command.add_argument("--length", type=int, default=512, metavar="N", help="tokens at most (default 512)")
    command.add_argument("--batch", type=int, default=8, metavar="N", help="captions at a time (default 8)")


def embed(args: Namespace) -> dict[str, Any]:
    """Write the embeddings and say what stands there now: what `--json` prints."""
    # Imported here: torch takes seconds, and --help needs none of it.
    from cosmos_diffusion.caption_embedding import embed_captions
    from cosmos_diffusion.captions import read_captions
    from cosmos_diffusion.text_encoders import T5Encoder

    captions = read_captions(args.captions)
    encoder = T5Encoder(args.encoder, weights=args.weights, device=args.device, length=args.length)
    made = embed_captions(captions, args.output, encoder, name=encoder.name, batch=args.batch)
    kept = f", {made.kept} from before" if made.kept else ""
    print(f"{made.written} embeddings written to {args.output}{kept}")
    return {
        "captions": len(captions),
        "written": made.written,
        "kept": made.kept,
        "encoder": encoder.name,
        "width": encoder.width,
        "output": str(args.output),
    }

"""Text encoders: what a pipeline asks of one, and T5, embeddings from files, and a small one over bytes."""

from cosmos_diffusion.text_encoders.byte_encoder import ByteEncoder as ByteEncoder
from cosmos_diffusion.text_encoders.byte_encoder import ByteEncoderConfig as ByteEncoderConfig
from cosmos_diffusion.text_encoders.precomputed import PrecomputedEncoder as PrecomputedEncoder
from cosmos_diffusion.text_encoders.protocol import TextEncoder as TextEncoder
from cosmos_diffusion.text_encoders.t5 import T5Encoder as T5Encoder
from cosmos_diffusion.text_encoders.testing import check_text_encoder as check_text_encoder

__all__ = [
    "ByteEncoder",
    "ByteEncoderConfig",
    "PrecomputedEncoder",
    "T5Encoder",
    "TextEncoder",
    "check_text_encoder",
]

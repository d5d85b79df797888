"""Embeddings of captions on a tiny random T5 that each run makes, and the member of a shard that holds them."""

import io
import pickle
import pickletools
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_curate.errors import InputError
from cosmos_curate.text_embeddings.member import SUFFIX, encode_member
from cosmos_curate.text_embeddings.t5 import Encode, TextEmbeddingConfig, open_text_encoder

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra vlm)")

WORDS = ("<pad>", "</s>", "<unk>", "a", "dog", "cat", "runs", "sits", "red", "blue")
TEXTS = ("a dog runs", "a", "a red dog sits a blue cat runs", "")


def make_t5(folder: Path, *, scale: float = 1.0, ending: bool = True) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ending:
        words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3, relative_attention_num_buckets=8
    )
    model = transformers.T5EncoderModel(config)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0, 0.3)
        model.encoder.final_layer_norm.weight.fill_(scale)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny encoder."""
    return make_t5(tmp_path_factory.mktemp("models") / "t5")


def opened(folder: Path, **given: Any) -> Encode:
    encode = open_text_encoder(TextEmbeddingConfig(encoder=str(folder), device="cpu", **given))
    assert encode is not None
    return encode


def test_no_encoder_is_the_default() -> None:
    assert open_text_encoder(TextEmbeddingConfig()) is None


def test_vectors_are_the_models_own_without_padding(t5: Path) -> None:
    model = transformers.T5EncoderModel.from_pretrained(t5, dtype=torch.float32).eval()
    for text, found in zip(TEXTS, opened(t5, dtype="float32")(TEXTS), strict=True):
        ids = torch.tensor([[*(WORDS.index(word) for word in text.split()), 1]])
        with torch.no_grad():
            expected = model(input_ids=ids).last_hidden_state[0].numpy()
        assert found.dtype == np.float32
        assert found.shape == (len(text.split()) + 1, 24)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_text_has_the_same_bits_in_any_company(t5: Path) -> None:
    encode = opened(t5)
    together = encode(TEXTS)
    for text, found in zip(TEXTS, together, strict=True):
        (alone,) = encode([text])
        assert found.dtype == np.float16
        assert alone.tobytes() == found.tobytes()
    assert encode([]) == []


def test_long_texts_are_cut_and_keep_their_end_mark(t5: Path) -> None:
    cut, whole = opened(t5, tokens=4)(["a red dog sits a blue cat", "a red dog"])
    assert cut.shape == (4, 24)
    np.testing.assert_array_equal(cut, whole)
    (longest,) = opened(t5)(["dog " * 600])
    assert longest.shape == (512, 24)


def test_what_cannot_embed_is_named(t5: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no T5 encoder can be read there, for there is no such folder"):
        opened(tmp_path / "missing")
    transformers.BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match="bert: is a model of type bert, and a T5 encoder was expected"):
        opened(tmp_path / "bert")
    with pytest.raises(InputError, match="does not fit into float16; give dtype float32"):
        opened(make_t5(tmp_path / "loud", scale=1e6))(["a dog"])
    assert opened(tmp_path / "loud", dtype="float32")(["a dog"])[0].max() > 65504
    with pytest.raises(InputError, match="makes no token of ''"):
        opened(make_t5(tmp_path / "endless", ending=False))([""])
    with pytest.raises(InputError, match="device is 'cuda:77'"):
        open_text_encoder(TextEmbeddingConfig(encoder=str(t5), device="cuda:77"))


@pytest.mark.parametrize(("given", "says"), [({"encoder": " "}, "encoder is empty"), ({"tokens": 0}, "tokens is 0")])
def test_configs_out_of_range_are_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        TextEmbeddingConfig(**given)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shapes", [[], [(1, 1)], [(7, 24), (512, 1024), (3, 5)], [(0, 4)]])
def test_a_member_is_a_pickled_list_of_these_arrays(dtype: Any, shapes: list) -> None:
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    if arrays:
        arrays[0].flat[:1] = np.nan
    data = encode_member(arrays)
    found = pickle.loads(data)
    assert type(found) is list
    assert len(found) == len(arrays)
    for one, other in zip(found, arrays, strict=True):
        assert type(one) is np.ndarray
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
        assert one.flags.c_contiguous
        one += 1  # it may be written to
    assert data == encode_member([array.copy() for array in arrays])


def test_a_member_of_turned_arrays_holds_what_they_show() -> None:
    turned = np.arange(12, dtype=np.float32).reshape(3, 4).T
    (found,) = pickle.loads(encode_member([turned]))
    np.testing.assert_array_equal(found, turned)
    (swapped,) = pickle.loads(encode_member([turned.astype(">f4")]))
    np.testing.assert_array_equal(swapped, turned)


def test_a_member_asks_for_names_that_every_numpy_has() -> None:
    data = encode_member([np.zeros((2, 3), np.float16)])
    asked = {argument for code, argument, _ in pickletools.genops(data) if code.name == "GLOBAL"}
    assert asked == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    pickletools.dis(data, io.StringIO())


@pytest.mark.parametrize("array", [np.zeros(3, np.float16), np.zeros((2, 2)), np.zeros((1, 2, 3), np.float32)])
def test_other_arrays_are_no_embeddings(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="L x D wanted"):
        encode_member([array])


def test_a_shard_of_members_reads_back(t5: Path, tmp_path: Path) -> None:
    """As readers of Cosmos data take it: one array of two axes, padded to 512 with zeros."""
    wds = pytest.importorskip("webdataset", reason="webdataset is not installed (extra test)")
    arrays = opened(t5)(["a dog runs"])
    with tarfile.open(tmp_path / "000000.tar", "w") as shard:
        data = encode_member(arrays)
        info = tarfile.TarInfo(f"clip.{SUFFIX}")
        info.size = len(data)
        shard.addfile(info, io.BytesIO(data))
    with (tmp_path / "000000.tar").open("rb") as stream:
        (sample,) = wds.tariterators.group_by_keys(wds.tariterators.tar_file_expander([{"url": "a", "stream": stream}]))
    (found,) = pickle.loads(sample[SUFFIX])
    padded = np.concatenate([found, np.zeros((512 - len(found), 24), np.float32)])
    assert padded.shape == (512, 24)
    assert padded[:4].any(axis=1).all()

"""T5 and local language models through transformers, on tiny random ones that each test run makes."""

import json
import weakref
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cosmos_diffusion import quantised
from cosmos_diffusion.chat import Chat, Sampling, open_chat
from cosmos_diffusion.chat_local import LocalChat
from cosmos_diffusion.embed_command import add_embed_arguments, embed
from cosmos_diffusion.embedding_files import read_embedding
from cosmos_diffusion.quantised import QuantisedLinear
from cosmos_diffusion.text_encoders import PrecomputedEncoder, T5Encoder, TextEncoder, check_text_encoder
from cosmos_diffusion.text_encoders.padding import trimmed
from cosmos_tokenizer import InputError

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra t5)")

WORDS = [
    *("<pad>", "</s>", "<unk>", "a", "ball", "falls", "red", "rolls", "two", "boxes", "seesaw", "tips", "and", "rests"),
    *("on", "its", "left", "end", ".", "[IMG]", "[IMG_BREAK]", "[IMG_END]"),
]
PROMPTS = ("a red ball rolls", "two boxes", "a seesaw tips and rests on its left end . two boxes")
GREEDY = Sampling(temperature=0.01, tokens=5)


def tokenizer(*, ending: bool) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ending:
        words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )


@pytest.fixture
def t5(tmp_path: Path, randomised: Callable) -> Path:
    """Return the folder of a tiny T5 encoder with its tokenizer."""
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3, relative_attention_num_buckets=8
    )
    randomised(transformers.T5EncoderModel(config)).save_pretrained(tmp_path / "t5")
    tokenizer(ending=True).save_pretrained(tmp_path / "t5")
    return tmp_path / "t5"


def alone(folder: Path, prompt: str) -> torch.Tensor:
    """The hidden states of transformers' own model for one prompt without padding."""
    model = transformers.T5EncoderModel.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([[WORDS.index(word) for word in prompt.split()] + [1]])
    with torch.no_grad():
        return model(input_ids=ids).last_hidden_state[0]


def test_t5_conforms(t5: Path) -> None:
    encoder = T5Encoder(t5, weights="float32", length=14)
    assert isinstance(encoder, TextEncoder)
    assert encoder.width == 24
    check_text_encoder(encoder, prompts=PROMPTS)
    assert encoder.encode([]).shape == (0, 14, 24)


def test_t5_gives_each_prompt_its_own_states_and_exact_zeros(t5: Path) -> None:
    text = T5Encoder(t5, weights="float32").encode(PROMPTS)
    assert text.shape == (3, 512, 24)
    assert text.dtype == torch.float32
    assert not text.requires_grad
    for prompt, row in zip(PROMPTS, text, strict=True):
        expected = alone(t5, prompt)
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-5, rtol=0)
        assert torch.equal(row[len(expected) :], torch.zeros(512 - len(expected), 24))


def test_t5_padded_inside_gives_the_same(t5: Path) -> None:
    """The released pipelines pad the tokens to the full length, under a mask."""
    model = transformers.T5EncoderModel.from_pretrained(t5, dtype=torch.float32).eval()
    ids = torch.zeros(1, 40, dtype=torch.int64)
    words = [WORDS.index(word) for word in PROMPTS[0].split()] + [1]
    ids[0, : len(words)] = torch.tensor(words)
    mask = (torch.arange(40) < len(words)).long()[None]
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    text = T5Encoder(t5, weights="float32", length=40).encode(PROMPTS[:1])
    torch.testing.assert_close(text, expected, atol=1e-5, rtol=0)


def test_t5_cuts_long_prompts_and_keeps_the_end_mark(t5: Path) -> None:
    encoder = T5Encoder(t5, weights="float32", length=4)
    cut, whole = encoder.encode(["a red ball rolls on", "a red ball"])
    torch.testing.assert_close(cut, whole)
    assert len(trimmed(cut)) == 4


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_t5_in_fewer_bits_is_near(t5: Path, weights: Any) -> None:
    expected = T5Encoder(t5, weights="float32", length=14).encode(PROMPTS)
    text = T5Encoder(t5, weights=weights, length=14).encode(PROMPTS)
    assert text.dtype == torch.bfloat16
    assert torch.equal(text.any(dim=2), expected.any(dim=2))
    assert (text - expected).norm() < 0.03 * expected.norm()


def test_t5_in_eight_bits_holds_no_other_linear_layers(t5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, made, make = T5Encoder(t5, weights="int8"), [], quantised.dequantised
    monkeypatch.setattr(quantised, "dequantised", lambda *given: made.append(0) or make(*given))
    encoder.encode(PROMPTS)
    assert len(made) == 2 * 6  # one time each, though transformers asks some for their dtype first
    kinds = encoder._model.run(lambda model: [type(part) for part in model.modules()])
    assert kinds.count(QuantisedLinear) == 2 * 6
    assert torch.nn.Linear not in kinds


@pytest.mark.parametrize(("rest", "reads"), [("device", 1), ("cpu", 1), ("disk", 2)])
def test_t5_waits_where_it_is_told(t5: Path, rest: Any, reads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = T5Encoder(t5, weights="float32", rest=rest)
    models: list[weakref.ref] = []
    read = encoder._model._load

    def counted() -> torch.nn.Module:
        model = read()
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(encoder._model, "_load", counted)
    assert not models
    first = encoder.encode(PROMPTS)
    assert (models[0]() is None) == (rest == "disk")
    assert torch.equal(encoder.encode(PROMPTS), first)
    assert len(models) == reads
    encoder.free()
    assert models[-1]() is None
    assert torch.equal(encoder.encode(PROMPTS), first)


def test_t5_of_a_pipeline_is_found(t5: Path, tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline"
    (pipeline / "tokenizer").mkdir(parents=True)
    t5.rename(pipeline / "text_encoder")
    for path in (pipeline / "text_encoder").glob("*token*"):
        path.rename(pipeline / "tokenizer" / path.name)
    assert T5Encoder(pipeline, length=14).encode(PROMPTS).shape == (3, 14, 24)


def test_t5_of_the_whole_model_is_its_encoder(t5: Path, tmp_path: Path, randomised: Callable) -> None:
    config = transformers.T5Config.from_pretrained(t5)
    randomised(transformers.T5ForConditionalGeneration(config)).save_pretrained(tmp_path / "both")
    tokenizer(ending=True).save_pretrained(tmp_path / "both")
    text = T5Encoder(tmp_path / "both", weights="float32").encode(PROMPTS[1:2])
    torch.testing.assert_close(trimmed(text[0]), alone(tmp_path / "both", PROMPTS[1]))


def test_sources_that_are_no_t5_are_named(t5: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing: no T5 encoder can be read there, for there is no such folder"):
        T5Encoder(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no T5 encoder can be read there"):
        T5Encoder(tmp_path / "empty")
    config = json.loads((t5 / "config.json").read_text())
    (t5 / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    with pytest.raises(InputError, match="is a model of type llama, and a T5 encoder was expected"):
        T5Encoder(t5)


def test_damaged_weights_are_named(t5: Path) -> None:
    path = t5 / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="no T5 encoder can be read there"):
        T5Encoder(t5).encode(PROMPTS)
    path.write_bytes(whole)
    state = load_file(path)
    name = "encoder.block.1.layer.1.DenseReluDense.wo.weight"
    save_file(state | {name: torch.full_like(state[name], torch.inf)}, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"t5: encoder\.block\.1\.layer\.1\.DenseReluDense\.wo: a weight holds NaN"):
        T5Encoder(t5, weights="int8").encode(PROMPTS)
    del state["encoder.block.1.layer.0.SelfAttention.k.weight"]
    save_file(state, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights are missing or misshapen, the first encoder\.block\.1\.layer\.0"):
        T5Encoder(t5).encode(PROMPTS)
    state = load_file(path)
    state["encoder.block.1.layer.0.SelfAttention.k.weight"] = torch.zeros(24, 23)
    save_file(state, path, {"format": "pt"})
    with pytest.raises(InputError, match="t5: "):
        T5Encoder(t5).encode(PROMPTS)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"weights": "float16"}, "weights are to be 'float16'"),
        ({"rest": "cloud"}, "rest is 'cloud'"),
        ({"length": 0}, "length is 0"),
        ({"device": "cuda:99"}, "device is 'cuda:99'"),
    ],
)
def test_words_that_cannot_be_are_named(t5: Path, given: dict, says: str) -> None:
    unchecked = getattr(T5Encoder.__init__, "__wrapped__", T5Encoder.__init__)
    with pytest.raises(InputError, match=says):
        unchecked(T5Encoder.__new__(T5Encoder), t5, **given)


def arguments(*words: str) -> Any:
    parser = ArgumentParser()
    add_embed_arguments(parser)
    return parser.parse_args(words)


def test_the_command_embeds_a_folder(t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "metas").mkdir()
    for name, prompt in zip("xyz", PROMPTS, strict=True):
        (tmp_path / "metas" / f"{name}.txt").write_text(prompt)
    words = [
        str(tmp_path / "metas"),
        str(tmp_path / "out"),
        "--encoder",
        str(t5),
        "--weights",
        "float32",
        "--batch",
        "2",
    ]
    done = embed(arguments(*words))
    assert (done["captions"], done["written"], done["kept"], done["width"]) == (3, 3, 0, 24)
    for name, prompt in zip("xyz", PROMPTS, strict=True):
        found = read_embedding(tmp_path / "out" / f"{name}.safetensors")
        torch.testing.assert_close(found.text, alone(t5, prompt), atol=1e-5, rtol=0)
    assert embed(arguments(*words))["kept"] == 3
    assert "0 embeddings written" in capsys.readouterr().out
    check_text_encoder(PrecomputedEncoder(tmp_path / "out", length=14), prompts=PROMPTS)


TEMPLATE = (
    "{% if add_generation_prompt %}. {% endif %}"
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'image' %}[IMG] {% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)


@pytest.fixture
def llama(tmp_path: Path, randomised: Callable) -> Path:
    """Return the folder of a tiny language model with its tokenizer and template."""
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    randomised(transformers.LlamaForCausalLM(config)).save_pretrained(tmp_path / "llama")
    words = tokenizer(ending=True)  # the mark of the end is for the template to write, and it writes none
    words.chat_template = TEMPLATE
    words.save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def greedy(folder: Path, prompt: str, count: int) -> str:
    """An answer, token by token, by transformers' own forward."""
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = [WORDS.index(word) for word in [".", *prompt.split()]]
    made: list[int] = []
    while len(made) < count and (not made or made[-1] != 1):
        with torch.no_grad():
            made.append(int(model(torch.tensor([ids + made])).logits[0, -1].argmax()))
    return " ".join(WORDS[number] for number in made if number > 2)


def test_a_local_model_answers_greedily(llama: Path) -> None:
    chat = LocalChat(llama, weights="float32")
    assert isinstance(chat, Chat)
    answers = {prompt: chat.reply(prompt, None, GREEDY) for prompt in PROMPTS}
    assert answers == {prompt: greedy(llama, prompt, 5) for prompt in PROMPTS}
    assert len(set(answers.values())) > 1
    assert isinstance(open_chat(str(llama)), LocalChat)


def test_a_model_that_says_nothing_is_named(llama: Path) -> None:
    state = load_file(llama / "model.safetensors")
    state["model.norm.weight"].zero_()  # all words alike, and the first of them is no word
    save_file(state, llama / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="llama: gave an empty answer"):
        LocalChat(llama, weights="float32").reply("a", None, GREEDY)


def test_a_model_that_takes_no_pictures_says_so(llama: Path) -> None:
    with pytest.raises(InputError, match="takes no pictures"):
        LocalChat(llama).reply("a", np.zeros((8, 8, 3), np.uint8), GREEDY)


def test_a_model_without_a_template_says_so(llama: Path) -> None:
    for path in llama.glob("chat_template*"):
        path.unlink()
    fields = json.loads((llama / "tokenizer_config.json").read_text())
    fields.pop("chat_template", None)
    (llama / "tokenizer_config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match="has no template for a conversation"):
        LocalChat(llama).reply("a", None, GREEDY)


@pytest.fixture
def llava(tmp_path: Path, randomised: Callable) -> Path:
    """Return the folder of a tiny model that takes pictures."""
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4
    )
    text = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    config = transformers.LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=WORDS.index("[IMG]"),
        image_token_index=WORDS.index("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    model = randomised(transformers.LlavaForConditionalGeneration(config))
    model.lm_head.weight.data[:3] = 0  # the first word is not to be the end
    model.save_pretrained(tmp_path / "llava")
    # Newer versions have a class without torchvision beside the one of this name.
    pictures = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)
    words = tokenizer(ending=False)
    words.add_special_tokens({"additional_special_tokens": ["[IMG]"]})
    words.image_token, words.image_token_id = "[IMG]", WORDS.index("[IMG]")
    transformers.LlavaProcessor(
        image_processor=pictures(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer=words,
        patch_size=4,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
        image_token="[IMG]",
    ).save_pretrained(tmp_path / "llava")
    return tmp_path / "llava"


def test_a_model_that_takes_pictures_sees_them(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = LocalChat(llava, weights="float32", rest="device")
    generate = transformers.LlavaForConditionalGeneration.generate
    seen: list[dict] = []

    def spy(model: Any, **given: Any) -> torch.Tensor:
        seen.append(given)
        return generate(model, **given)

    monkeypatch.setattr(transformers.LlavaForConditionalGeneration, "generate", spy)
    pictures = [np.full((20, 30, 3), level, np.uint8) for level in (0, 255)]
    answers = [chat.reply("a red ball", picture, GREEDY) for picture in (*pictures, pictures[0])]
    assert answers[0] == answers[2]
    assert seen[0]["input_ids"][0, 0] == WORDS.index(".")  # what the template begins an answer's prompt with
    dark, bright, again = (given["pixel_values"] for given in seen)
    assert dark.shape == (1, 3, 16, 16)
    assert torch.equal(dark, again)
    assert (bright - dark > 3).all()  # of unit variance over pictures
    assert (seen[0]["input_ids"] == WORDS.index("[IMG]")).sum() == 16 + 1
    assert chat.reply("a red ball", None, GREEDY)
    assert "pixel_values" not in seen[-1]

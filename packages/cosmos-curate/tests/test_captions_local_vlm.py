"""The captioner of transformers, on a tiny random Llava that each run makes; no network, no torchvision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmos_curate.captions.captioner import CaptionError, check_captioner
from cosmos_curate.captions.local_vlm import LocalCaptioner
from cosmos_curate.captions.stage import CaptionConfig, caption_stage
from cosmos_curate.errors import InputError
from cosmos_curate.media.frames import Frames
from cosmos_curate.stage import Item, check_stage

transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra vlm)")

MARKS = ("<pad>", "</s>", "<unk>", "<image>")
WORDS = (*MARKS, "a", "dog", "cat", "runs", "sits", "red", "blue", "left", "right", "there", "here", "now")
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}"
)


def frames_of(values: list[int], *, size: tuple[int, int] = (30, 41), channels: int = 3) -> Frames:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 50, (len(values), *size, channels))
    pixels = (noise + np.array(values)[:, None, None, None]).astype(np.uint8)
    return Frames(pixels=pixels, times_s=np.arange(len(values)) * 0.5)


def save_processor(folder: Path, template: str | None) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    size = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    # Without torchvision newer versions have a class of another name for the same.
    kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    transformers.LlavaProcessor(
        kind(**size),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def make_llava(folder: Path, *, template: str | None = TEMPLATE, silent: bool = False) -> Path:
    torch.manual_seed(0)
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        ),
        text_config=transformers.LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
        ),
        image_token_index=3,
        vision_feature_layer=-1,
    )
    model = transformers.LlavaForConditionalGeneration(config)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0, 0.6)
        # So that pictures are heard, and no marks are written.
        model.get_input_embeddings().weight.mul_(0.05)
        model.lm_head.weight[[0, 2, 3]] = 0
        if silent:
            model.lm_head.weight.zero_()
            model.lm_head.weight[1] = 1e-3
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    save_processor(folder, template)
    return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model."""
    return make_llava(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def captioner(llava: Path) -> LocalCaptioner:
    """Return its captioner."""
    return LocalCaptioner(str(llava), device="cpu", max_tokens=6)


def test_it_keeps_its_word_on_all_kinds_of_frames(captioner: LocalCaptioner) -> None:
    check_captioner(
        captioner,
        [frames_of([10]), frames_of([1, 99, 200]), frames_of([7, 8], channels=1), frames_of([3], size=(16, 9))],
    )
    assert captioner.name.startswith("tiny@")
    assert len(captioner.name) == len("tiny@") + 8


def test_tokens_are_counted(captioner: LocalCaptioner) -> None:
    made = captioner.caption(frames_of([1, 99, 200]))
    assert made.output_tokens is not None
    assert made.prompt_tokens is not None
    assert made.output_tokens <= 6
    # Four patches a picture, and the words of the question.
    other = captioner.caption(frames_of([1, 99]))
    assert other.prompt_tokens is not None
    assert made.prompt_tokens - other.prompt_tokens == 4 + 1
    assert made.truncated == (made.output_tokens == 6)


def test_captions_hang_on_the_pictures_and_their_order(llava: Path) -> None:
    captioner = LocalCaptioner(str(llava), device="cpu", max_tokens=24, prompt="say it")
    values = ([0, 0], [0, 200], [200, 0], [200, 200])
    told = [captioner.caption(frames_of(list(value))).text for value in values]
    again = [captioner.caption(frames_of(list(value))).text for value in values]
    assert told == again
    assert len(set(told)) >= 3


def test_it_is_what_the_model_itself_writes(llava: Path, captioner: LocalCaptioner) -> None:
    """Token by token by hand, from the pictures as the processor makes them."""
    frames = frames_of([5, 150])
    processor = transformers.AutoProcessor.from_pretrained(llava)
    model = transformers.AutoModelForImageTextToText.from_pretrained(llava, dtype=torch.float32).eval()
    from cosmos_curate.captions.prompts import question

    text = "<image> <image> " + question("default", [0.0, 0.5]) + " "
    inputs = processor(text=[text], images=list(frames.pixels), return_tensors="pt", add_special_tokens=False)
    ids, written = inputs["input_ids"], []
    with torch.no_grad():
        while len(written) < 6 and 1 not in written:
            logits = model(
                input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=inputs["pixel_values"]
            ).logits
            written.append(int(logits[0, -1].argmax()))
            ids = torch.cat([ids, torch.tensor([[written[-1]]])], 1)
    made = captioner.caption(frames)
    assert made.output_tokens == len(written)
    assert made.text == " ".join(WORDS[number] for number in written if number >= len(MARKS))


def test_a_silent_model_fails_the_window(tmp_path: Path) -> None:
    captioner = LocalCaptioner(str(make_llava(tmp_path / "silent", silent=True)), device="cpu", max_tokens=4)
    with pytest.raises(CaptionError, match=r"silent@\w{8} wrote an empty caption"):
        captioner.caption(frames_of([3]))


def test_the_stage_knows_a_folder_by_its_weights(llava: Path, tmp_path: Path, video: Callable) -> None:
    path = video(tmp_path / "clip.mp4", frames_of(list(range(0, 200, 20)), size=(32, 48)).pixels)
    config = CaptionConfig(captioner="transformers", model=str(llava), device="cpu", max_tokens=4, frames=2)
    stage = caption_stage(config)
    assert list(stage.weights) == ["model.safetensors"]
    assert stage.resources.gpus == 0
    frames = {stage.samplings[0]: Frames(pixels=frames_of([1, 2]).pixels, times_s=np.array([0.1, 0.3]))}
    item = Item(id="c" * 64, path=str(path))
    check_stage(stage, item, frames)
    made = dict(stage.open()(item, frames))
    assert made["caption_source"] == LocalCaptioner(str(llava), device="cpu").name
    (tmp_path / "moved").mkdir()
    for file in llava.iterdir():
        (tmp_path / "moved" / file.name).write_bytes(file.read_bytes())
    moved = CaptionConfig(captioner="transformers", model=str(tmp_path / "moved"), device="cpu", max_tokens=4, frames=2)
    assert caption_stage(moved).key("x") == stage.key("x")
    weights = tmp_path / "moved" / "model.safetensors"
    weights.unlink()
    with pytest.raises(InputError, match="moved: no vision-language model can be read there"):
        caption_stage(moved).open()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"source": "/no/such/folder"}, "there is no such folder"),
        ({"device": "cuda:77"}, "device is 'cuda:77', which is not here"),
        ({"device": "gpu"}, "device is 'gpu'"),
        ({"prompt": "x"}, "give one of default"),
        ({"max_tokens": 0}, "0 tokens at most"),
    ],
)
def test_what_is_not_there_is_named(llava: Path, given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        LocalCaptioner(**({"source": str(llava), "device": "cpu"} | given))


def test_a_model_without_pictures_or_template_is_named(llava: Path, tmp_path: Path) -> None:
    bare = make_llava(tmp_path / "bare", template=None)
    with pytest.raises(InputError, match="bare: has no template for conversations"):
        LocalCaptioner(str(bare), device="cpu").caption(frames_of([3]))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="empty: no processor can be read there"):
        LocalCaptioner(str(empty), device="cpu")


def test_missing_weights_are_not_made_up(llava: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in llava.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    gone = next(name for name in sorted(state) if "mlp" in name)
    save_file({k: v for k, v in state.items() if k != gone}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="1 weights are missing or misshapen, the first "):
        LocalCaptioner(str(tmp_path), device="cpu")


def test_without_transformers_the_extra_is_named(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r'pip install "cosmos-curate\[vlm\]"'):
        LocalCaptioner(str(llava), device="cpu")

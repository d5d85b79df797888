"""Text on its way through a pipeline: what is embedded, judged, made longer, and told afterwards."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from cosmos_diffusion.embedding_files import Embedding
from cosmos_diffusion.pipelines import Generation, Guard, RefusedError, Text2World, Video2World, Watch
from cosmos_tokenizer import InputError
from cosmos_tokenizer.media import to_frames


class Encoder:
    """Says what it was asked to embed."""

    width, length = 32, 12

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, prompts: Sequence[str], /) -> Tensor:
        self.asked += prompts
        return torch.stack([torch.full((12, 32), len(prompt) / 10, dtype=torch.bfloat16) for prompt in prompts])


class StrictGuard:
    """Refuses a word, and clips on demand; paints a corner."""

    def __init__(self, *, paints: bool = False, refuses: bool = False) -> None:
        self.asked: list[str] = []
        self.frames: list[np.ndarray] = []
        self._paints, self._refuses = paints, refuses

    def check_prompt(self, text: str, /) -> SimpleNamespace:
        self.asked.append(text)
        return SimpleNamespace(allowed="red" not in text, reason="no red")

    def check_video(self, frames: np.ndarray, /) -> SimpleNamespace:
        self.frames.append(frames.copy())
        if self._paints:
            frames[3, :4, :4] ^= 255
        return SimpleNamespace(allowed=not self._refuses, reason="looked at", frames=frames)


class Chat:
    """Answers with one caption."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.turns: list[tuple[str, np.ndarray | None]] = []

    def reply(self, text: str, frame: np.ndarray | None, sampling: object, /) -> str:
        self.turns.append((text, frame))
        return self.answer


@pytest.fixture
def make(toy_world: Callable, toy_codec: Callable) -> Callable[..., Text2World | Video2World]:
    def pipeline(kind: type, **parts: object) -> Text2World | Video2World:
        return kind(toy_world(encoder=False), codec=toy_codec(), **parts)

    return pipeline


def test_no_text_needs_no_encoder_and_has_no_negative(make: Callable) -> None:
    encoder = Encoder()
    texts = make(Text2World, text_encoder=encoder).texts()
    assert encoder.asked == []
    assert texts.text.shape == (1, 16, 32)
    assert not texts.text.any()
    assert not texts.guided
    assert torch.equal(make(Text2World).texts("").text, texts.text)


def test_text_is_padded_and_the_model_s_negative_prompt_joins_it(make: Callable) -> None:
    encoder = Encoder()
    texts = make(Text2World, text_encoder=encoder).texts(["a ball", "", "it stops"])
    assert encoder.asked == ["a ball", "it stops", "all rests"]
    assert texts.text.shape == texts.negative.shape == (3, 16, 32)
    assert texts.text.dtype == torch.float32
    torch.testing.assert_close(texts.text[:, 0, 0], torch.tensor([0.6, 0, 0.8]), atol=0.01, rtol=0)
    assert not texts.text[:, 12:].any()
    assert texts.prompts == ("a ball", None, "it stops")
    assert texts.negative_prompt == "all rests"
    assert not make(Text2World, text_encoder=encoder).texts("a ball", negative="").negative.any()


def test_embeddings_take_the_encoder_s_place(make: Callable) -> None:
    pipeline, text, away = make(Text2World), torch.randn(5, 32), torch.randn(1, 20, 32)
    texts = pipeline.texts(embeddings=Embedding(text=text, prompt="a ball"), negative_embeddings=away)
    assert torch.equal(texts.text[0, :5], text)
    assert not texts.text[0, 5:].any()
    assert torch.equal(texts.negative, away[:, :16])
    assert texts.prompts == ("a ball",)
    assert texts.negative_prompt is None
    assert pipeline.texts(embeddings=torch.randn(3, 16, 32)).prompts == (None, None, None)
    with pytest.raises(InputError, match="2 negative embeddings are given for 1 texts"):
        pipeline.texts(embeddings=text, negative_embeddings=torch.randn(2, 3, 32))
    with pytest.raises(InputError, match="give that of one clip or more"):
        pipeline.texts(embeddings=torch.randn(0, 16, 32))


def test_prompts_of_views_stand_one_behind_another(make: Callable, toy_world: Callable, toy_codec: Callable) -> None:
    world = toy_world(encoder=False, views=2, position="sincos")
    pipeline = Text2World(world, codec=toy_codec(), text_encoder=Encoder())
    texts = pipeline.texts(["ahead", "on the left"], views=2)
    assert texts.text.shape == texts.negative.shape == (1, 32, 32)
    torch.testing.assert_close(texts.text[0, [0, 16], 0], torch.tensor([0.5, 1.1]), atol=0.01, rtol=0)
    assert texts.negative_prompt is None  # the released networks of views are guided away from no text
    assert texts.prompts == (("ahead", "on the left"),)
    assert torch.equal(pipeline.texts("ahead", views=2).text[:, :16], pipeline.texts("ahead", views=2).text[:, 16:])
    with pytest.raises(InputError, match="3 prompts are given: give one, or 2 of the views"):
        pipeline.texts(["a", "b", "c"], views=2)


def test_a_guard_judges_the_prompt_and_its_caption_and_no_negative_one(make: Callable) -> None:
    guard, encoder, chat = StrictGuard(), Encoder(), Chat("A long caption.")
    assert isinstance(guard, Guard)
    pipeline = make(Text2World, text_encoder=encoder, guard=guard, upsampler=chat)
    made = pipeline("a ball", negative="a red ball", frames=9)
    assert guard.asked == ["a ball", "A long caption."]
    assert encoder.asked == ["A long caption.", "a red ball"]
    assert made.metadata["guard"]["on"]
    assert [said["text"] for said in made.metadata["guard"]["prompts"]] == guard.asked
    assert made.metadata["clips"][0]["prompt"] == "a ball"
    assert made.metadata["clips"][0]["upsampled_prompt"] == "A long caption."
    assert made.metadata["clips"][0]["guard_on_video"] == {"allowed": True, "reason": "looked at", "changed_frames": 0}
    with pytest.raises(RefusedError, match="the guard refuses the prompt 'red': no red"):
        pipeline("red", frames=9)
    chat.answer = "All is red."
    with pytest.raises(RefusedError, match="'All is red.'"):
        pipeline("a ball", frames=9)
    assert len(guard.frames) == 1
    with pytest.raises(InputError, match="there is an upsampler and no prompt"):
        pipeline(frames=9)
    with pytest.raises(InputError, match="embeddings are given, and a prompt is to be upsampled"):
        pipeline(embeddings=torch.ones(3, 32), frames=9)
    with pytest.raises(RefusedError, match="'red'"):
        pipeline(embeddings=Embedding(text=torch.ones(3, 32), prompt="red"), frames=9)


def test_a_video_is_captioned_by_its_last_frame(make: Callable) -> None:
    chat, video = Chat("It falls."), torch.rand(2, 3, 12, 32, 48) * 2 - 1
    pipeline = make(Video2World, text_encoder=Encoder(), upsampler=chat)
    made = pipeline(video=video, condition_frames=9)
    captioned = pipeline(["a", "b"], video=video)
    assert len(chat.turns) == 4
    for row in range(2):
        for turn in (chat.turns[row], chat.turns[2 + row]):
            assert np.array_equal(turn[1], to_frames(video[row : row + 1])[-1])
        assert captioned.metadata["clips"][row]["upsampled_prompt"] == "It falls."
        assert made.metadata["clips"][row]["prompt"] is None


def test_frames_that_a_guard_changes_are_shown_as_it_has_them(make: Callable) -> None:
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    plain: Generation = make(Video2World)(video=video)
    for paints in (False, True):
        guard = StrictGuard(paints=paints)
        made = make(Video2World, guard=guard)(video=video)
        assert np.array_equal(guard.frames[0], to_frames(plain.video))
        changed = (made.video != plain.video).any(dim=1)[0]
        assert int(changed.sum()) == 16 * paints
        if paints:
            assert changed[3, :4, :4].all()
            assert np.array_equal(255 - to_frames(made.video)[3, :4, :4], guard.frames[0][3, :4, :4])
    with pytest.raises(RefusedError, match="the guard refuses the video: looked at"):
        make(Video2World, guard=StrictGuard(refuses=True))(video=video)
    cropping = StrictGuard()
    cropping.check_video = lambda frames: SimpleNamespace(allowed=True, reason="", frames=frames[1:])
    with pytest.raises(RefusedError, match="returned frames of shape"):
        Watch(cropping).video(video)

"""Pictures of every mode, orientation and state of repair."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cosmos_tokenizer.errors import InputError
from cosmos_tokenizer.images import is_image, read_image, write_image


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (19, 31, 3), dtype=np.uint8)


def test_png_is_exact_and_jpeg_near(tmp_path: Path, picture: np.ndarray) -> None:
    write_image(tmp_path / "a.png", picture)
    assert np.array_equal(read_image(tmp_path / "a.png"), picture)
    flat = np.full((32, 32, 3), (200, 30, 90), np.uint8)
    write_image(tmp_path / "a.JPG", flat)
    assert np.abs(read_image(tmp_path / "a.JPG").astype(int) - flat).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path, picture: np.ndarray) -> None:
    converted = Image.fromarray(picture).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    converted.save(path)
    expected = np.asarray(converted.convert("RGB"))
    assert np.array_equal(read_image(path), expected)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 20 * 30).reshape(20, 30).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    read = read_image(tmp_path / "deep.png")
    assert np.abs(read[..., 1] - grey / 257.0).max() <= 0.5
    assert np.array_equal(read[..., 0], read[..., 2])


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_undone(orientation: int, turns: int, tmp_path: Path, picture: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(picture, turns))


def test_bad_pictures_are_named_in_one_line(tmp_path: Path, picture: np.ndarray) -> None:
    whole = tmp_path / "whole.png"
    write_image(whole, picture)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:900])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "folder.png").mkdir()
    words = {
        "missing.png": "no such file",
        "cut.png": "truncated or damaged",
        "text.png": "not a picture",
        "empty.png": "not a picture",
        "float.tif": "floating-point",
        "folder.png": "is a folder",
    }
    for name, word in words.items():
        with pytest.raises(InputError, match=word) as caught:
            read_image(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_only_png_and_jpeg_are_written(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"\.png or \.jpg"):
        write_image(tmp_path / "a.gif", picture)


def test_names_tell_pictures_from_videos() -> None:
    assert is_image("a/B.PNG")
    assert not is_image("a.png.mp4")

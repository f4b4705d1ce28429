"""The table in memory: broken pictures, hash, parts, reading one picture."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from saga_ray.config.settings import DataSettings
from saga_ray.data import sources
from saga_ray.data.decoding import decode
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError


def load(path: Path, seed: int = 0, **settings: Any) -> ImageTable:
    return sources.load(DataSettings(source=str(path), **settings), seed)


def test_split_is_class_disjoint_and_stated(tree: Path) -> None:
    table = load(tree, seed=3, test_share=0.5, validation_share=0.5)
    assert table.split_seed == 3
    by_class = {label: set(table.split[table.labels == label]) for label in range(4)}
    assert all(len(parts) == 1 for parts in by_class.values())
    assert sorted(part for parts in by_class.values() for part in parts) == [
        "test",
        "test",
        "train",
        "validation",
    ]


def test_broken_pictures_are_skipped_and_listed_up_to_a_share(tree: Path) -> None:
    whole = (tree / "class1/0.jpg").read_bytes()
    (tree / "class1/0.jpg").write_bytes(whole[: len(whole) // 2])
    (tree / "class2/2.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"2 of 12 .*max_broken_share=0.1 .*class1/0\.jpg: cannot"):
        load(tree, max_broken_share=0.1)
    table = load(tree, max_broken_share=0.2)
    assert len(table) == 10
    assert [picture.where for picture in table.skipped] == ["class1/0.jpg", "class2/2.jpg"]
    assert "truncated" in table.skipped[0].why and "not a picture" in table.skipped[1].why
    assert table.where.count("class1/0.jpg") == 0
    for path in tree.rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="12 of 12"):
        load(tree, max_broken_share=1.0)


def test_names_that_are_not_utf8_are_broken_pictures(tree: Path) -> None:
    odd = tree / "class1" / os.fsdecode(b"caf\xe9.jpg")
    (tree / "class1/0.jpg").rename(odd)
    with pytest.raises(
        UserError, match=r"1 of 12 .*class1/caf\\xe9\.jpg: its name is not UTF-8; rename"
    ) as caught:
        load(tree)
    assert str(caught.value).isascii()
    table = load(tree, max_broken_share=0.1)
    assert [picture.where for picture in table.skipped] == [r"class1/caf\xe9.jpg"]
    odd.rename(tree / "class1/café.jpg")
    assert len(load(tree)) == 12


def test_a_class_folder_whose_name_is_not_utf8_is_refused(tree: Path) -> None:
    (tree / "class1").rename(tree / os.fsdecode(b"caf\xe9"))
    with pytest.raises(UserError, match=r"3 of 12 .*caf\\xe9/0\.jpg: its name is not UTF-8; rename"):
        load(tree)


def test_hash_follows_content_and_not_the_place(tree: Path, tmp_path: Path, blob: Any) -> None:
    first = load(tree).hash
    shutil.move(tree, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    assert load(moved).hash == first
    assert load(moved, seed=9).hash != first, "another split is another data set"
    (moved / "class0/0.jpg").write_bytes(blob(99))
    changed = load(moved).hash
    assert changed != first
    (moved / "class0").rename(moved / "class9")
    assert load(moved).hash not in (first, changed)


def test_part_renumbers_classes_and_keeps_rows_together(tree: Path) -> None:
    parts = ("test", "train", "extra", "train")
    (tree / "t.csv").write_text(
        "image,label,split,n\n"
        + "".join(
            f"class{label}/{number}.jpg,c{label},{parts[label]},{label}{number}\n"
            for number in range(3)
            for label in range(4)
        )
    )
    table = load(tree / "t.csv")
    part = table.part("train")
    assert part.classes == ["c1", "c3"] and part.hash == table.hash
    assert [part.classes[label] for label in part.labels] == ["c1", "c3"] * 3
    assert part.attributes["n"] == ["10", "30", "11", "31", "12", "32"]
    assert part.where[1] == "t.csv row 4 (class3/0.jpg)"
    assert set(part.split) == {"train"}
    assert (part.read_image(5, 20) == table.read_image(11, 20)).all()
    assert table.part("train", "extra").classes == ["c1", "c2", "c3"]
    assert len(table.part("validation")) == 0


def test_one_class_alone_cannot_be_split(tree: Path) -> None:
    for label in (1, 2, 3):
        shutil.rmtree(tree / f"class{label}")
    with pytest.raises(UserError, match="one class, 'class0'"):
        load(tree)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb(data: bytes) -> Any:
    return np.asarray(decode(data, 8)).astype(int)


def test_every_kind_of_picture_becomes_rgb() -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    assert np.abs(rgb(encoded(grey, "PNG")) - np.asarray(grey)[..., None]).max() == 0
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256)
    assert np.abs(rgb(encoded(deep, "PNG")) - np.asarray(grey)[..., None]).max() == 0
    red = Image.new("RGB", (8, 8), "red")
    assert np.abs(rgb(encoded(red.convert("CMYK"), "JPEG", quality=95)) - [255, 0, 0]).max() <= 6
    assert (rgb(encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "PNG")) == 255).all()
    assert (rgb(encoded(Image.new("LA", (8, 8), (10, 255)), "PNG")) == 10).all()
    palette = red.quantize(4)
    assert (rgb(encoded(palette, "PNG")) == [255, 0, 0]).all()
    assert (rgb(encoded(palette, "PNG", transparency=palette.getpixel((0, 0)))) == 255).all()


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (16, 8), "white")
    image.paste("black", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter: the left half is shown on top
    upright = rgb(encoded(image, "PNG", exif=exif.tobytes()))
    assert upright.shape == (16, 8, 3)
    assert (upright[:8] == 0).all() and (upright[8:] == 255).all()


def test_read_image_is_the_centred_square(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 20), "white")
    image.paste("black", (20, 0, 40, 20))
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        image.save(tmp_path / label / "x.png")
    table = load(tmp_path)
    pixels = table.read_image(0, 10)
    assert pixels.shape == (10, 10, 3) and pixels.dtype == np.uint8
    assert (pixels[:, 1:-1] == 0).all()
    assert (table.read_image(1, 20) == np.asarray(image)[:, 20:40]).all()


def test_large_jpegs_are_decoded_small_but_look_the_same(blob: Any) -> None:
    data = blob(5, 1600, 1200)
    small = decode(data, 100)
    assert small.size == (400, 300)
    full = Image.open(io.BytesIO(data)).resize((100, 75), Image.Resampling.BICUBIC)
    difference = np.asarray(small.resize((100, 75), Image.Resampling.BICUBIC)).astype(int) - np.asarray(full)
    assert np.abs(difference).max() <= 6

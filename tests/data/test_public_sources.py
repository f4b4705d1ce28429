"""Public data sets are read as released: layouts, splits, traps, and one sentence for what is wrong."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from saga_ray.cli import main
from saga_ray.config.settings import DataSettings
from saga_ray.data import sources
from saga_ray.data.batches import decode_rows
from saga_ray.data.check import check_rows
from saga_ray.data.decoding import decode
from saga_ray.data.examine import examine
from saga_ray.data.listings import differences, read_names
from saga_ray.data.rows import Rows
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.retrieval.index.entries import thumbnail
from tests.data.public_releases import (
    RELEASES,
    Told,
    aircraft,
    cars_in_parts,
    cars_whole,
    cub,
    inat2018,
    inat2021_aves,
    inshop,
    sop,
)

NAMES = sorted({name for name, _ in RELEASES})


def settings(name: str, root: Path) -> DataSettings:
    return DataSettings(source=name, root=str(root))


def read(name: str, root: Path) -> Rows:
    return sources.read(settings(name, root))


def load(name: str, root: Path) -> ImageTable:
    return sources.load(settings(name, root), seed=0)


def error(name: str, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(name, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(("name", "build"), RELEASES)
def test_a_miniature_is_read_and_split_by_the_official_rule(
    tmp_path: Path, name: str, build: Callable[[Path], Told]
) -> None:
    told = build(tmp_path)
    rows = read(name, tmp_path)
    assert rows.name == name and rows.splits is not None
    assert list(zip(rows.where, rows.labels, rows.splits, strict=True)) == told
    for image, (path, _, _) in zip(rows.images, told, strict=True):
        assert isinstance(image, str) and Path(image).is_absolute() and image.endswith(path)
        assert Path(image).is_file()
    table = load(name, tmp_path)
    assert len(table) == len(told) and not table.skipped
    assert table.differs == rows.differs and table.part("test").differs == rows.differs
    assert not set(table.part("train").classes) & set(table.part("test").classes)


@pytest.mark.parametrize(("name", "build"), RELEASES)
def test_the_check_says_how_a_miniature_differs_and_finds_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, build: Callable[[Path], Told]
) -> None:
    told = build(tmp_path)
    assert main(["data", "check", name, "--root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    count = sum(split == "train" for _, _, split in told)
    assert f"  differs: train pictures: {count} here, " in text and "in the official release\n" in text
    assert text.endswith("\nclean\n")
    assert main(["data", "check", name, "--root", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["differs"]) == (6 if name == "inshop" else 4)


@pytest.mark.parametrize("name", NAMES)
def test_a_root_is_needed_and_must_be_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"data\.source={name} needs data\.root, the folder of the {name}"):
        sources.read(DataSettings(source=name))
    assert "gone: there is no such folder" in error(name, tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        (
            "cub",
            "images.txt; classes.txt; image_class_labels.txt; attributes/image_attribute_labels.txt; "
            "attributes/attributes.txt; images/",
        ),
        ("cars", "cars_annos.mat; car_ims/"),
        (
            "aircraft",
            "data/variants.txt; data/images_variant_trainval.txt; data/images_variant_test.txt; data/images/",
        ),
        ("inat2021_aves", "train_mini.json; train_mini/"),
        ("inat2018", "Inaturalist_train_set1.txt; Inaturalist_test_set1.txt; train_val2018/"),
        ("sop", "Ebay_train.txt; Ebay_test.txt"),
        ("inshop", "Eval/list_eval_partition.txt; img/"),
    ],
)
def test_all_that_is_missing_is_said_at_once(tmp_path: Path, name: str, lacks: str) -> None:
    assert f"{name}: {tmp_path} lacks {lacks}: complete the release there" in error(name, tmp_path)


def test_cars_in_parts_lack_what_their_devkit_lacks(tmp_path: Path) -> None:
    (tmp_path / "devkit").mkdir()
    assert (
        "lacks devkit/cars_meta.mat; devkit/cars_train_annos.mat; devkit/cars_test_annos_withlabels.mat; "
        "cars_train/; cars_test/: "
    ) in error("cars", tmp_path)


def test_the_official_sizes_differ_in_nothing() -> None:
    labels = [f"c{number % 3}" for number in range(8)]
    parts = ["train" if label == "c0" else "test" for label in labels]
    assert differences(labels, parts, {"train": (3, 1), "test": (5, 2)}) == ()
    assert differences(labels, parts, {"train": (3, 2), "test": (1005, 2), "query": (1, 1)}) == (
        "train classes: 1 here, 2 in the official release",
        "test pictures: 5 here, 1,005 in the official release",
        "query pictures: 0 here, 1 in the official release",
        "query classes: 0 here, 1 in the official release",
    )


def test_a_listed_picture_that_is_not_there_is_found_by_the_check(tmp_path: Path) -> None:
    told = sop(tmp_path)
    (tmp_path / "Stanford_Online_Products" / told[0][0]).unlink()
    report = check_rows(read("sop", tmp_path), settings("sop", tmp_path), seed=0)
    assert report.counts["missing file"] == 1 and report.problems[0].where == told[0][0]


@pytest.mark.parametrize("place", ["attributes.txt", "CUB_200_2011/attributes.txt"])
def test_cub_is_read_from_its_own_folder_with_attributes_txt_anywhere(tmp_path: Path, place: str) -> None:
    told = cub(tmp_path)
    (tmp_path / "attributes.txt").rename(tmp_path / "names")
    (tmp_path / "names").rename(tmp_path / place)
    for root in (tmp_path, tmp_path / "CUB_200_2011"):
        rows = read("cub", root)
        assert rows.where == [path for path, _, _ in told]
        assert rows.attributes == {
            "has_bill_shape": ["dagger", "dagger", "curved_(up_or_down)", "curved_(up_or_down)"] + [""] * 4,
            "has_size": ["", "small_(5_-_9_in)"] + [""] * 6,
        }


def test_both_releases_of_cars_say_the_same(tmp_path: Path) -> None:
    cars_whole(tmp_path / "whole")
    cars_in_parts(tmp_path / "parts")
    whole, parts = read("cars", tmp_path / "whole"), read("cars", tmp_path / "parts")
    assert whole.splits and parts.splits
    assert Counter(zip(whole.labels, whole.splits, strict=True)) == Counter(
        zip(parts.labels, parts.splits, strict=True)
    )
    assert "Ram C/V Cargo Van Minivan 2012" in whole.labels
    assert len(set(parts.where)) == len(parts.where)
    file = "cars_test_annos_withlabels.mat"
    (tmp_path / "parts/devkit" / file).rename(tmp_path / "parts" / file)
    assert read("cars", tmp_path / "parts") == parts


def test_a_gray_car_becomes_rgb(tmp_path: Path) -> None:
    cars_whole(tmp_path)
    assert Image.open(tmp_path / "car_ims/000004.jpg").mode == "L"
    assert load("cars", tmp_path).read_image(3, 16).shape == (16, 16, 3)


def red(pixels: np.ndarray) -> np.ndarray:
    """Where a picture is as red as a banner; blotches have no more red than green."""
    return pixels[..., 0].astype(int) - pixels[..., 1] > 60


def test_the_banner_of_aircraft_is_cut_wherever_a_picture_is_decoded(tmp_path: Path) -> None:
    aircraft(tmp_path)
    rows = read("aircraft", tmp_path)
    table = load("aircraft", tmp_path)
    assert isinstance(rows.images[0], str) and rows.banner == 20
    data = Path(rows.images[0]).read_bytes()
    assert red(np.asarray(decode(data, 60)))[42:].all() and decode(data, 60).height == 60
    plain = decode(data, 60, banner=20)
    assert plain.size == (48, 40) and not red(np.asarray(plain)).any()
    assert not red(table.read_image(0, 40)).any()
    train = table.part("train")
    whole = DataSettings(image_size=40, crop_scale=1.0)
    streamed = decode_rows(train.images, range(len(train)), epoch=0, seed=0, settings=whole)
    assert streamed.shape == (4, 40, 40, 3) and not red(streamed).any()
    with_banner, without = (examine(rows.images[:1], looks=True, banner=banner)[0] for banner in (0, 20))
    assert with_banner.look and without.look and with_banner.digest == without.digest
    assert red(with_banner.look.small)[-4:].all() and not red(without.look.small).any()
    assert decode(thumbnail(table.images, 0), 160).size == (48, 40)


@pytest.mark.parametrize("size", [10, 20, 50, 200])
def test_a_banner_shrinks_with_a_picture_that_is_decoded_smaller(tmp_path: Path, size: int) -> None:
    image = Image.new("RGB", (400, 300), "green")
    image.paste("red", (0, 280, 400, 300))
    image.save(tmp_path / "large.jpg", quality=95, subsampling=0)
    data = (tmp_path / "large.jpg").read_bytes()
    with_banner, without = decode(data, size), decode(data, size, banner=20)
    assert without.width == with_banner.width
    assert without.height == int(with_banner.height * 280 / 300)
    assert not red(np.asarray(without)).any()


def test_a_picture_that_is_all_banner_is_broken(tmp_path: Path) -> None:
    aircraft(tmp_path)
    rows = read("aircraft", tmp_path)
    Image.new("RGB", (30, 20)).save(Path(str(rows.images[0])))
    report = check_rows(rows, settings("aircraft", tmp_path), seed=0)
    assert report.counts["unreadable file"] == 1 and "no higher than the banner" in report.problems[0].detail


def test_birds_are_told_by_their_class(tmp_path: Path) -> None:
    inat2021_aves(tmp_path)
    edit(tmp_path / "train_mini.json", '"class": "Reptilia"', '"class": "Aves"')
    rows = read("inat2021_aves", tmp_path)
    assert sorted(set(rows.labels))[0] == "03000_Animalia_Chordata_Reptilia_A"
    assert rows.splits and rows.splits.count("train") == 4 and rows.splits.count("test") == 6
    path = tmp_path / "train_mini.json"
    path.write_text(path.read_text().replace('"class": "Aves"', '"class": "Fish"'))
    assert "has no category of the class Aves" in error("inat2021_aves", tmp_path)


def test_smooth_aps_lists_may_lie_in_the_folder_they_come_in(tmp_path: Path) -> None:
    told = inat2018(tmp_path)
    (tmp_path / "Inat_dataset_splits").mkdir()
    for file in tmp_path.glob("Inaturalist_*.txt"):
        shutil.move(file, tmp_path / "Inat_dataset_splits")
    assert read("inat2018", tmp_path).where == [path for path, _, _ in told]


def test_the_category_of_a_product_is_its_folder(tmp_path: Path) -> None:
    sop(tmp_path)
    assert read("sop", tmp_path).attributes == {
        "category": ["bicycle"] * 2 + ["coffee_maker"] * 2 + (["bicycle"] * 2 + ["coffee_maker"] * 2)
    }


def test_in_shop_keeps_queries_and_gallery_apart(tmp_path: Path) -> None:
    told = inshop(tmp_path)
    rows = read("inshop", tmp_path)
    roles = ["", "", "query", "gallery", "query", "gallery", "", "", "gallery", "gallery", "query", "query"]
    assert rows.attributes == {"role": roles} and rows.role_column == "role"
    (tmp_path / "Img").mkdir()
    (tmp_path / "img").rename(tmp_path / "Img/img")
    assert read("inshop", tmp_path).where == [f"Img/{path}" for path, _, _ in told]
    assert load("inshop", tmp_path).part("test").roles == [role for role in roles if role]


@pytest.mark.parametrize(
    ("build", "file", "old", "new", "words"),
    [
        (cub, "CUB_200_2011/images.txt", "\n2 ", "\nonly\n2 ", "line 2: has 1 fields and not 2"),
        (cub, "CUB_200_2011/images.txt", "\n2 ", "\n1 ", "line 2: 1 001.Black"),
        (cub, "CUB_200_2011/classes.txt", "100 ", "1 ", "line 2: 1 100.Brown_Pelican repeats"),
        (cub, "CUB_200_2011/image_class_labels.txt", "\n2 1\n", "\n2 7\n", "line 2: the class '7'"),
        (cub, "CUB_200_2011/image_class_labels.txt", "\n2 1\n", "\n", "has no row for picture 2 (001.Bl"),
        (cub, "attributes.txt", "3 has_size::", "3 has_size:", "id 3: 'has_size:small_(5_-_9_in)' is no"),
        (cub, "CUB_200_2011/attributes/image_attribute_labels.txt", "1 2 1 4", "1 9 1 4", "attribute 9"),
        (cub, "CUB_200_2011/attributes/image_attribute_labels.txt", "1 2 1 4", "1 2 1 7", "line 2: 1 7 are"),
        (cub, "CUB_200_2011/attributes/image_attribute_labels.txt", "1 2 1 4", "1 2 yes 4", "line 2: yes 4"),
        (aircraft, "fgvc-aircraft-2013b/data/images_variant_test.txt", "F/A-18", "F-18", "'F-18' is not in"),
        (aircraft, "fgvc-aircraft-2013b/data/images_variant_test.txt", " F/A-18", "", "line 4: has 1 fields"),
        (inat2018, "Inaturalist_test_set1.txt", "train_val2018/Aves/", "", "line 1: '6/1f.jpg' has no two"),
        (sop, "Stanford_Online_Products/Ebay_test.txt", "5 11319 1 ", "5 ", "line 2: has 2 fields and not 4"),
        (inshop, "Eval/list_eval_partition.txt", "query\n", "probe\n", "line 5: the status 'probe' is none"),
        (inshop, "Eval/list_eval_partition.txt", "img/", "", "line 3: the picture 'WOMEN/"),
        (inshop, "Eval/list_eval_partition.txt", "12\n", "13\n", "has 12 rows, its first line says 13"),
        (inat2021_aves, "train_mini.json", '"image_id": 100', '"image_id": 99', "no picture with the id 99"),
        (inat2021_aves, "train_mini.json", '"class": "Aves", ', "", "categories 1: has no 'class'"),
        (inat2021_aves, "train_mini.json", '"images"', '"pictures"', "holds no list of images"),
        (inat2021_aves, "train_mini.json", '{"images"', '"images"', "cannot be read as JSON"),
    ],
)
def test_a_malformed_row_is_named(
    tmp_path: Path, build: Callable[[Path], Told], file: str, old: str, new: str, words: str
) -> None:
    build(tmp_path)
    edit(tmp_path / file, old, new)
    said = error(build.__name__, tmp_path)
    assert str(tmp_path) in said and Path(file).name in said and words in said


def test_a_malformed_matlab_file_is_named(tmp_path: Path) -> None:
    cars_whole(tmp_path)
    file = tmp_path / "cars_annos.mat"
    entry = np.empty((1, 1), dtype=[("relative_im_path", object), ("class", object)])
    entry[0, 0] = ("car_ims/000001.jpg", 1)
    names = np.array(["a", "b"], dtype=object)
    for content, words in (
        ({"class_names": names}, "cars_annos.mat: holds no 'annotations'"),
        ({"annotations": names, "class_names": names}, "annotations have no field 'relative_im_path'"),
        ({"annotations": entry, "class_names": np.array(["a", "a"], dtype=object)}, "holds a name twice"),
    ):
        savemat(file, content)
        assert words in error("cars", tmp_path)
    for label, words in ((3, "annotation 1: the class 3 is none of the 2"), ("x", "is no whole number")):
        entry[0, 0] = ("car_ims/000001.jpg", label)
        savemat(file, {"annotations": entry, "class_names": names})
        assert words in error("cars", tmp_path)
    file.write_bytes(b"no matlab")
    assert "cars_annos.mat: cannot be read as a MATLAB file" in error("cars", tmp_path)


def test_a_list_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"1 \xff\xfe\n")
    with pytest.raises(UserError, match=r"list\.txt: cannot be read as a list"):
        read_names(tmp_path / "list.txt")


def test_empty_lines_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\r\n7 a b \r\n\r\n8\tc\r\n")
    assert read_names(tmp_path / "list.txt") == {"7": "a b", "8": "c"}

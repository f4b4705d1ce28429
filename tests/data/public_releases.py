"""Miniatures of the public data sets' official releases, in their layouts, with their traps.

Each function fills a folder and returns what a second, naive reading of the release says:
(picture's path in the release, label, split) of each picture, in the order of its lists.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

Told = list[tuple[str, str, str]]


def picture(path: Path, *, mode: str = "RGB", banner: int = 0) -> None:
    """Blotches that depend on the path's last two parts, above a red banner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32("/".join(path.parts[-2:]).encode())
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    # no red, so that a banner's is noticed
    coarse[..., 0] = coarse[..., 1]
    whole = Image.new("RGB", (48, 40 + banner), "red")
    whole.paste(Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC))
    whole.convert(mode).save(path, "JPEG", quality=95, subsampling=0)


def write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def cub(root: Path) -> Told:
    """Classes 1, 100, 101 and 200 with 2 pictures each; attributes.txt at the archive's top."""
    base = root / "CUB_200_2011"
    classes = {1: "001.Black_footed_Albatross", 100: "100.Brown_Pelican", 101: "101.White_Pelican"}
    classes[200] = "200.Common_Yellowthroat"
    listed = [(number, f"{name}/{name[4:]}_{n}.jpg") for number, name in classes.items() for n in (1, 2)]
    write(base / "classes.txt", (f"{number} {name}" for number, name in classes.items()))
    write(base / "images.txt", (f"{image} {path}" for image, (_, path) in enumerate(listed, 1)))
    write(
        base / "image_class_labels.txt", (f"{image} {number}" for image, (number, _) in enumerate(listed, 1))
    )
    for _, path in listed:
        picture(base / "images" / path)
    (base / "images/._001.Black_footed_Albatross").write_bytes(b"\x00\x05\x16\x07")
    (base / "images/001.Black_footed_Albatross/._Black_footed_Albatross_1.jpg").write_bytes(b"\x00\x05")
    (base / "._images.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    names = ["has_bill_shape::curved_(up_or_down)", "has_bill_shape::dagger", "has_size::small_(5_-_9_in)"]
    write(root / "attributes.txt", (f"{key} {name}" for key, name in enumerate(names, 1)))
    marks = {
        1: ["1 0 3 2.5", "2 1 4 2.5", "3 1 1 2.5"],  # dagger; the size was not visible
        2: ["1 1 3 0.5", "2 1 4 0.5", "3 1 2 0.5"],  # the surer of two; a guess is better than nothing
        3: ["1 1 3 0.5", "2 1 3 0.5", "3 0 4 0.5"],  # equally sure: the first; marked as absent
        4: ["2 0 3 0 0 1.509", "1 1 4 0 5 2.25"],  # extra fields; not in order
    }
    rows = [f"{image} {mark}" for image in range(1, 9) for mark in marks.get(image, ["1 0 4 1.0"])]
    write(base / "attributes/image_attribute_labels.txt", rows)
    return [
        (f"images/{path}", classes[number], "train" if number <= 100 else "test") for number, path in listed
    ]


def _names_of_cars() -> Any:
    names = [f"Make {number} Sedan 2012" for number in range(1, 197)]
    names[1] = "Ram C/V Cargo Van Minivan 2012"
    return np.array(names, dtype=object)


CARS = [1, 1, 2, 2, 98, 98, 99, 99, 196, 196]
"""Classes of the ten pictures; every other one is in the official test part."""


def _structs(entries: list[dict[str, Any]]) -> Any:
    found = np.empty((1, len(entries)), dtype=[(key, object) for key in entries[0]])
    for place, entry in enumerate(entries):
        found[0, place] = tuple(entry.values())
    return found


def _side(number: int) -> str:
    return "train" if number <= 98 else "test"


def cars_whole(root: Path) -> Told:
    """The release with one list; one picture is gray."""
    names = _names_of_cars()
    paths = [f"car_ims/{place:06d}.jpg" for place in range(1, len(CARS) + 1)]
    for place, path in enumerate(paths):
        picture(root / path, mode="L" if place == 3 else "RGB")
    entries = [
        {"relative_im_path": path, "bbox_x1": 1, "class": np.uint8(number), "test": place % 2}
        for place, (path, number) in enumerate(zip(paths, CARS, strict=True))
    ]
    savemat(root / "cars_annos.mat", {"annotations": _structs(entries), "class_names": names})
    return [(path, names[number - 1], _side(number)) for path, number in zip(paths, CARS, strict=True)]


def cars_in_parts(root: Path) -> Told:
    """The release with a training and a test part, whose file names repeat."""
    names = _names_of_cars()
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit/cars_meta.mat", {"class_names": names})
    told = []
    for first, folder, file in (
        (0, "cars_train", "cars_train_annos.mat"),
        (1, "cars_test", "cars_test_annos_withlabels.mat"),
    ):
        entries = [
            {"bbox_x1": 1, "class": np.uint8(number), "fname": f"{place:05d}.jpg"}
            for place, number in enumerate(CARS[first::2], 1)
        ]
        savemat(root / "devkit" / file, {"annotations": _structs(entries)})
        for entry in entries:
            picture(root / folder / entry["fname"], mode="L" if entry["class"] == 2 else "RGB")
            told.append((f"{folder}/{entry['fname']}", names[entry["class"] - 1], _side(int(entry["class"]))))
    return told


def aircraft(root: Path) -> Told:
    """4 variants, whose order is not the alphabet's, with 2 pictures each, one in each list."""
    base = root / "fgvc-aircraft-2013b/data"
    variants = ["F/A-18", "Cessna 172", "747-400", "Challenger 600"]
    write(base / "variants.txt", variants)
    told = []
    for file, first in (("trainval", 34309), ("test", 1000)):
        listed = [(f"{first + place:07d}", variant) for place, variant in enumerate(reversed(variants))]
        write(base / f"images_variant_{file}.txt", (f"{name} {variant}" for name, variant in listed))
        for name, variant in listed:
            picture(base / f"images/{name}.jpg", banner=20)
            told.append((f"data/images/{name}.jpg", variant, "train" if variant in variants[:2] else "test"))
    return told


def inat2021_aves(root: Path) -> Told:
    """4 birds, 1 turtle and 1 mollusc that is called Aves, with 2 pictures each."""
    kinds = [
        ("Birds", "Aves", "03111_Animalia_Chordata_Aves_B"),
        ("Reptiles", "Reptilia", "03000_Animalia_Chordata_Reptilia_A"),
        ("Birds", "Aves", "03999_Animalia_Chordata_Aves_D"),
        ("Mollusks", "Gastropoda", "01000_Animalia_Mollusca_Aves"),
        ("Birds", "Aves", "03110_Animalia_Chordata_Aves_A"),
        ("Birds", "Aves", "03500_Animalia_Chordata_Aves_C"),
    ]
    categories = [
        {"id": key, "supercategory": supercategory, "class": name, "image_dir_name": directory}
        for key, (supercategory, name, directory) in enumerate(kinds)
    ]
    images, annotations, told = [], [], []
    train = {directory for _, _, directory in kinds if directory[:5] in ("03110", "03111")}
    for key, (_, name, directory) in enumerate(kinds):
        for n in (1, 2):
            path = f"train_mini/{directory}/{n}.jpg"
            picture(root / path)
            images.append({"id": 100 + len(images), "file_name": path, "width": 48, "height": 40})
            annotations.append({"id": len(images), "image_id": images[-1]["id"], "category_id": key})
            if name == "Aves":
                told.append((path, directory, "train" if directory in train else "test"))
    whole = {"images": images[::-1], "annotations": annotations, "categories": categories}
    (root / "train_mini.json").write_text(json.dumps(whole))
    return told


def inat2018(root: Path) -> Told:
    """2 training and 1 test species; two groups share the number 5."""
    told = []
    for split, groups in (("train", ("Aves/5", "Plantae/5")), ("test", ("Aves/6",))):
        paths = [f"train_val2018/{group}/{n}f.jpg" for group in groups for n in (1, 2)]
        write(root / f"Inaturalist_{split}_set1.txt", paths)
        for path in paths:
            picture(root / path)
            told.append((path, "/".join(path.split("/")[1:3]), split))
    return told


def sop(root: Path) -> Told:
    """2 training and 2 test classes."""
    base = root / "Stanford_Online_Products"
    told, image = [], 0
    for split, offers in (("train", (1, 2)), ("test", (11319, 11320))):
        lines = ["image_id class_id super_class_id path"]
        for offer in offers:
            for n in (0, 1):
                image += 1
                path = f"{'bicycle' if offer % 2 else 'coffee_maker'}_final/{offer}_{n}.JPG"
                lines.append(f"{image} {offer} {2 - offer % 2} {path}")
                picture(base / path)
                told.append((path, str(offer), split))
        write(base / f"Ebay_{split}.txt", lines)
    return told


def inshop(root: Path) -> Told:
    """2 training items; 2 others with 2 queries and 2 gallery pictures each; aligned columns."""
    told, lines = [], []
    for item, statuses in (
        ("id_00000001", ("train", "train")),
        ("id_00000002", ("query", "gallery", "query", "gallery")),
        ("id_00000003", ("train", "train")),
        ("id_00000004", ("gallery", "gallery", "query", "query")),
    ):
        for n, status in enumerate(statuses, 1):
            path = f"img/WOMEN/Tees_Tanks/{item}/02_{n}_front.jpg"
            picture(root / f"img/WOMEN/Tees_Tanks/{item}/02_{n}_front.jpg")
            lines.append(f"{path:<60}{item:<14}{status}")
            told.append((path, item, "train" if status == "train" else "test"))
    write(
        root / "Eval/list_eval_partition.txt",
        [str(len(lines)), "image_name item_id evaluation_status", *lines],
    )
    return told


RELEASES: list[tuple[str, Callable[[Path], Told]]] = [
    ("cub", cub),
    ("cars", cars_whole),
    ("cars", cars_in_parts),
    ("aircraft", aircraft),
    ("inat2021_aves", inat2021_aves),
    ("inat2018", inat2018),
    ("sop", sop),
    ("inshop", inshop),
]

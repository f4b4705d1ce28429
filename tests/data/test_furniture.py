"""The furniture set: the parts of its build that need no renderer, and the files that ship."""

from __future__ import annotations

import colorsys
import io
import json
import zipfile
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from saga_ray.config.settings import DataSettings
from saga_ray.data import furniture, sources
from saga_ray.data.furniture.attributes import surface
from saga_ray.data.furniture.catalogue import (
    IDENTITY,
    Item,
    parse_catalogue,
    parse_properties,
    slug,
    unique_labels,
)
from saga_ray.data.furniture.colours import COLOURS, PAINTS, bare_shade, main_and_accent, name_pixels
from saga_ray.data.furniture.kinds import kind_and_use
from saga_ray.data.furniture.looks import Backdrop, MaterialSeen, View
from saga_ray.data.furniture.mesh import read_mesh
from saga_ray.data.furniture.repaint import VIEWS_A_COLOUR, choose_paints, paintable
from saga_ray.data.furniture.splits import assign_splits, split_of, unit_hash
from saga_ray.data.furniture.triplets import attribute_triplets
from saga_ray.data.furniture.views import VIEWS, plan_views, seen_from

MIB = 1 << 20
CATALOGUE = rb"""
# a comment
id=SweetHome3D#Test
id#1=Test#woodenChair2
name#1=Chaise Fran\u00e7aise
tags#1=Seat, Outdoor
category#1=Living room
model#1=/test/woodenChair2/woodenChair2.obj
width#1=40.5
depth#1=50
height#1=90
movable#1=true
doorOrWindow#1=false
modelRotation#1=0 0 -1 0 1 0 1 0 0
creator#1=Jos\u00e9
id#2=Test#sofa
name#2=Sofa
tags#2=
category#2=Office
model#2=/test/sofa/sofa.obj
width#2=180
depth#2=80
height#2=70
movable#2=false
doorOrWindow#2=false
elevation#2=42.0
creator#2=Anna
"""


def an_item(**changes: Any) -> Item:
    facts: dict[str, Any] = {
        "label": "chair", "library": "Scopia", "identity": "chair1", "name": "Chair", "tags": (),
        "category": "Living room", "width": 50.0, "depth": 50.0, "height": 90.0, "elevation": 0.0,
        "movable": True, "door_or_window": False, "creator": "Scopia", "model": "scopia/chair1/chair1.obj",
        "rotation": IDENTITY,
    }  # fmt: skip
    return Item(**{**facts, **changes})


def rows_of(path: Any, columns: list[str]) -> list[dict[str, Any]]:
    return pq.read_table(path, columns=columns).to_pylist()


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    columns = ["id", "label", "split", "view", *furniture.ATTRIBUTES, "creator", "licence", "variants"]
    return rows_of(furniture.PARQUET, columns)


@pytest.fixture(scope="module")
def models(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["view"] == 0]


def test_properties_are_latin_1_with_unicode_escapes_and_continued_lines() -> None:
    data = b"a=caf\xe9 \\u20ac10\n! note\n  b = one \\\n   two\n#c=3\nd=C\\:\\\\x\n"
    assert parse_properties(data) == {"a": "café €10", "b": "one two", "d": "C:\\x"}


def test_catalogue_keeps_the_facts_of_each_model() -> None:
    chair, sofa = parse_catalogue(CATALOGUE, "Scopia")
    assert (chair.name, chair.creator, chair.tags) == ("Chaise Française", "José", ("Seat", "Outdoor"))
    assert (chair.width, chair.depth, chair.height) == (40.5, 50, 90)
    assert chair.rotation == (0, 0, -1, 0, 1, 0, 1, 0, 0)
    assert (sofa.rotation, sofa.elevation, sofa.tags, sofa.movable) == (IDENTITY, 42, (), False)


def test_labels_stay_short_until_two_models_share_them() -> None:
    twins = [
        an_item(identity="chair1"),
        an_item(identity="chair1", library="KatorLegaz"),
        an_item(identity="thonet"),
    ]
    assert [item.label for item in unique_labels(twins)] == [
        "chair1-scopia",
        "chair1-kator-legaz",
        "chair-thonet",
    ]
    assert slug("smallTable 16:9") == "small-table-16-9"


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0.02, 0.02, 0.02), "black"), ((0.5, 0.5, 0.5), "grey"), ((0.97, 0.97, 0.96), "white"),
        ((0.85, 0.78, 0.65), "beige"), ((0.40, 0.25, 0.13), "brown"), ((0.80, 0.05, 0.05), "red"),
        ((0.95, 0.5, 0.05), "orange"), ((0.95, 0.85, 0.1), "yellow"), ((0.1, 0.5, 0.15), "green"),
        ((0.1, 0.2, 0.7), "blue"), ((0.45, 0.1, 0.6), "purple"), ((0.95, 0.6, 0.7), "red"),
    ],
)  # fmt: skip
def test_everyday_colours_get_their_everyday_names(rgb: tuple[float, float, float], name: str) -> None:
    assert COLOURS[int(name_pixels(np.array([rgb]))[0])] == name


@given(st.floats(0, 1), st.floats(0, 0.02), st.floats(0, 1))
def test_pale_pixels_are_never_named_by_a_hue(hue: float, saturation: float, value: float) -> None:
    name = COLOURS[int(name_pixels(np.array([colorsys.hsv_to_rgb(hue, saturation, value)]))[0])]
    assert name in {"black", "grey", "white"}


def test_each_paint_looks_like_its_name() -> None:
    assert [COLOURS[int(name_pixels(np.array([bare_shade(rgb)]))[0])] for rgb in PAINTS.values()] == list(
        PAINTS
    )


def test_accent_needs_a_visible_share() -> None:
    shares = np.zeros(len(COLOURS))
    shares[COLOURS.index("red")], shares[COLOURS.index("blue")] = 0.95, 0.05
    assert main_and_accent(shares) == ("red", "none")
    shares[COLOURS.index("blue")] = 0.3
    assert main_and_accent(shares) == ("red", "blue")


def test_particular_rules_win_over_general_ones() -> None:
    assert kind_and_use("table lamp") == ("lamp", "lighting")
    assert kind_and_use("bar table") == ("table", "eating")
    assert kind_and_use("indoor plant") == ("plant", "decorating")
    with pytest.raises(KeyError):
        kind_and_use("quantum flange")


def material(share: float, textured: bool = False, opacity: float = 1.0, grey: float = 0.5) -> MaterialSeen:
    return MaterialSeen(share, textured, opacity, 0.0, (grey, grey, grey))


def test_surface_and_paintable_parts_follow_what_is_seen() -> None:
    assert surface([material(0.9), material(0.1)]) == "plain"
    assert surface([material(0.5, textured=True), material(0.5)]) == "part-patterned"
    assert surface([material(0.7), material(0.3, opacity=0.3)]) == "clear"
    # Two parts of one colour are painted together; textured and transparent parts never are.
    parts = [
        material(0.2, grey=0.1),
        material(0.25),
        material(0.2),
        material(0.2, True),
        material(0.15, opacity=0.2),
    ]
    assert paintable(parts) == [1, 2]
    assert paintable([material(0.2), material(0.8, textured=True)]) == []


@given(st.text(min_size=1, max_size=20), st.sampled_from(list(PAINTS)))
def test_paints_differ_from_what_the_model_shows(path: str, main: str) -> None:
    chosen = choose_paints(path, bare_shade(PAINTS["red"]), main)
    assert len(set(chosen)) == 2 and not {"red", main} & set(chosen)


def test_flat_things_are_seen_from_the_front_or_from_above() -> None:
    door = an_item(category="Doors and windows", depth=10.0, height=200.0)
    rug = an_item(name="Rug", label="rug", height=1.0)
    assert (seen_from(door), seen_from(rug), seen_from(an_item())) == ("front", "above", "around")
    assert all(min(view.azimuth, 360 - view.azimuth) <= 65 for view in plan_views(door))
    assert all(view.elevation >= 35 for view in plan_views(rug))
    assert len(plan_views(door)) == VIEWS and plan_views(door) == plan_views(door)


@given(st.text(min_size=1, max_size=20))
def test_models_stay_in_the_frame_and_views_differ_in_room_and_framing(model: str) -> None:
    views = plan_views(an_item(model=model))
    for view in views:
        assert max(map(abs, view.shift)) <= (1 - view.fill) / 2 + 1e-3
        assert 0.4 <= view.backdrop.horizon < 1 and max(view.tint) == 1
    assert len({view.backdrop for view in views}) > 4 and len({view.shift for view in views}) == VIEWS
    assert all(view.backdrop.horizon == 1 for view in plan_views(an_item(model=model, height=1.0)))


OBJ = """mtllib Sign.mtl
v -1 -1 0
v 1 -1 0
v 1 1 0
v -1 1 0
v 0 -0.5 0.5
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl sign
f 1/1 2/2 3/3 4/4
usemtl unknown
f 1//1 2//1 5//1
"""
MTL = "newmtl sign\nKd 0 0 0\nd 1.0\nmap_Kd C:/artist/pictures/Flag.PNG\n"


@pytest.fixture
def sign() -> zipfile.ZipFile:
    """A square facing the front: the upper half of its texture is green, the lower half blue."""
    flag, stream, archive = Image.new("RGB", (8, 8), (0, 200, 0)), io.BytesIO(), io.BytesIO()
    flag.paste((0, 0, 220), (0, 4, 8, 8))
    flag.save(stream, "PNG")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("sign/sign.obj", OBJ)
        file.writestr("sign/sign.mtl", MTL)
        file.writestr("sign/flag.png", stream.getvalue())
    return zipfile.ZipFile(archive)


def test_meshes_find_materials_and_textures_whatever_their_case_and_path(sign: zipfile.ZipFile) -> None:
    mesh = read_mesh(sign, "sign/sign.obj", IDENTITY)
    painted, plain = mesh.parts
    assert mesh.missing == [] and mesh.polygons == 2
    assert painted.material.texture is not None and painted.material.texture.size == (8, 8)
    assert painted.uv_V2 is not None and painted.uv_V2.shape == (4, 2)
    # A material that no file describes is plain; an index into normals that are not there is none.
    assert plain.material.texture is None and plain.uv_V2 is None and plain.normals_V3 is None
    turned = read_mesh(sign, "sign/sign.obj", (1, 0, 0, 0, 0, 1, 0, -1, 0))
    assert np.ptp(turned.points_V3, axis=0).tolist() == [2, 0.5, 2]


def test_a_texture_is_drawn_upright_and_seen_from_the_right_side(sign: zipfile.ZipFile) -> None:
    pytest.importorskip("vtkmodules", reason="only the build needs VTK")
    from saga_ray.data.furniture.render import Studio

    studio = Studio(size=32)
    studio.show(read_mesh(sign, "sign/sign.obj", IDENTITY), (2.0, 2.0, 0.5))
    front = studio.picture(View(azimuth=0, elevation=0), lit=False).object_HW4
    assert [COLOURS[i] for i in name_pixels(front[[6, 16 + 2], [16, 4], :3] / 255)] == ["green", "blue"]
    assert front[16, 4, 3] == 255 and front[0, 0, 3] == 0
    room = View(
        0, 0, fill=0.5, shift=(0.2, -0.1), tint=(1, 1, 0.5), backdrop=Backdrop((255, 0, 0), (0, 0, 200), 0.5)
    )
    picture = studio.picture(room)
    assert picture.rgb_HW3[0, 0].tolist() == [255, 0, 0] and picture.rgb_HW3[-1, 0].tolist() == [0, 0, 100]
    covered = np.argwhere(picture.object_HW4[..., 3] > 128)
    assert covered.mean(0) == pytest.approx([15.5 + 0.1 * 32, 15.5 + 0.2 * 32], abs=1.0)
    side = studio.picture(View(azimuth=90, elevation=0)).object_HW4
    assert side[..., 3].mean() < 0.5 * front[..., 3].mean()
    shares = [seen.share for seen in studio.materials_seen([View(azimuth=0, elevation=0)])]
    assert sum(shares) == pytest.approx(1) and shares[0] > 0.7


def test_splits_depend_on_the_path_alone_and_keep_variants_together() -> None:
    # Fixed values: a change here would move models between training and test.
    letters = "".join(split_of(f"Scopia/model{i}")[:2] for i in range(12))
    assert letters == "tetetetrteteextetetrexte"
    paths = [f"library/{i}" for i in range(200)]
    assert assign_splits(paths, list(range(200))) == [split_of(path) for path in paths]
    assert len(set(assign_splits(paths[:50], [0] * 50))) == 1
    assert all(0 <= unit_hash(path) < 1 for path in paths)


def test_no_model_and_no_variant_is_in_two_splits(rows: list[dict[str, Any]]) -> None:
    for column in ("label", "variants"):
        splits = defaultdict(set)
        for row in rows:
            splits[row[column]].add(row["split"])
        assert all(len(found) == 1 for found in splits.values())


def test_splits_have_their_sizes_and_every_model_its_views(rows: list[dict[str, Any]]) -> None:
    count = Counter(row["split"] for row in rows if row["view"] == 0)
    assert count.total() == 795
    for name, wanted in {"test": 400, "validation": 60, "train": 140, "extra": 200}.items():
        assert abs(count[name] - wanted) <= 15
    assert set(Counter(row["label"] for row in rows).values()) == {VIEWS}
    assert len({row["id"] for row in rows}) == len(rows)


def test_each_attribute_has_few_values_and_none_dominates(models: list[dict[str, Any]]) -> None:
    for column in furniture.ATTRIBUTES:
        count = Counter(model[column] for model in models)
        assert 5 <= len(count) <= 25, column
        assert max(count.values()) < 0.5 * len(models), column


def test_pictures_are_small_jpegs_of_one_size() -> None:
    for path in (furniture.PARQUET, furniture.COMPOSED):
        file = pq.ParquetFile(path)
        assert file.metadata.row_group(0).num_rows <= 512
        images = file.read_row_group(file.num_row_groups - 1, columns=["image"])["image"].to_pylist()
        for data in images[:40]:
            with Image.open(io.BytesIO(data)) as picture:
                assert (picture.format, picture.size, picture.mode) == ("JPEG", (112, 112), "RGB")


def test_attribution_names_every_model_and_artist(models: list[dict[str, Any]]) -> None:
    text = furniture.PARQUET.with_name("ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "not photographs" in text
    for model in models:
        assert f"(`{model['label']}`)" in text and f"## {model['creator']}\n" in text
    assert {model["licence"] for model in models} == {"CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-US"}


def test_everything_that_ships_stays_small() -> None:
    folder = furniture.PARQUET.parent
    assert sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) <= 23 * MIB


def test_repainted_pictures_belong_to_their_models(rows: list[dict[str, Any]]) -> None:
    splits = {row["label"]: row["split"] for row in rows}
    main = {row["label"]: row["colour"] for row in rows}
    repainted = rows_of(furniture.COMPOSED, ["id", "label", "split", "view", "colour"])
    assert len({row["id"] for row in repainted}) == len(repainted)
    for row in repainted:
        assert row["split"] == splits[row["label"]]
        assert row["colour"] in PAINTS and row["colour"] != main[row["label"]]
        assert row["view"] in VIEWS_A_COLOUR


def test_triplets_stay_in_their_split_and_point_at_pictures(rows: list[dict[str, Any]]) -> None:
    split = {row["id"]: row["split"] for row in rows}
    split |= {row["id"]: row["split"] for row in rows_of(furniture.COMPOSED, ["id", "split"])}
    triplets = [json.loads(line) for line in furniture.TRIPLETS.read_text(encoding="utf-8").splitlines()]
    assert {triplet["kind"] for triplet in triplets} == {"recolour", "attribute"}
    for triplet in triplets:
        assert triplet["target"] and triplet["reference"] not in triplet["target"]
        assert {split[i] for i in (triplet["reference"], *triplet["target"])} == {triplet["split"]}
        assert all(i.split("/")[0] == triplet["target_label"] for i in triplet["target"])
        same_model = triplet["reference"].split("/")[0] == triplet["target_label"]
        assert same_model == (triplet["kind"] == "recolour")


def a_row(label: str, **changes: Any) -> dict[str, Any]:
    facts = {
        "id": f"{label}/0", "label": label, "split": "test", "view": 0, "kind": "lamp", "use": "lighting",
        "colour": "white", "accent": "none", "surface": "plain", "width": 30.0, "depth": 20.0,
        "height_cm": 50.0, "tags": "",
    }  # fmt: skip
    return {**facts, **changes}


def test_attribute_triplets_ask_only_for_what_one_model_alone_fits() -> None:
    low, tall, green = a_row("low"), a_row("tall", height_cm=90.0), a_row("green", colour="green")
    asked = {
        t["instruction"]: t["target_label"]
        for t in attribute_triplets([low, tall, green], [])
        if "low/" in t["reference"]
    }
    assert asked == {"another lamp, but taller": "tall", "another lamp, but in green": "green"}
    # A second model that is a little taller makes "taller" a matter of opinion: no such triplet.
    doubtful = [low, tall, a_row("between", height_cm=60.0)]
    assert not [t for t in attribute_triplets(doubtful, []) if "low/" in t["reference"]]
    # A repainted model is in the gallery too.
    paint = {"id": "tall/green/1", "label": "tall", "split": "test", "view": 1, "colour": "green"}
    again = [
        t
        for t in attribute_triplets([low, tall, green], [paint])
        if t["instruction"] == "another lamp, but in green"
    ]
    assert not [t for t in again if "low/" in t["reference"]]


def test_repainted_models_are_further_extra_classes_with_their_own_colour() -> None:
    plain, with_painted = (sources.read(DataSettings(source=f"furniture{end}")) for end in ("", "_repainted"))
    count = len(plain.labels)
    assert with_painted.labels[:count] == plain.labels and with_painted.images[:count] == plain.images
    assert plain.splits is not None and with_painted.splits is not None
    assert with_painted.splits[:count] == plain.splits and set(with_painted.splits[count:]) == {"extra"}
    assert len(set(with_painted.labels[count:])) == 294 and len(with_painted.labels) == count + 588
    for row in range(count, len(with_painted.labels)):
        model, colour = with_painted.labels[row].split("/")
        first = plain.labels.index(model)
        assert plain.splits[first] == "extra" and plain.attributes["colour"][first] != colour
        for name in furniture.ATTRIBUTES:
            expected = colour if name == "colour" else plain.attributes[name][first]
            assert with_painted.attributes[name][row] == expected

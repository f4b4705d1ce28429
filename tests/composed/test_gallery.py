"""Embeddings of a gallery: as the embedder gives them, each picture once, kept while the stream runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from saga_ray.composed.benchmarks import Picture, load
from saga_ray.composed.cache import ASIDE, STALE_S, Cache
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.gallery import Embedded, embed_pictures
from saga_ray.composed.identity import embedder_hash, find_embedder
from saga_ray.composed.pictures import picture_keys
from saga_ray.config.settings import EvaluationSettings
from saga_ray.data.decoding import centre_square
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from tests.composed.small import Tiny, noise, pictures

SETTINGS = EvaluationSettings(batch_size=2)
ALL = 7
TINY = Tiny().eval()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setattr("saga_ray.composed.gallery.PART", 2)
    return Cache("some embedder", Tiny.width, root=tmp_path / "cache")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many pictures each call of the embedder was given."""
    counts: list[int] = []
    plain = TINY.forward

    def counted(images_BHWC: torch.Tensor) -> torch.Tensor:
        counts.append(len(images_BHWC))
        return plain(images_BHWC)

    monkeypatch.setattr(TINY, "forward", counted)
    yield counts


def run(wanted: Sequence[Picture], cache: Cache | None = None) -> Embedded:
    return embed_pictures(wanted, TINY, SETTINGS, cache=cache)


def of(embedded: Embedded) -> NDArray[np.float32]:
    return embedded.z_UE[embedded.row_M]


def directly(wanted: Sequence[Picture]) -> NDArray[np.float32]:
    """One picture at a time, without stream or cache."""
    size = TINY.image_size
    with torch.no_grad():
        parts = [TINY(torch.tensor(centre_square(load(each, size), size))[None]) for each in wanted]
    return torch.cat(parts).numpy()


def test_embeddings_are_the_embedder_s_in_order_and_each_picture_is_embedded_once(
    tmp_path: Path, seen: list[int], cache: Cache
) -> None:
    wanted = pictures(tmp_path, ALL)
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(wanted[2].path).read_bytes())
    wanted.insert(1, Picture("copy", str(copy)))
    first = run(wanted, cache)
    assert (sum(seen), first.computed, len(first.z_UE), first.z_UE.dtype) == (ALL, ALL, ALL, np.float32)
    assert of(first)[1].tolist() == of(first)[3].tolist()
    np.testing.assert_allclose(of(first), directly(wanted), atol=2e-6)
    seen.clear()
    again = run(list(reversed(wanted)), cache)
    assert (seen, again.computed) == ([], 0)
    assert np.array_equal(of(again), of(first)[::-1])
    assert np.array_equal(of(run(wanted)), of(first))  # no cache, the same batches


def test_a_changed_file_is_another_picture(tmp_path: Path, seen: list[int], cache: Cache) -> None:
    wanted = pictures(tmp_path, 3)
    before = of(run(wanted, cache))
    seen.clear()
    noise(Path(wanted[1].path), 99)
    after = of(run(wanted, cache))
    assert sum(seen) == 1
    assert np.array_equal(after[[0, 2]], before[[0, 2]]) and not np.allclose(after[1], before[1], atol=1e-3)


def test_two_boxes_of_one_file_are_two_pictures(tmp_path: Path, seen: list[int], cache: Cache) -> None:
    path = str(noise(tmp_path / "a.png", 0))
    boxes = [None, (0.0, 0.0, 10.0, 10.0), (30.0, 20.0, 10.0, 10.0), (0, 0, 10, 10)]
    wanted = [Picture(str(n), path, box) for n, box in enumerate(boxes)]
    embedded = run(wanted, cache)
    assert len(embedded.z_UE) == 3 and embedded.row_M.tolist() == [0, 1, 2, 1]
    np.testing.assert_allclose(of(embedded), directly(wanted), atol=2e-6)


def test_what_the_prompt_names_makes_another_embedding(tmp_path: Path, cache: Cache) -> None:
    path = str(noise(tmp_path / "a.png", 0))
    wanted = [Picture(thing, path, thing=thing) for thing in ("", "dress", "shirt")]
    embedder = Embedder(supervisors.load("furniture-pocket"))
    store = Cache("pocket", embedder.size, root=cache.folder.parent)
    embedded = embed_pictures(wanted, embedder, SETTINGS, cache=store)
    assert embedded.row_M.tolist() == [0, 1, 2]
    assert np.linalg.norm(of(embedded)[0] - of(embedded)[1]) > 1e-3


def test_another_embedder_or_size_misses(tmp_path: Path, seen: list[int], cache: Cache) -> None:
    wanted = pictures(tmp_path, 2)
    run(wanted, cache)
    others = [
        Cache("another", cache.size, root=cache.folder.parent),
        Cache("some embedder", 8, root=cache.folder.parent),
    ]
    assert len({cache.folder, *(other.folder for other in others)}) == 3
    seen.clear()
    run(wanted, others[0])
    assert sum(seen) == 2
    TINY.size = 8
    try:
        short = run(wanted, others[1])
    finally:
        TINY.size = TINY.width
    assert short.z_UE.shape == (2, 8) and sum(seen) == 4
    np.testing.assert_allclose(np.linalg.norm(short.z_UE, axis=1), 1.0, rtol=1e-5)


def test_a_run_that_broke_goes_on_where_it_was(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = pictures(tmp_path, ALL)
    plain, calls = TINY.forward, []

    def breaks(images_BHWC: torch.Tensor) -> torch.Tensor:
        calls.append(len(images_BHWC))
        if len(calls) == 3:
            raise MemoryError("out of memory")
        return plain(images_BHWC)

    monkeypatch.setattr(TINY, "forward", breaks)
    with pytest.raises(MemoryError):
        run(wanted, cache)
    assert [file.suffix for file in cache.folder.iterdir()] == [".safetensors"] * 2
    resumed = run(wanted, cache)
    assert (resumed.computed, calls) == (ALL - 4, [2, 2, 2, 2, 1])
    np.testing.assert_allclose(of(resumed), directly(wanted), atol=2e-6)


def test_broken_half_written_and_foreign_parts_are_not_read(
    tmp_path: Path, seen: list[int], cache: Cache
) -> None:
    wanted = pictures(tmp_path, ALL)
    whole = of(run(wanted, cache))
    parts = sorted(cache.folder.iterdir())
    assert len(parts) == 4
    parts[0].write_bytes(parts[0].read_bytes()[:-5])
    damaged = bytearray(parts[1].read_bytes())
    damaged[-3] ^= 64
    parts[1].write_bytes(bytes(damaged))
    content = load_file(parts[2])
    save_file({"key": content["key"], "z": content["z"] + 1}, parts[2], metadata={"cache": "another"})
    parts[3].rename(parts[3].with_suffix(".safetensors.77.aside"))
    (cache.folder / "x.safetensors").write_bytes(b"")
    (cache.folder / "notes.txt").write_text("mine")
    seen.clear()
    again = run(wanted, cache)
    assert sum(seen) == ALL
    np.testing.assert_allclose(of(again), whole, atol=2e-6)
    assert run(wanted, cache).computed == 0


def test_what_a_killed_process_left_is_tidied_up(tmp_path: Path, cache: Cache) -> None:
    cache.folder.mkdir(parents=True)
    old, young = (cache.folder / f"{name}{ASIDE}" for name in ("old", "young"))
    for file in (old, young):
        file.write_bytes(b"half")
    os.utime(old, (0, time.time() - 2 * STALE_S))
    run(pictures(tmp_path, 1), cache)
    assert not old.exists() and young.exists()


def test_a_picture_that_cannot_be_read_is_named_and_costs_nothing_else(
    tmp_path: Path, seen: list[int], cache: Cache
) -> None:
    wanted = pictures(tmp_path, ALL)
    Path(wanted[4].path).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"4\.png: cannot be read as a picture"):
        run(wanted, cache)
    assert [file.suffix for file in cache.folder.iterdir()] == [".safetensors"] * 2
    noise(Path(wanted[4].path), 4)
    assert run(wanted, cache).computed == ALL - 4
    Path(wanted[4].path).unlink()
    with pytest.raises(UserError, match=r"4\.png: cannot be read as a picture"):
        picture_keys(wanted)


def test_embeddings_that_are_not_finite_are_refused_and_not_kept(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TINY, "forward", lambda images: torch.full((len(images), cache.size), torch.nan))
    with pytest.raises(UserError, match=r"0\.png: the embedder gives numbers that are not finite"):
        run(pictures(tmp_path, 2), cache)
    assert not cache.folder.exists()


def test_a_cache_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache("some embedder", TINY.width, root=tmp_path / "file")
    with pytest.raises(UserError, match="embeddings cannot be kept there .* set SAGA_HOME to another folder"):
        run(pictures(tmp_path, 1), cache)


@pytest.mark.slow
def test_through_ray_all_is_the_same(tmp_path: Path, cache: Cache, session_ray: None) -> None:
    wanted = pictures(tmp_path, ALL)
    Path(wanted[-1].path).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"^\S+6\.png: cannot be read as a picture .* get it again$"):
        embed_pictures(wanted, TINY, SETTINGS, cache=cache, local=False)
    noise(Path(wanted[-1].path), ALL - 1)
    embedded = embed_pictures(wanted, TINY, SETTINGS, cache=cache, local=False)
    np.testing.assert_allclose(of(embedded), directly(wanted), atol=2e-6)
    assert run(wanted, cache).computed == 0


def test_an_embedder_s_hash_is_that_of_what_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "run/arms/instruct/model"
    (folder / "model/tower").mkdir(parents=True)
    files = ["embedder.json", "head.safetensors", "model/weights", "model/tower/weights"]
    for file in files:
        (folder / file).write_text(file)
    assert find_embedder(str(folder)) == find_embedder(str(tmp_path / "run")) == folder
    before = embedder_hash(folder)
    (folder / "README.md").write_text("a note")
    assert embedder_hash(folder) == before
    hashes = {before}
    for file in files:
        (folder / file).write_text("changed")
        hashes.add(embedder_hash(folder))
    (folder / "model/weights").rename(folder / "model/other")
    assert len(hashes | {embedder_hash(folder)}) == 1 + len(files) + 1
    for call in (lambda: embedder_hash(tmp_path), lambda: find_embedder(str(tmp_path))):
        with pytest.raises(UserError, match="holds no embedder of composed retrieval"):
            call()


def test_pictures_of_another_size_and_form_are_cut_as_in_training(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (90, 30), (200, 10, 10)).save(path)
    wide = [Picture("wide", str(path))]
    np.testing.assert_allclose(of(run(wide)), directly(wide), atol=2e-6)

"""An index finds what a comparison of every row finds, after any changes; nobody sees half a change."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from saga_ray.config.names import SOURCE_TREE
from saga_ray.errors import UserError
from saga_ray.retrieval.index import Index, change, kinds
from saga_ray.retrieval.index import folder as folders
from tests.retrieval.index_cases import add, create, entries, naive, unit

LABELS = ["chair", "sofa", "table"]

operation = st.one_of(
    st.tuples(st.just("add"), st.lists(st.integers(0, 25), min_size=1, max_size=6, unique=True)),
    st.tuples(st.just("replace"), st.lists(st.integers(0, 25), min_size=1, max_size=6, unique=True)),
    st.tuples(st.just("delete"), st.lists(st.integers(0, 25), min_size=1, max_size=6, unique=True)),
    st.tuples(st.just("delete label"), st.sampled_from(LABELS)),
)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@settings(max_examples=25, deadline=None)
@given(operations=st.lists(operation, max_size=8), k=st.integers(1, 30), seed=st.integers(0, 1000))
def test_a_search_after_any_changes_equals_a_naive_one(
    kind: str, operations: list[tuple[str, list[int] | str]], k: int, seed: int
) -> None:
    # a graph this small is searched whole: then the approximate kind has to be right too
    rng = np.random.default_rng(seed)
    z_ME = unit(6, seed)
    ids = [str(m) for m in range(6)]
    rows = dict(zip(ids, z_ME, strict=True))
    labels = {id: LABELS[int(id) % 3] for id in ids}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        create(folder, z_ME, entries(ids, list(labels.values())), kind=kind)
        reader = Index.open(folder)
        for what, which in operations:
            if what == "delete label":
                assert isinstance(which, str)
                gone = [id for id, label in labels.items() if label == which]
                if gone:
                    assert change.delete(folder, labels=[which])[1] == len(gone)
            elif what == "delete":
                gone = [str(number) for number in which if str(number) in rows]
                change.delete(folder, ids=gone)
            else:
                gone = []
                names = [str(number) for number in which if what == "replace" or str(number) not in rows]
                # one in three is a copy of a row that is there: equal scores
                fresh = unit(len(names), int(rng.integers(1 << 30)))
                for place in np.flatnonzero(rng.random(len(names)) < 0.3):
                    fresh[place] = next(iter(rows.values()), fresh[place])
                of_names = [LABELS[int(rng.integers(3))] for _ in names]
                if names:
                    add(folder, fresh, entries(names, of_names), "replace")
                rows |= dict(zip(names, fresh, strict=True))
                labels |= dict(zip(names, of_names, strict=True))
            for id in gone:
                del rows[id], labels[id]
        reader.reload()
        assert reader.size == len(rows)
        for query_E in unit(3, seed + 1):
            hits = reader.search(query_E[None], k)[0]
            expected = naive(query_E, rows, k)
            assert len({hit.id for hit in hits}) == len(hits) == len(expected)
            np.testing.assert_allclose(
                [hit.score for hit in hits], [score for score, _ in expected], atol=1e-5
            )
            for hit in hits:
                np.testing.assert_allclose(hit.score, query_E @ rows[hit.id], atol=1e-5)
                assert hit.label == labels[hit.id] and reader.thumbnail(hit.id) == hit.id.encode()


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_the_recall_written_down_is_that_of_a_naive_count(kind: str, tmp_path: Path) -> None:
    z_ME = unit(10_500, width=32, heaps=300)
    info = create(tmp_path, z_ME, kind=kind)
    assert info.measured is not None and info.measured.queries == 200
    index = Index.open(tmp_path)
    queries = np.random.default_rng(1).permutation(len(z_ME))[:200]
    assert abs(recall(index, z_ME, queries, deleted=set()) - info.measured.recall_at_10) < 0.03
    assert info.measured.recall_at_10 >= 0.95
    assert index.info == info

    deleted = {str(m) for m in range(0, len(z_ME), 3)}  # enough for a new graph
    change.delete(tmp_path, ids=deleted)
    assert index.size == len(z_ME) and index.reload() and index.size == len(z_ME) - len(deleted)
    left = [m for m in queries if str(m) not in deleted]
    assert index.info.measured is not None
    assert abs(recall(index, z_ME, left, deleted) - index.info.measured.recall_at_10) < 0.03

    new = unit(50, seed=7, width=32)
    add(tmp_path, new, entries([f"new-{m}" for m in range(50)], ["new"] * 50))
    assert index.reload() and index.size == len(z_ME) - len(deleted) + 50
    for m, (hit,) in enumerate(index.search(new, 1)):
        assert hit.id == f"new-{m}" and hit.score == pytest.approx(1, abs=2e-3)


def test_an_index_works_beside_a_library_that_replaces_faiss_search() -> None:
    """In a process of its own: the replacement stays for the rest of the process."""
    script = """
import sys, numpy as np
import faiss.contrib.torch_utils
from saga_ray.retrieval.index.kinds import hnsw, ivfpq
z_ME = np.random.default_rng(0).standard_normal((10_500, 8)).astype(np.float32)
z_ME /= np.linalg.norm(z_ME, axis=1, keepdims=True)
for kind in (hnsw, ivfpq):
    vectors = kind.make(z_ME)
    vectors.add(np.arange(len(z_ME)), z_ME)
    keys_QK, _ = vectors.search(z_ME[:5], 3)
    assert keys_QK[:, 0].tolist() == [0, 1, 2, 3, 4], (kind, keys_QK)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def recall(index: Index, z_ME: NDArray[np.float32], queries: list[int], deleted: set[str]) -> float:
    """Share of the true ten nearest that the index finds."""
    hits = index.search(z_ME[queries], 11)
    found = []
    for query, hits_K in zip(queries, hits, strict=True):
        scores_M = z_ME @ z_ME[query]
        scores_M[[int(id) for id in deleted]] = -np.inf
        scores_M[query] = -np.inf
        names = {hit.id for hit in hits_K} - {str(query)}
        assert not names & deleted
        found.append(len(names & {str(m) for m in np.argsort(-scores_M)[:10]}) / 10)
    return float(np.mean(found))


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_an_approximate_search_fills_every_place(kind: str, tmp_path: Path) -> None:
    z_ME = unit(10_000, width=16)
    create(tmp_path, z_ME, kind=kind)
    change.delete(tmp_path, ids=[str(m) for m in range(1500)])
    index = Index.open(tmp_path)
    [hits] = index.search(z_ME[:1], 9_000)
    assert len({hit.id for hit in hits}) == 8_500
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_the_small_kind_needs_enough_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ivfpq learns from 9,984 pictures"):
        create(tmp_path / "new", unit(100), kind="ivfpq")
    assert not (tmp_path / "new").exists()


def test_the_kinds_are_those_of_the_folder() -> None:
    assert kinds.names() == ["flat", "hnsw", "ivfpq"]
    with pytest.raises(UserError, match="no index of kind 'flt'; choose from flat"):
        kinds.load("flt", Path())


def test_ids_that_are_there_are_refused_skipped_or_replaced(tmp_path: Path) -> None:
    z_ME = unit(4)
    create(tmp_path, z_ME)
    new = unit(2, seed=9)
    more = entries(["3", "4"], ["new", "new"], colour=["red", ""])
    with pytest.raises(UserError, match="1 of 2 ids are in the index .* the first is '3'"):
        add(tmp_path, new, more)
    index = Index.open(tmp_path)
    assert add(tmp_path, new, more, "skip")[1] == 1 and index.reload()
    np.testing.assert_array_equal(index.vector("3"), z_ME[3])
    assert add(tmp_path, new, more, "replace")[1] == 2 and index.reload()
    np.testing.assert_array_equal(index.vector("3"), new[0])
    assert index.size == 5 and index.vector("nobody") is None and index.thumbnail("nobody") is None
    by_id = {hit.id: hit for hit in index.search(new[:1], 5)[0]}
    assert by_id["3"].metadata == {"colour": "red"} and by_id["4"].metadata == by_id["0"].metadata == {}


def test_a_deletion_of_something_unknown_deletes_nothing(tmp_path: Path) -> None:
    create(tmp_path, unit(4))
    for unknown in ({"ids": ["0", "9"]}, {"labels": ["even", "nobody"]}):
        with pytest.raises(UserError, match="nothing was deleted"):
            change.delete(tmp_path, **unknown)
    assert Index.open(tmp_path).size == 4


def test_another_models_embeddings_are_refused(tmp_path: Path) -> None:
    create(tmp_path, unit(4))
    with pytest.raises(UserError, match="was built by another model"):
        change.add(tmp_path, ["a"], lambda places: pytest.fail(), encoder_hash="f" * 64, source="more")


def test_a_change_that_fails_at_any_point_leaves_the_index_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path, unit(4))
    to_disk = folders._to_disk
    for failing in range(100):
        calls = iter(range(1000))

        def fail(path: Path, failing: int = failing, calls: Iterator[int] = calls) -> None:
            if next(calls) == failing:
                raise OSError("the disk is full")
            to_disk(path)

        with monkeypatch.context() as patch:
            patch.setattr(folders, "_to_disk", fail)
            try:
                add(tmp_path, unit(1), entries([f"new-{failing}"], ["new"]))
            except OSError:
                index = Index.open(tmp_path)
                # after the last rename the change is there, though the folder's own entry may not yet be safe
                named = f"new-{failing}" in index
                assert index.size == 5 if named else index.size == 4
                if named:
                    change.delete(tmp_path, ids=[f"new-{failing}"])
            else:
                break
    assert failing >= 5
    assert Index.open(tmp_path).size == 5
    assert len(list((tmp_path / "snapshots").iterdir())) == folders.KEPT


WRITER = """
import sys
from pathlib import Path
from saga_ray.retrieval.index import change
from tests.retrieval.index_cases import add, entries, unit
folder, ids = Path(sys.argv[1]), [f"more-{m}" for m in range(300)]
while True:
    add(folder, unit(300), entries(ids, ["more"] * 300))
    change.delete(folder, labels=["more"])
"""


def test_a_reader_beside_a_writer_that_is_killed_sees_whole_states_only(tmp_path: Path) -> None:
    create(tmp_path, unit(300))
    seen = set()
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=SOURCE_TREE)
        try:
            first, index = folders.current(tmp_path), Index.open(tmp_path)
            end, deadline = None, time.monotonic() + 120
            while end is None or time.monotonic() < end:
                assert writer.poll() is None and time.monotonic() < deadline
                index.reload()
                opened = Index.open(tmp_path)
                for each in (index, opened):
                    hits = each.search(unit(300)[:1], 1000)[0]
                    assert len(hits) == each.size and each.size in (300, 600)
                    assert all(each.thumbnail(hit.id) == hit.id.encode() for hit in hits[:3])
                    seen.add(each.size)
                if end is None and folders.current(tmp_path) != first:
                    end = time.monotonic() + 1.5
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        if Index.open(tmp_path).size == 600:
            change.delete(tmp_path, labels=["more"])
    assert seen == {300, 600}
    change.delete(tmp_path, labels=["even"])
    assert Index.open(tmp_path).size == 150
    assert not [place for place in tmp_path.rglob("*") if place.name.endswith(folders.UNFINISHED)]


def test_only_one_process_changes_an_index_at_a_time(tmp_path: Path) -> None:
    create(tmp_path, unit(4))
    with folders.changing(tmp_path), pytest.raises(UserError, match="is being changed by another process"):
        change.delete(tmp_path, ids=["0"])
    change.delete(tmp_path, ids=["0"])


def test_what_is_no_index_is_refused_in_a_sentence(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for use in (
        Index.open,
        lambda folder: change.delete(folder, ids=["0"]),
        lambda folder: add(folder, unit(1), entries(["a"], ["b"])),
    ):
        with pytest.raises(UserError, match="holds no index; make one with `saga index build`"):
            use(nowhere)
    assert not nowhere.exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        create(tmp_path, unit(4))
    (tmp_path / "notes.txt").unlink()
    create(tmp_path, unit(4))
    with pytest.raises(UserError, match="holds an index already"):
        create(tmp_path, unit(4))
    (tmp_path / "snapshots/000001/index.faiss").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is damaged"):
        Index.open(tmp_path)
    (tmp_path / "CURRENT").write_text("7")
    with pytest.raises(UserError, match="lacks snapshot 7"):
        Index.open(tmp_path)


def test_embeddings_that_are_no_directions_are_refused(tmp_path: Path) -> None:
    for wrong in (np.nan, np.inf, 0.5):
        z_ME = unit(4)
        z_ME[2] *= wrong
        with pytest.raises(UserError, match="1 of 4 embeddings .* picture 2"):
            create(tmp_path, z_ME)
    create(tmp_path, unit(4))
    with pytest.raises(UserError, match="1 of 1 embeddings"):
        add(tmp_path, unit(1) * np.nan, entries(["a"], ["b"]))
    with pytest.raises(UserError, match="NaN or infinite"):
        Index.open(tmp_path).search(unit(1) * np.nan, 3)


def test_an_index_that_was_deleted_and_built_anew_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    create(folder, unit(12))
    index = Index.open(folder)
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="holds no index"):
        index.reload()
    assert index.size == 12
    time.sleep(0.05)  # a file system's clock may tick a hundred times a second
    create(folder, unit(8, seed=1))
    assert index.reload() and index.size == 8 and not index.reload()


def test_an_emptied_index_finds_nothing_and_can_be_filled_again(tmp_path: Path) -> None:
    create(tmp_path, unit(4))
    change.delete(tmp_path, labels=["even", "odd"])
    index = Index.open(tmp_path)
    assert index.size == 0 and index.search(unit(2), 3) == [[], []]
    add(tmp_path, unit(1), entries(["a"], ["b"]))
    assert index.reload() and [hit.id for hit in index.search(unit(1), 3)[0]] == ["a"]

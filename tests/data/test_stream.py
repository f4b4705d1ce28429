"""The Ray Data stream gives what the plan and the local reference give, in order, to one worker or two."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
import ray

from saga_ray.config.settings import DataSettings
from saga_ray.data.plan import plan_for
from saga_ray.data.sources import load
from saga_ray.data.stream import CHUNK, Stream, StreamedBatch, local_stream, put_images, stream
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError

SEED = 7


@pytest.fixture
def settings() -> DataSettings:
    return DataSettings(
        image_size=24, classes_per_batch=6, pairs_per_batch=8, blocks=2, decode_tasks=2, crop_scale=0.5
    )


def assert_equal(got: StreamedBatch, expected: StreamedBatch) -> None:
    assert (got.id, got.epoch, got.start, got.stop) == (
        expected.id,
        expected.epoch,
        expected.start,
        expected.stop,
    )
    assert got.images_BHWC.dtype == np.uint8 and got.images_BHWC.flags.writeable
    for name in ("images_BHWC", "labels_B", "rows_B", "labels_all"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
    assert got.pairs == expected.pairs and got.all_pairs == expected.all_pairs


def test_local_stream_shows_the_planned_rows(table: ImageTable, settings: DataSettings) -> None:
    plan = plan_for(table, settings, SEED)
    first = next(local_stream(table, plan, settings, SEED, start=5))
    batch = plan.micro_batch(5)
    assert first.id == 5 and tuple(first.rows_B) == batch.rows
    assert first.images_BHWC.shape == (12, 24, 24, 3)
    whole = settings.model_copy(update={"crop_scale": 1.0, "flip": False})
    plain = next(local_stream(table, plan, whole, SEED, start=5))
    for place, row in enumerate(batch.rows):
        assert (plain.images_BHWC[place] == table.read_image(row, 24)).all()
    assert (first.images_BHWC != plain.images_BHWC).any()


def test_shares_of_two_workers_make_up_the_share_of_one(table: ImageTable, settings: DataSettings) -> None:
    plan = plan_for(table, settings, SEED)
    whole = next(local_stream(table, plan, settings, SEED, start=2))
    shares = [next(local_stream(table, plan, settings, SEED, rank=rank, world=2, start=2)) for rank in (0, 1)]
    np.testing.assert_array_equal(np.concatenate([share.images_BHWC for share in shares]), whole.images_BHWC)
    assert sorted(pair.index for share in shares for pair in share.pairs) == [
        pair.index for pair in whole.all_pairs
    ]


def test_stream_equals_the_local_reference_over_several_chunks(
    session_ray: None, table: ImageTable, settings: DataSettings
) -> None:
    plan = plan_for(table, settings, SEED)
    count = CHUNK + 5
    streamed = stream(table, plan, settings, SEED, start=3)
    expected = local_stream(table, plan, settings, SEED, start=3)
    for got, wanted in itertools.islice(zip(streamed, expected, strict=True), count):
        assert_equal(got, wanted)
    streamed.close()
    assert not any(thread.name == "data-stream" for thread in threading.enumerate())


def test_ids_are_streamed_in_the_order_given_and_then_it_ends(
    session_ray: None, table: ImageTable, settings: DataSettings
) -> None:
    plan = plan_for(table, settings, SEED)
    ids = [9, 2, 2, 30]
    streamed = stream(table, plan, settings, SEED, ids=iter(ids))
    got = list(streamed)
    assert [batch.id for batch in got] == ids
    for batch, wanted in zip(got, local_stream(table, plan, settings, SEED, ids=ids), strict=True):
        assert_equal(batch, wanted)
    with pytest.raises(StopIteration):
        next(streamed)


@ray.remote(num_cpus=1)
def read_share(
    images: list[ray.ObjectRef], plan: object, settings: DataSettings, rank: int
) -> list[StreamedBatch]:
    """What a training worker does; the reference travels in a list, or Ray would hand over the pictures."""
    return list(stream(images[0], plan, settings, SEED, rank=rank, world=2, ids=range(4)))


def test_two_workers_stream_their_shares_at_the_same_time(
    session_ray: None, table: ImageTable, settings: DataSettings
) -> None:
    plan = plan_for(table, settings, SEED)
    images = [put_images(table)]
    shares = ray.get([read_share.remote(images, plan, settings, rank) for rank in (0, 1)], timeout=240)
    for rank in (0, 1):
        expected = local_stream(table, plan, settings, SEED, rank=rank, world=2, ids=range(4))
        for got, wanted in zip(shares[rank], expected, strict=True):
            # what comes back through Ray's object store is read-only
            got.images_BHWC.setflags(write=False)
            np.testing.assert_array_equal(got.images_BHWC, wanted.images_BHWC)
            assert got.pairs == wanted.pairs


def test_a_picture_that_vanishes_is_named(session_ray: None, tree: Path) -> None:
    settings = DataSettings(
        source=str(tree), classes_per_batch=2, pairs_per_batch=2, blocks=1, image_size=16, test_share=0.5
    )
    train = load(settings, SEED).part("train")
    plan = plan_for(train, settings, SEED)
    for path in tree.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(UserError, match=r"class\d/\d\.jpg could be read when the run began") as caught:
        next(stream(train, plan, settings, SEED))
    assert "\n" not in str(caught.value)


class Hog:
    """Takes one of the cluster's CPUs."""

    def ready(self) -> bool:
        return True


def test_a_micro_batch_that_does_not_come_in_time_is_named(
    session_ray: None, table: ImageTable, settings: DataSettings
) -> None:
    plan = plan_for(table, settings, SEED)
    hog = ray.remote(num_cpus=ray.cluster_resources()["CPU"])(Hog).remote()
    ray.get(hog.ready.remote(), timeout=120)
    streamed = stream(table, plan, settings, SEED, start=41, rank=1, world=2, wait_s=1.5)
    with pytest.raises(UserError, match=r"micro-batch 41 .* of worker 1 in 1\.5 s; .* 0 free"):
        next(streamed)
    ray.kill(hog)
    streamed.close()


def test_a_dropped_stream_stops(session_ray: None, table: ImageTable, settings: DataSettings) -> None:
    streamed: Stream | None = stream(table, plan_for(table, settings, SEED), settings, SEED)
    next(streamed)
    thread = streamed._thread
    streamed = None
    thread.join(60)
    assert not thread.is_alive()

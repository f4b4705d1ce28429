"""Embedding a table: the same by Ray Data as in one process, in the order of the rows."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch
from PIL import Image

from saga_ray.config.settings import EvaluationSettings
from saga_ray.data.picture_column import PictureColumn
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.models.encoder import Encoder
from saga_ray.models.pooler import Pooler
from saga_ray.retrieval.embed import attention, embed, embeddings
from tests.tiny import PIXELS, TOKEN_WIDTH, TOKENS, TinyTower

PICTURES = 23  # not a multiple of the batch


@pytest.fixture(scope="module")
def table() -> ImageTable:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(PICTURES):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file, format="PNG")
        images.append(file.getvalue())
    return ImageTable(
        name="noise",
        images=PictureColumn(pa.array(images, type=pa.large_binary())),
        where=[f"row {row}" for row in range(PICTURES)],
        labels=np.arange(PICTURES) // 2,
        classes=[f"class-{label}" for label in range(PICTURES // 2 + 1)],
        split=np.array(["test"] * PICTURES),
        attributes={},
        skipped=[],
        split_seed=None,
        hash="ab",
    )


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    built = Encoder(TinyTower(), Pooler(TOKEN_WIDTH))
    generator = torch.Generator().manual_seed(5)
    built.pooler.query.data.normal_(generator=generator)
    return built.eval()


def test_embeddings_are_those_of_the_encoder_picture_by_picture(table: ImageTable, encoder: Encoder) -> None:
    z_ME, rows_M = embed(table, encoder, EvaluationSettings(batch_size=5), PIXELS, local=True)
    assert rows_M.tolist() == list(range(PICTURES))
    assert z_ME.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(z_ME, axis=1), 1.0, rtol=1e-5)
    for row in range(PICTURES):
        with torch.no_grad():
            alone = encoder(torch.tensor(table.read_image(row, PIXELS))[None])[0]
        np.testing.assert_allclose(z_ME[row], alone.numpy(), atol=1e-6)


def test_chosen_rows_come_in_the_order_asked_for(table: ImageTable, encoder: Encoder) -> None:
    settings = EvaluationSettings(batch_size=2)
    everything, _ = embed(table, encoder, settings, PIXELS, local=True)
    chosen, rows_M = embed(table, encoder, settings, PIXELS, rows=[7, 2, 20], local=True)
    assert rows_M.tolist() == [7, 2, 20]
    np.testing.assert_allclose(chosen, everything[[7, 2, 20]], atol=1e-6)


def test_an_encoder_s_folder_will_do(table: ImageTable, encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    settings = EvaluationSettings()
    stored, _ = embed(table, tmp_path, settings, PIXELS, local=True)
    np.testing.assert_array_equal(stored, embed(table, encoder, settings, PIXELS, local=True)[0])


def test_few_pictures_need_no_ray(
    table: ImageTable, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("saga_ray.retrieval.embed._batches_by_ray")
    assert len(embed(table, encoder, EvaluationSettings(), PIXELS)[0]) == PICTURES
    monkeypatch.setattr("saga_ray.retrieval.embed.FEW", PICTURES - 1)
    with pytest.raises(NameError):
        embed(table, encoder, EvaluationSettings(), PIXELS)


def test_ray_data_gives_the_same_in_the_same_order(
    table: ImageTable, encoder: Encoder, session_ray: None
) -> None:
    settings = EvaluationSettings(batch_size=4, workers=2)
    here, _ = embed(table, encoder, settings, PIXELS, local=True)
    by_ray, rows_M = embed(table, encoder, settings, PIXELS, local=False)
    assert rows_M.tolist() == list(range(PICTURES))
    np.testing.assert_allclose(by_ray, here, atol=1e-6)


class Shifted(torch.nn.Module):
    """Embeddings that depend on the text beside the picture."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images_BHWC: torch.Tensor, texts: list[str]) -> torch.Tensor:
        return self.encoder(images_BHWC) + torch.tensor([[float(len(text))] for text in texts])


@pytest.mark.parametrize("local", [True, False])
def test_a_stream_gives_batches_in_order_with_a_text_beside_each_picture(
    table: ImageTable, encoder: Encoder, session_ray: None, local: bool
) -> None:
    settings = EvaluationSettings(batch_size=4)
    rows = [5, 0, 5, 9, 2]
    texts = ["a" * n for n in range(5)]
    batches = embeddings(table, Shifted(encoder), settings, PIXELS, rows=rows, texts=texts, local=local)
    first = next(batches)
    assert len(first) == 4
    together = np.concatenate([first, *batches])
    plain, _ = embed(table, encoder, settings, PIXELS, rows=rows, local=True)
    np.testing.assert_allclose(together, plain + np.arange(5)[:, None], atol=1e-5)


def test_a_cluster_without_the_gpus_is_a_user_error_not_an_endless_wait(
    table: ImageTable, encoder: Encoder, session_ray: None
) -> None:
    gpus = ray.cluster_resources().get("GPU", 0.0) + 1.0  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match=rf"evaluation waited 3 s .* {gpus:g} GPU each"):
        embed(table, encoder, EvaluationSettings(), PIXELS, gpus=gpus, wait_s=3.0)


def test_attention_is_the_pooler_s_over_each_picture(table: ImageTable, encoder: Encoder) -> None:
    beta_MN = attention(table, encoder, [3, 0], PIXELS)
    assert beta_MN.shape == (2, TOKENS)
    np.testing.assert_allclose(beta_MN.sum(axis=1), 1.0, rtol=1e-5)
    with torch.no_grad():
        pictures = torch.tensor(np.stack([table.read_image(row, PIXELS) for row in (3, 0)]))
        expected = encoder.pooler(encoder.tower(pictures))[1]
    np.testing.assert_allclose(beta_MN, expected.numpy(), atol=1e-6)
    assert beta_MN.std() > 0.01

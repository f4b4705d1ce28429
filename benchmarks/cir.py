"""Composed retrieval on the furniture set, three seeds, beside baselines that are tuned and trained alike.

    .venv/bin/python benchmarks/cir.py [--seeds 1,2,3] [--runs DIR] [--trained "image + text"]

A seed is `saga cir train furniture-cir`, whose table has the untrained baselines: the image alone, the text
alone, and their sum with the share that is best on validation queries, each with the embedder after either
stage. Then stage 2 is trained again three times from the same stage 1, on the same batches, with the query
embedded from the image alone, the text alone, or as the sum of both embeddings: baselines that have learned
what ours has. `--trained` names those that are wanted: the sum is the strongest, and each takes as long as
stage 2. Goes on where it was interrupted; writes `benchmarks/cir.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from compare import cores
from torch import Tensor
from torch.nn import functional as F

from saga_ray.composed import sources
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.evaluation import evaluate
from saga_ray.composed.query_embeddings import COMPOSED, WAYS
from saga_ray.composed.step import StageStep
from saga_ray.composed.train.result import SHOWN, CirTrainingResult, gain, read
from saga_ray.composed.train.worker import build_optimizer, plan_of
from saga_ray.config.composed import ComposedSettings
from saga_ray.config.settings import DataSettings
from saga_ray.data.batches import decode_rows
from saga_ray.files import write_text
from saga_ray.train.folder import RunFolder
from saga_ray.train.schedule import rate_factor, set_rates, step_progress
from saga_ray.train.world import World

ROOT = Path(__file__).parents[1]
PRESET = "furniture-cir"
TRAINED = "trained.json"
CHUNK = 64
NO_PICTURES = np.empty((0, 0, 0, 3), dtype=np.uint8)
MEASURES = ("recall@1", "recall@5", "recall@10")


class ImageAlone(Embedder):
    """Queries are their reference."""

    def composed(
        self, x_BND: Tensor, instructions: Sequence[str], things: Sequence[str] | None = None
    ) -> Tensor:
        return self.images(x_BND, things)


class TextAlone(Embedder):
    """Queries are their instruction."""

    def composed(
        self, x_BND: Tensor, instructions: Sequence[str], things: Sequence[str] | None = None
    ) -> Tensor:
        return self.texts(instructions)


class SumOfBoth(Embedder):
    """Queries are the sum of both."""

    def composed(
        self, x_BND: Tensor, instructions: Sequence[str], things: Sequence[str] | None = None
    ) -> Tensor:
        return F.normalize(self.images(x_BND, things) + self.texts(instructions), dim=-1)


KINDS = {"image only": ImageAlone, "text only": TextAlone, "image + text": SumOfBoth}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="where the runs go")
    parser.add_argument("--threads", type=int, default=2, help="of the baselines' training")
    parser.add_argument("--trained", default=",".join(KINDS), help="the baselines to train")
    args = parser.parse_args()
    kinds = args.trained.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"--trained has {', '.join(sorted(unknown))}; choose among {', '.join(KINDS)}")
    torch.set_num_threads(args.threads)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    folders = {seed: args.runs.absolute() / f"cir-furniture-{seed}" for seed in seeds}
    for seed, folder in folders.items():
        run(seed, folder)
        train_baselines(folder, kinds)
    write_text(ROOT / "benchmarks" / "cir.md", page(folders, kinds))


def run(seed: int, folder: Path) -> None:
    """Both stages of a seed, unless they are done."""
    if (folder / "result.json").exists():
        return
    begun = ["--resume", str(folder)] if (folder / "settings.json").exists() else ["--output", str(folder)]
    saga = str(Path(sys.executable).parent / "saga")
    subprocess.run([saga, "cir", "train", PRESET, "--set", f"seed={seed}", *begun], check=True)


def train_baselines(folder: Path, kinds: Sequence[str]) -> None:
    """Stage 2 once for each kind of query; keeps each one's measures."""
    done = json.loads((folder / TRAINED).read_text()) if (folder / TRAINED).exists() else {}
    for kind in kinds:
        if kind not in done:
            done[kind] = trained(KINDS[kind], folder)
            write_text(folder / TRAINED, json.dumps(done, indent=1) + "\n")


def trained(cls: type[Embedder], folder: Path) -> dict[str, float]:
    """What an embedder finds that was trained to embed queries otherwise, all else equal."""
    settings = RunFolder.settings_of(folder, ComposedSettings)
    stage, lora = settings.instruct, settings.embedder
    data = sources.load(settings.data.source)
    embedder = cls.load(RunFolder(folder).model("align"))
    embedder.adapt(rank=lora.lora_rank, alpha=lora.lora_alpha, dropout=lora.lora_dropout, seed=settings.seed)
    embedder.train()
    step, plan = StageStep(embedder, settings, World()), plan_of(data, "instruct", settings)
    optimizer = build_optimizer(embedder, stage)
    pictures = DataSettings(image_size=embedder.image_size, crop_scale=1.0, flip=False)
    for start in range(0, len(data.pictures.sources), CHUNK):  # each is decoded and encoded once
        rows = range(start, min(start + CHUNK, len(data.pictures.sources)))
        step.store.tokens(rows, decode_rows(data.pictures, rows, 0, settings.seed, pictures))
    torch.manual_seed(settings.seed)
    for number in range(stage.steps):
        planned = plan.planned(number, 0, 1)
        progress = step_progress(number, stage.steps)
        set_rates(optimizer, rate_factor(progress, stage.warmup_share))
        losses = step.run(planned.assemble(NO_PICTURES), stage)
        optimizer.step()
        if number % 50 == 0:
            print(f"{folder.name} {cls.__name__} step {number} {losses}", flush=True)
    embedder.merge()
    benchmark = sources.queries(settings.data.source, settings.evaluation.part)
    assert benchmark is not None
    return evaluate(embedder, benchmark, local=True, seed=settings.seed).measures[COMPOSED]


def page(folders: dict[int, Path], kinds: Sequence[str]) -> str:
    """The table, from the runs' own results."""
    results = {seed: read(folder) for seed, folder in folders.items()}
    found = {seed: json.loads((folder / TRAINED).read_text()) for seed, folder in folders.items()}
    learned = {seed: {kind: done[kind] for kind in kinds} for seed, done in found.items()}
    first = next(iter(results.values()))
    asked = first.scored["instruct"].benchmark
    rows = [
        (f"{way}, {SHOWN[stage]}", [result.scored[stage].measures[name] for result in results.values()])
        for stage in first.scored
        for name, way in WAYS.items()
    ]
    rows += [(f"{kind}, trained in stage 2", [each[kind] for each in learned.values()]) for kind in kinds]
    tuned = [gain(result) or 0.0 for result in results.values()]
    trained = [over_trained(result, learned[seed]) for seed, result in results.items()]
    versions = ", ".join(f"{key} {value}" for key, value in first.versions.items())
    lines = [
        "# Composed retrieval on the furniture set",
        "",
        f"    .venv/bin/python benchmarks/cir.py --seeds {','.join(map(str, folders))} "
        f"--trained '{','.join(kinds)}'",
        "",
        f"{date.today()}; {cores()}; preset `{PRESET}`, seeds {', '.join(map(str, folders))}. Per cent over "
        f"{asked.queries:,} queries ({', '.join(f'{count} {kind}' for kind, count in asked.kinds.items())}) "
        f"in a gallery of {sum(asked.galleries.values()):,} pictures, less each query's reference; none of "
        "the models was trained on. Mean ± standard deviation over the seeds (n - 1).",
        "",
        first.data.note + " No result on them stands for FashionIQ, CIRR or the like.",
        "",
        "| query | R@1 | R@5 | R@10 | R@1 recolour | R@1 attribute | R@1 by seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, measured in rows:
        columns = (*MEASURES, "recall@1/recolour", "recall@1/attribute")
        cells = [spread([each[column] for each in measured]) for column in columns]
        by_seed = " ".join(f"{100 * each['recall@1']:.1f}" for each in measured)
        bold = "**" if name == f"{WAYS[COMPOSED]}, {SHOWN['instruct']}" else ""
        lines.append(f"| {bold}{name}{bold} | {' | '.join(cells)} | {by_seed} |")
    lines += [
        "",
        f"Composed queries after stage 2 less the best baseline of the same seed not trained as one: "
        f"{spread(tuned)} points of R@1 ({by_sign(tuned)}); the text's share in these sums was chosen on "
        f"validation queries. Less the best of those trained in stage 2: {spread(trained)} "
        f"({by_sign(trained)}).",
        "",
        "Seconds of the whole command, by seed: "
        + ", ".join(f"{result.seconds:.0f}" for result in results.values())
        + f". Data hash {first.data.hash}. {versions}.",
        "",
        "Why a sum that is trained for itself comes near: [cir_mistakes.md](cir_mistakes.md).",
    ]
    return "\n".join(lines) + "\n"


def over_trained(result: CirTrainingResult, learned: dict[str, dict[str, float]]) -> float:
    """Points over the best of the trained baselines."""
    ours = result.scored["instruct"].measures[COMPOSED]["recall@1"]
    return ours - max(each["recall@1"] for each in learned.values())


def by_sign(fractions: Sequence[float]) -> str:
    """Each in points, with its sign."""
    return ", ".join(f"{100 * each:+.1f}" for each in fractions)


def spread(fractions: Sequence[float]) -> str:
    """Mean ± standard deviation, in per cent."""
    values = [100 * value for value in fractions]
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.1f}"


if __name__ == "__main__":
    main()

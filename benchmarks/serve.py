"""What serving costs, as ratios measured in one run on one machine: `make bench-serve`.

    .venv/bin/python benchmarks/serve.py [--model MODEL] [--seconds 10] [--output benchmarks/serve.md]

Five comparisons: throughput at saturation with the offline pipeline; throughput and latency at 1, 4 and 32
clients with a plain FastAPI + torch server of the same model; latency of a single client with the bare
forward; tail latency under light load; the load client's own cost. Client and server share the cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image

from saga_ray.config.overrides import resolve
from saga_ray.config.settings import DataSettings, EvaluationSettings
from saga_ray.data import sources
from saga_ray.data.table import ImageTable
from saga_ray.models import supervisors
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.embed import embed
from saga_ray.retrieval.model import find_model
from saga_ray.train.ports import free_port

HERE = Path(__file__).parent
PICTURES, SIDE = 640, 640
"""Of the furniture set's own pictures, enlarged to what a phone's or a shop's picture is at least."""
CLIENTS = (1, 4, 32)
IN_BULK = 32
"""Pictures a request where throughput alone counts."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a model or run (default: the furniture preset's untrained encoder)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison, taken in turn")
    parser.add_argument("--output", type=Path, default=HERE / "serve.md")
    args = parser.parse_args()
    threads = max(1, len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = find_model(args.model) if args.model else untrained(folder / "model")
        table = write_pictures(folder / "pictures")
        found = {
            "offline": [offline(table, model, threads) for _ in range(args.rounds)],
            **loads(model, folder / "pictures", threads, args.seconds, args.rounds),
        }
    page = report(found, threads, args.seconds, args.rounds)
    args.output.write_text(page)
    args.output.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    print(page)


def untrained(folder: Path) -> Path:
    """The furniture preset's encoder before training: the same size and speed as after it."""
    settings = resolve("furniture")
    Encoder.start_of(supervisors.load(settings.supervisor.path), settings.encoder).save(folder)
    return folder


def write_pictures(folder: Path) -> ImageTable:
    """Some hundred JPEG files by class, and the table of them."""
    shipped = sources.load(DataSettings(source="furniture"), seed=1).part("test")
    for row in range(PICTURES):
        pixels = Image.fromarray(shipped.read_image(row, 112))
        file = folder / str(shipped.labels[row]) / f"{row:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, quality=90)
    return sources.load(DataSettings(source=str(folder)), seed=1)


def bare_forward_ms(model: Path) -> float:
    """Median time of the encoder alone on one picture that is already decoded."""
    encoder = Encoder.load(model).eval()
    size = encoder.tower.image_size
    image = torch.zeros((1, size, size, 3), dtype=torch.uint8)
    taken = []
    with torch.inference_mode():
        for _ in range(60):
            started = time.perf_counter()
            encoder(image)
            taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken[10:])


def offline(table: ImageTable, model: Path, threads: int) -> dict[str, float]:
    """Pictures a second of `saga index build`'s pipeline, files to embeddings, in this process and through
    Ray Data; its start is left out, as the server's is.
    """
    size = Encoder.load(model).tower.image_size
    rows = list(range(len(table)))
    settings = EvaluationSettings(workers=threads)
    torch.set_num_threads(threads)
    embed(table, model, settings, size, rows=rows[:64], local=True)
    started = time.perf_counter()
    embed(table, model, settings, size, rows=rows, local=True)
    here = len(rows) / (time.perf_counter() - started)
    with contextlib.redirect_stderr(io.StringIO()):
        ray.init(num_cpus=2 * threads, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        taken = []
        for times in (1, 1, 5):  # the first warms the workers up
            started = time.perf_counter()
            embed(table, model, settings, size, rows=rows * times, local=False)
            taken.append(time.perf_counter() - started)
    finally:
        ray.shutdown()
    return {"in_process": here, "ray_data": 4 * len(rows) / (taken[2] - taken[1])}


def loads(model: Path, pictures: Path, threads: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Every load on both servers, in turn, so that a slow minute of the machine meets both."""
    closed: dict[str, dict[int, list[dict]]] = {
        name: {clients: [] for clients in CLIENTS} for name in ("saga", "plain", "null")
    }
    bulk: dict[str, list[dict]] = {"saga": [], "plain": []}
    light: list[dict] = []
    forward_ms: list[float] = []
    for round_number in range(rounds):
        forward_ms.append(bare_forward_ms(model))
        with plain_server(model, threads) as url:
            for clients in CLIENTS:
                closed["plain"][clients].append(load(f"{url}/embed", pictures, seconds, clients=clients))
                closed["null"][clients].append(load(f"{url}/null", pictures, seconds / 2, clients=clients))
            bulk["plain"].append(load(f"{url}/embed", pictures, seconds, clients=4, each=IN_BULK))
        with saga_server(model, threads) as url:
            for clients in CLIENTS:
                closed["saga"][clients].append(load(f"{url}/embed", pictures, seconds, clients=clients))
            bulk["saga"].append(load(f"{url}/embed", pictures, seconds, clients=4, each=IN_BULK))
            rate = 0.2 * closed["saga"][max(CLIENTS)][-1]["a_second"]
            light.append(
                load(f"{url}/embed", pictures, 3 * seconds, rate=rate, seed=round_number) | {"rate": rate}
            )
    return {"forward_ms": forward_ms, "closed": closed, "bulk": bulk, "light": light}


def load(
    url: str,
    pictures: Path,
    seconds: float,
    *,
    clients: int = 1,
    each: int = 1,
    rate: float | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """One load by a client in a process of its own; the first second or two warm the server up."""
    command = [sys.executable, HERE / "serve_load.py", url, pictures, "--pictures-a-request", str(each)]
    command += ["--clients", str(clients), "--seed", str(seed)]
    subprocess.run([*command, "--seconds", "2"], check=True, stdout=subprocess.DEVNULL)
    if rate is not None:
        command += ["--rate", str(rate)]
    done = subprocess.run([*command, "--seconds", str(seconds)], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["ms"] and not found["errors"], (url, found["errors"][:5])
    return {
        "a_second": each * len(found["ms"]) / found["seconds"],
        "p50_ms": float(np.percentile(found["ms"], 50)),
        "p99_ms": float(np.percentile(found["ms"], 99)),
        "client_cpu_ms_a_request": 1000 * found["client_cpu_s"] / len(found["ms"]),
        "requests": len(found["ms"]),
    }


@contextlib.contextmanager
def plain_server(model: Path, threads: int) -> Iterator[str]:
    port = free_port()
    with serving([sys.executable, HERE / "plain_server.py", model, str(port), str(threads)], port) as url:
        yield url


@contextlib.contextmanager
def saga_server(model: Path, threads: int) -> Iterator[str]:
    port = free_port()
    command = [Path(sys.executable).with_name("saga"), "serve", model, "--port", str(port)]
    command += ["--set", f"threads={threads}"]
    with serving(command, port) as url:
        yield url


@contextlib.contextmanager
def serving(command: list[Any], port: int) -> Iterator[str]:
    """Start a server, wait until it answers, and end it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/openapi.json"):
                break
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def report(found: dict[str, Any], threads: int, seconds: float, rounds: int) -> str:
    """The page: every ratio with the numbers that it is made of."""

    def of(name: str, clients: int, key: str) -> list[float]:
        return [each[key] for each in found["closed"][name][clients]]

    saturation = [each["a_second"] for each in found["bulk"]["saga"]]
    offline_best = statistics.median(max(each.values()) for each in found["offline"])
    in_process, by_ray = ([each[key] for each in found["offline"]] for key in ("in_process", "ray_data"))
    lines = [
        "# Serving: what it costs",
        "",
        f"    .venv/bin/python benchmarks/serve.py --rounds {rounds} --seconds {seconds:g}",
        "",
        f"{date.today()}; {os.cpu_count()} cores ({platform.machine()}), which client and server share; "
        f"{threads} threads for the model; JPEGs of {SIDE} x {SIDE} pixels; loads of {seconds:g} s, "
        f"{rounds} round(s), plain server and `saga serve` in turn; median (lowest to highest).",
        "",
        "| | measured | of that |",
        "|---|---|---|",
        "| throughput at saturation / offline pipeline | "
        f"**{shown([each / offline_best for each in saturation], 2)}** | "
        f"{shown(saturation)} pictures/s by 4 clients with {IN_BULK} pictures a request; offline "
        f"{shown(in_process)} in one process, {shown(by_ray)} by Ray |",
    ]
    for clients in CLIENTS:
        ratios = [
            a / b
            for a, b in zip(of("saga", clients, "a_second"), of("plain", clients, "a_second"), strict=True)
        ]
        lines.append(
            f"| throughput / plain server, {clients} client{'s' * (clients > 1)} | **{shown(ratios, 2)}** | "
            f"{shown(of('saga', clients, 'a_second'))} and {shown(of('plain', clients, 'a_second'))} "
            f"requests/s; p50 {shown(of('saga', clients, 'p50_ms'), 1)} and "
            f"{shown(of('plain', clients, 'p50_ms'), 1)} ms; p99 {shown(of('saga', clients, 'p99_ms'))} and "
            f"{shown(of('plain', clients, 'p99_ms'))} ms |"
        )
    in_bulk = [
        a["a_second"] / b["a_second"]
        for a, b in zip(found["bulk"]["saga"], found["bulk"]["plain"], strict=True)
    ]

    def added(name: str) -> list[float]:
        forward = found["forward_ms"]
        return [whole - bare for whole, bare in zip(of(name, 1, "p50_ms"), forward, strict=True)]

    rates = [each["rate"] for each in found["light"]]
    lines += [
        f"| throughput / plain server, {IN_BULK} pictures a request | **{shown(in_bulk, 2)}** | "
        f"{shown([each['a_second'] for each in found['bulk']['plain']])} pictures/s by the plain server |",
        f"| latency of one client less the bare forward | **{shown(added('saga'), 1)} ms** | forward "
        f"{shown(found['forward_ms'], 1)} ms, timed in each round; decoding, HTTP and the plain server's way "
        f"add {shown(added('plain'), 1)} ms |",
        f"| p99 under light load (a fifth of 32 clients' throughput, at random moments) | "
        f"**{shown([each['p99_ms'] for each in found['light']])} ms** | {shown(rates)} requests/s, p50 "
        f"{shown([each['p50_ms'] for each in found['light']], 1)} ms |",
        "| the client's own cost | "
        f"**{shown(of('saga', max(CLIENTS), 'client_cpu_ms_a_request'), 2)} ms** of processor a request | "
        "with a server that reads the picture and does nothing: "
        f"{shown(of('null', max(CLIENTS), 'a_second'))} requests/s |",
        "",
    ]
    return "\n".join(lines)


def shown(values: list[float], digits: int = 0) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()

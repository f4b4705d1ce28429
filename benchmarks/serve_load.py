"""A load client for `benchmarks/serve.py`: sends ready-made bodies and notes how long each answer took.

It runs in a process of its own, so that its processor time can be told apart from the server's; with a rate
it starts requests at random moments whether or not earlier ones were answered (open loop), without one each
of its clients sends its next request when the last was answered (closed loop).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path

import aiohttp

BOUNDARY = "picture"


def body(files: list[bytes]) -> bytes:
    """Picture files as a multipart body."""
    parts = []
    for file in files:
        head = 'Content-Disposition: form-data; name="files"; filename="a.jpg"\r\nContent-Type: image/jpeg'
        parts += [f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode(), file, b"\r\n"]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


async def load(
    url: str, bodies: list[bytes], *, clients: int, seconds: float, rate: float | None, seed: int
) -> dict:
    """Milliseconds of every answered request, and what went wrong."""
    rng = random.Random(seed)
    taken_ms: list[float] = []
    errors: list[str] = []
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )

    async def one(number: int) -> None:
        started = time.perf_counter()
        async with session.post(url, data=bodies[number % len(bodies)]) as answer:
            await answer.read()
        if answer.status == 200:
            taken_ms.append(1000 * (time.perf_counter() - started))
        else:
            errors.append(str(answer.status))

    async with session:
        started, cpu = time.perf_counter(), time.process_time()
        until = started + seconds
        if rate is None:

            async def client(number: int) -> None:
                while time.perf_counter() < until:
                    await one(number)
                    number += clients

            await asyncio.gather(*(client(number) for number in range(clients)))
        else:
            tasks, due, number = [], started, 0
            while (due := due + rng.expovariate(rate)) < until:
                await asyncio.sleep(due - time.perf_counter())
                tasks.append(asyncio.create_task(one(number)))
                number += 1
            await asyncio.gather(*tasks)
        wall = time.perf_counter() - started
        return {
            "ms": taken_ms,
            "errors": errors,
            "seconds": wall,
            "client_cpu_s": time.process_time() - cpu,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("pictures", type=Path, help="a folder with folders of JPEG files")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--pictures-a-request", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, help="requests a second, open loop")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    files = [path.read_bytes() for path in sorted(args.pictures.glob("*/*.jpg"))]
    each = args.pictures_a_request
    bodies = [body(files[start : start + each]) for start in range(0, len(files) - each + 1, each)]
    found = asyncio.run(
        load(args.url, bodies, clients=args.clients, seconds=args.seconds, rate=args.rate, seed=args.seed)
    )
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()

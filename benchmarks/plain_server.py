"""What `benchmarks/serve.py` compares with: the server that one would write first. One process, FastAPI,
torch, no batching; each request is decoded and embedded in a thread of Starlette's pool.

    .venv/bin/python benchmarks/plain_server.py MODEL PORT THREADS

`POST /embed` speaks as `saga serve` does; `POST /null` reads the body and does nothing: the load client's and
the protocol's own cost.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, File, UploadFile
from fastapi.responses import JSONResponse

from saga_ray.data.decoding import centre_square, decode
from saga_ray.models.encoder import Encoder


def create_app(folder: Path) -> FastAPI:
    encoder = Encoder.load(folder).eval()
    size = encoder.tower.image_size
    app = FastAPI()

    @app.post("/embed")
    def embed(files: Annotated[list[UploadFile], File()]) -> JSONResponse:
        images_BHWC = np.stack([centre_square(decode(file.file.read(), size), size) for file in files])
        with torch.inference_mode():
            z_BE = encoder(torch.from_numpy(images_BHWC))
        data = [{"index": index, "embedding": z_E} for index, z_E in enumerate(z_BE.tolist())]
        return JSONResponse({"model": "plain", "data": data})

    @app.post("/null")
    async def null(files: Annotated[list[UploadFile], File()]) -> JSONResponse:
        for file in files:
            await file.read()
        return JSONResponse({"data": []})

    return app


def main() -> None:
    folder, port, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    uvicorn.run(create_app(folder), port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()

"""A bundle behind HTTP, on Ray Serve: POST /score takes a list of rows, GET /health says what runs.

Its import path is app:build; README.md says how to run it.
"""

import asyncio
from typing import Any

import pyarrow as pa
from fastapi import FastAPI, HTTPException, Request
from ray import serve

from recsys_mtl.config import UserError
from recsys_mtl.serving import Scorer

http = FastAPI(title="recsys_mtl")


@serve.deployment
@serve.ingress(http)
class BundleServer:
    """Scores requests that arrive together in one forward."""

    def __init__(self, bundle: str) -> None:
        self.scorer = Scorer.load(bundle)

    @http.get("/health")
    def health(self) -> dict[str, Any]:
        """Which run is served, at which step, and its tasks."""
        bundle = self.scorer.bundle
        return {"run": bundle.run.name, "step": bundle.run.step, "tasks": list(bundle.tasks)}

    @http.post("/score")
    async def score(self, request: Request) -> dict[str, list[float]]:
        """By task, one probability per object of the body's list."""
        try:
            table = self.scorer.read(await request.json())
        except UserError as error:
            raise HTTPException(422, str(error)) from error
        except ValueError as error:
            raise HTTPException(400, f"the body is no JSON ({error}); send a list") from error
        scores = await self.score_together(table)
        return {task: column.tolist() for task, column in scores.items()}

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def score_together(self, tables: list[pa.Table]) -> list[dict[str, Any]]:
        """The scores of each request; other requests are read meanwhile."""
        return await asyncio.to_thread(self.scorer.score_each, tables)


def build(arguments: dict[str, str]) -> serve.Application:
    """The application, of the bundle that serve.yaml names."""
    return BundleServer.bind(arguments["bundle"])  # type: ignore[attr-defined]

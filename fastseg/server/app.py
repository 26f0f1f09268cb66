"""The application: routes, errors as answers, the page, and the guard around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from fastseg import environment, provenance
from fastseg.errors import FastsegError, ServerError
from fastseg.sam.model import Sam
from fastseg.server.guard import Guard
from fastseg.server.refusals import RefusalError, refusal, unforeseen
from fastseg.server.routes import router
from fastseg.server.service import Service, cancelled
from fastseg.server.settings import Settings

PAGE = Path(__file__).parent / "page"


def create_app(model: Sam, settings: Settings | None = None) -> ASGIApp:
    """Make the application of a server, for any server of ASGI.

    Args:
        model: A model that takes prompts; it stays open when the application ends.
        settings: Tokens, origins, root and limits; None is the defaults.
    """
    settings = settings or Settings()
    service = Service(model, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(anyio.to_thread.run_sync(service.warm_up)),
            asyncio.create_task(service.expire()),
        ]
        yield
        for task in tasks:
            await cancelled(task)
        service.close()

    app = FastAPI(
        title="fastseg",
        description=f"Promptable segmentation. {provenance.NOTICE}",
        version=environment.versions()["fastseg"],
        lifespan=lifespan,
        # Their pages would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(router)
    if settings.page:
        _add_page(app)
    _add_errors(app)
    guarded: ASGIApp = Guard(app, settings, service.metrics)
    if settings.origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Server-Timing", "Content-Disposition", "Retry-After"],
        )
    return guarded


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return FileResponse(PAGE / "index.html", media_type="text/html; charset=utf-8")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")


def _add_errors(app: FastAPI) -> None:
    async def typed(_: Request, error: Exception) -> Response:
        return refusal(cast("FastsegError", error))

    async def malformed(_: Request, error: Exception) -> Response:
        return refusal(RefusalError(422, _message(cast("RequestValidationError", error))))

    async def http(_: Request, error: Exception) -> Response:
        if isinstance(error, ServerError):
            return refusal(error)
        problem = cast("HTTPException", error)
        return refusal(RefusalError(problem.status_code, str(problem.detail)))

    async def unexpected(_: Request, error: Exception) -> Response:
        return refusal(unforeseen(error))

    app.add_exception_handler(FastsegError, typed)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)


def _message(error: RequestValidationError) -> str:
    """Say where a body is malformed, without repeating what was sent."""
    problems: list[dict[str, Any]] = list(error.errors())
    places = []
    for problem in problems[:3]:
        place = ".".join(str(part)[:60] for part in problem["loc"])
        places.append(f"{place}: {problem['msg']}")
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    return f"the request is malformed: {'; '.join(places)}{more}. See /openapi.json."

"""Programs and styles travel compressed; what could hold a secret does not."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from web.compressed_static import CompressedStatic


@pytest.mark.parametrize(
    ("path", "encoding"),
    [("/static/js/index.js", "gzip"), ("/", None), ("/_stcore/host-config", None)],
)
def test_only_static_files_are_compressed(path, encoding):
    """And what arrives is the same."""
    said = "const answer = 42;" * 1000

    async def answer(_request):
        return PlainTextResponse(said)

    app = CompressedStatic(Starlette(routes=[Route(path, answer)]))

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
            return await client.get(path)

    got = asyncio.run(ask())
    assert got.headers.get("content-encoding") == encoding
    assert got.text == said

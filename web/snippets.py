"""The call that a page made, as programs that make it too; the key is always `$GPT_API_KEY`. Pure.

The programs need nothing that is not there: curl, Python's standard library, a JavaScript with
`fetch`. They do not stream, which keeps them short.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

KEY_VARIABLE = "GPT_API_KEY"


def snippets(api_url: str, body: Mapping[str, Any]) -> dict[str, str]:
    """Return language -> program for one POST /generate."""
    sent = {name: value for name, value in body.items() if name != "stream"}
    url = f"{api_url}/generate"
    return {
        "curl": _curl(url, sent),
        "Python": _python(url, sent),
        "JavaScript": _javascript(url, sent),
    }


def _curl(url: str, body: Mapping[str, Any]) -> str:
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    return (
        f"curl -sS {shlex.quote(url)} \\\n"
        f'  -H "X-API-Key: ${KEY_VARIABLE}" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  --data-raw {data}\n"
    )


def _python(url: str, body: Mapping[str, Any]) -> str:
    fields = "".join(f"    {name!r}: {value!r},\n" for name, value in body.items())
    return (
        "import json\nimport os\nimport urllib.request\n\n"
        f"body = {{\n{fields}}}\n"
        "request = urllib.request.Request(\n"
        f"    {url!r},\n"
        "    data=json.dumps(body).encode(),\n"
        f'    headers={{"X-API-Key": os.environ["{KEY_VARIABLE}"],'
        ' "Content-Type": "application/json"},\n'
        ")\n"
        "with urllib.request.urlopen(request) as answer:\n"
        '    print(json.load(answer)["text"])\n'
    )


def _javascript(url: str, body: Mapping[str, Any]) -> str:
    # JSON is JavaScript but for large integers, which lose digits: a seed is sent as it was typed.
    text = json.dumps(json.dumps(body), ensure_ascii=False)
    return (
        f"const answer = await fetch({json.dumps(url)}, {{\n"
        '  method: "POST",\n'
        "  headers: {\n"
        f'    "X-API-Key": process.env.{KEY_VARIABLE},\n'
        '    "Content-Type": "application/json",\n'
        "  },\n"
        f"  body: {text},\n"
        "});\n"
        "console.log((await answer.json()).text);\n"
    )

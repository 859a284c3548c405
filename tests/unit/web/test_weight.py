"""The web process is light: what it does not need is not even loaded."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "flask", "api", "google.cloud", "grpc", "pandas", "numpy", "matplotlib")


def test_starting_the_web_app_loads_nothing_of_the_api_and_nothing_heavy():
    """No torch, no API, no Google client before it is chosen, no pandas before a chart."""
    script = (
        "import sys, web.__main__, web.asgi, web.user_source, web.streamlit_options;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"

"""Streamlit's full garbage collection after every run stays cheap: modules are set apart from it.

Streamlit collects after each script and each fragment run, which with pandas loaded walks for
some 80 ms several times a second (streamlit issue 8977). What modules hold lives as long as the
process; `gc.freeze` takes it out of every later walk.
"""

from __future__ import annotations

import gc
import sys
import threading

_lock = threading.Lock()
_frozen_at = [0]  # how many modules were loaded at the last freeze


def freeze_new_modules() -> bool:
    """Set everything apart that is alive now, if a module was loaded since the last time."""
    with _lock:
        if len(sys.modules) == _frozen_at[0]:
            return False
        _frozen_at[0] = len(sys.modules)
        gc.collect()
        gc.freeze()
        return True

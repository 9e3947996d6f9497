"""Opens an address in the browser of this desktop, where there is one."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Mapping

__all__ = ["open_web_page"]

START_SECONDS = 5.0
"""Some browsers end only when their window is closed; one that has not failed by then is taken to be open."""
_DISPLAYS = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")


def open_web_page(url: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Open a browser and return whether one was started. Blocks for at most `START_SECONDS`.

    Without a display there are only terminal browsers, which would take over the terminal that shows the address.
    """
    if sys.platform != "darwin" and not any(environment.get(name) for name in _DISPLAYS):
        return False
    outcomes: list[bool] = []

    def start() -> None:
        try:
            outcomes.append(webbrowser.open(url))
        except (OSError, webbrowser.Error):
            outcomes.append(False)

    # Ends with the browser, or with this process.
    thread = threading.Thread(target=start, name="browser", daemon=True)
    thread.start()
    thread.join(START_SECONDS)
    return all(outcomes)

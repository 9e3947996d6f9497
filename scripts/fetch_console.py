"""Fetches the console of a running server as a browser would begin to: the page, and every file that it and they name.

python fetch_console.py ADDRESS      used by `try_packages`: an installed package that lacks a file fails here
"""

from __future__ import annotations

import re
import sys
import urllib.parse
import urllib.request

SECONDS = 30
_OF_PAGE = re.compile(r'(?:src|href)="([^"#]+)"')
_OF_MODULE = re.compile(r'(?:from\s*|import\()"(\./[^"]+)"')


def fetch_all(address: str) -> int:
    """Fetch the page and all that is named; the number of files. Raises ``OSError`` for one that is not served."""
    left, seen = [address], {address}
    while left:
        url = left.pop()
        request = urllib.request.Request(url, headers={"Accept": "text/html"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            text = answer.read().decode()
        names = _OF_PAGE.findall(text) if url == address else _OF_MODULE.findall(text) if url.endswith(".js") else []
        for found in (urllib.parse.urljoin(url, name) for name in names):
            if found not in seen:
                seen.add(found)
                left.append(found)
    return len(seen)


if __name__ == "__main__":
    count = fetch_all(sys.argv[1])
    if count < 10:
        sys.exit(f"the console names {count} files; there should be more")

"""The page and the service worker in headless Chromium, as far as possible without a public push service.

A browser subscribes at its vendor's service, which cannot be reached here, so only the page's reaction to that is
tested. The path of a message is covered in two halves: from our server to a local push service, which decrypts it, and
that decrypted message to our service worker in a real browser, which shows it and reports so to the server.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.access.messages import CreateToken
from actors.inference.worker_config import WorkerConfig
from tests.javascript.tools import FOLDER, chromium, npm_file
from tests.notifications.push_services import PushServices
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.integration


async def test_a_browser_shows_what_was_pushed_and_tells_the_server(
    tmp_path: Path, services: PushServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "60"])
    options: dict[str, Any] = {"push_ca_file": services.ca_file, "push_allow_private": True, "push_hold_seconds": 0.0}
    npm_file("playwright-core")
    async with running_server(tmp_path, wait=False, **options) as server:
        # The page opens without one, and has a field for it.
        wanted = CreateToken(client_ids=("me",), roles=("user",), name="browser")
        token = (await server.system.reference("access").ask(wanted, timeout=60)).token
        await _see_a_browser(server, services, token)


async def _see_a_browser(server: RunningServer, services: PushServices, token: str) -> None:
    async with server.http(headers={"Authorization": f"Bearer {token}"}) as http:
        device = {"device_id": "browser", "platform": "web", "subscription": services.subscription("browser")}
        assert (await http.post("/notifications/me/devices", json=device)).status_code == 201
        posted = await http.post("/notifications/me", json={"template": "message", "fields": {"title": "Grüße"}})
        name = posted.json()["notification_id"]
        await eventually(lambda: services.titles("/push/browser"))

        node = str(npm_file(".bin/node"))
        message = json.dumps(services.received[0].payload)
        command = [node, str(FOLDER / "push_page.mjs"), chromium(), server.about.rest_url, "me", message, token]
        with trio.fail_after(120):
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        seen = json.loads(done.stdout)
        assert seen["shown"] == [{"title": "Grüße", "body": "", "tag": name}], seen
        assert seen["afterwards"] == 1
        # Without its vendor's service the browser cannot subscribe, and the page says only that.
        assert seen["subscribed"].startswith("The browser's push service failed: "), seen
        assert seen["errors"] == []

        async def deliveries() -> dict[str, Any]:
            entries = (await http.get("/notifications/me/history")).json()["entries"]
            first = next(one for one in entries if one["notification"]["notification_id"] == name)
            return {one["channel"]: one["state"] for one in first["deliveries"]}

        async def is_delivered() -> bool:
            return (await deliveries())["web_push"] == "delivered"

        await eventually(is_delivered)
        titles = [one["title"] for one in (await http.get("/notifications/me")).json()["notifications"]]
        assert titles == ["It works", "Grüße"]

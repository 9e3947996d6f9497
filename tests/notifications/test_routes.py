"""The service over REST and over the WebSocket, in the real tree."""

from typing import Any

import pytest
import trio

from protocol.client import connect
from protocol.client.streams import ClientEvent
from protocol.notifications import NotificationEvent
from tests.notifications.store_kit import SUBSCRIPTION
from tests.server_fixture import RunningServer, eventually

pytestmark = pytest.mark.integration
WEB = {"device_id": "browser", "platform": "web", "subscription": SUBSCRIPTION, "timezone": "Europe/Berlin"}


async def test_devices_preferences_posts_lists_and_figures_over_rest(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        created = await http.post("/notifications/me/devices", json=WEB)
        assert created.status_code == 201
        assert created.json()["host"] == "push.example.org"
        assert "endpoint" not in created.text
        assert (await http.post("/notifications/me/devices", json={**WEB, "app_version": "2"})).status_code == 201
        devices = (await http.get("/notifications/me/devices")).json()["devices"]
        assert [(one["device_id"], one["app_version"]) for one in devices] == [("browser", "2")]

        preferences = {"min_priority": "high", "quiet_hours": {"start": "22:00", "end": "07:00"}}
        put = await http.put("/notifications/me/preferences", params={"device_id": "browser"}, json=preferences)
        assert put.json()["quiet_hours"]["end"] == "07:00"
        read = (await http.get("/notifications/me/preferences", params={"device_id": "browser"})).json()
        assert read["min_priority"] == "high"
        assert (await http.get("/notifications/me/preferences")).json()["min_priority"] == "debug"

        names = []
        for number in range(3):
            posted = await http.post(
                "/notifications/me", json={"template": "message", "fields": {"title": f"n{number}"}}
            )
            assert posted.status_code == 201
            names.append(posted.json()["notification_id"])
        page = (await http.get("/notifications/me", params={"limit": "2"})).json()
        assert [one["title"] for one in page["notifications"]] == ["n2", "n1"]
        rest = (await http.get("/notifications/me", params={"cursor": page["next"]})).json()
        assert [one["title"] for one in rest["notifications"]] == ["n0"]
        assert (await http.post(f"/notifications/me/{names[0]}/read")).json() == {"changed": 1, "unread": 2}
        body = {"notification_ids": names[:2], "opened": True}
        assert (await http.post("/notifications/me/read", json=body)).json() == {"changed": 1, "unread": 1}
        unread = (await http.get("/notifications/me", params={"unread_only": "true"})).json()["notifications"]
        assert [one["title"] for one in unread] == ["n2"]
        assert (await http.get("/notifications/me/badge")).json() == {
            "unread": 1,
            "total": 3,
            "unread_by_priority": {"medium": 1},
        }
        assert (await http.post("/notifications/me/read-all")).json()["unread"] == 0

        history = (await http.get("/notifications/me/history", params={"limit": "1"})).json()
        deliveries = {one["channel"]: one for one in history["entries"][0]["deliveries"]}
        assert deliveries["web_push"]["reason"] == "not wanted: min_priority"
        assert deliveries["in_app"]["state"] == "sent"
        figures = (await http.get("/notifications/me/statistics")).json()
        assert (figures["sent"], figures["failed"]) == (3, 0)
        assert figures["latency_ms"]["in_app"]["p99"] >= 0
        assert (await http.get("/notifications/me/dead-letters")).json() == {"dead_letters": []}

        assert (await http.delete("/notifications/me/devices/browser")).json() == {"removed": True}
        assert (await http.delete("/notifications/me/devices/browser")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/notifications/me", {"template": "digest"}, 422, "body.template"),
        ("POST", "/notifications/me", {"template": "message"}, 422, "body.fields.title"),
        ("POST", "/notifications/me", {"template": "message", "fields": {"title": 5}}, 422, "body.fields.title"),
        ("POST", "/notifications/me", {"template": "message", "fields": {"x": 5}}, 422, "body.fields.x"),
        (
            "POST",
            "/notifications/me",
            {"template": "message", "fields": {"title": "x" * 501}},
            422,
            "body.fields.title",
        ),
        ("POST", "/notifications/me/devices", {"platform": "web"}, 422, "body.subscription"),
        ("POST", "/notifications/me/devices", {"platform": "ios", "token": "ab" * 32}, 422, "body.device_id"),
        ("PUT", "/notifications/me/preferences", {"min_priority": "x"}, 422, "body.min_priority"),
        ("PUT", "/notifications/me/preferences?device_id=ghost", {}, 404, "data.device_id"),
        ("POST", "/notifications/me/read", {"notification_ids": []}, 422, "body.notification_ids"),
        ("POST", "/notifications/me/none/opened", {"device_id": "a b"}, 422, "body.device_id"),
        ("POST", "/notifications/me/none/delivered", {"device_id": "a"}, 404, None),
        ("POST", "/notifications/me/dead-letters/none/resend", None, 404, None),
        ("GET", "/notifications/me?limit=0", None, 422, "query.limit"),
        ("GET", "/notifications/me?limit=many", None, 422, "query.limit"),
        ("GET", "/notifications/me?unread_only=perhaps", None, 422, "query.unread_only"),
        ("GET", "/notifications/me?cursor=zzz", None, 422, "data.cursor"),
        ("GET", "/notifications/me/history?cursor=zzz", None, 422, "cursor"),
    ],
)
async def test_bad_input_is_refused_with_the_field(
    engineless_server: RunningServer, method: str, path: str, body: Any, status: int, field: str | None
) -> None:
    async with engineless_server.http() as http:
        answer = await http.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json().get("field") == field


async def test_an_idempotency_key_makes_a_post_one_notification(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        body = {"template": "message", "fields": {"title": "once"}}
        headers = {"Idempotency-Key": "k1"}
        first = await http.post("/notifications/me", json=body, headers=headers)
        second = await http.post("/notifications/me", json=body, headers=headers)
        assert first.json() == second.json()
        assert (await http.get("/notifications/me/badge")).json()["total"] == 1


async def test_the_same_commands_go_over_the_websocket(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http, engineless_server.peer(client_id="me") as peer:
        device = {"platform": "ios", "token": "ab" * 32}
        registered = await peer.ask("device_register", "1", device)
        assert registered["data"]["device_id"] == "default"
        posted = await http.post("/notifications/me", json={"template": "message", "fields": {"title": "hi"}})
        name = posted.json()["notification_id"]

        async def ask(kind: str, command_id: str, data: Any) -> Any:
            await peer.send(kind, command_id, data)
            while True:
                answer = await peer.receive()
                if answer.get("re") == command_id:
                    return answer

        listed = await ask("notification_list", "2", {})
        assert [one["title"] for one in listed["data"]["notifications"]] == ["hi"]
        assert (await ask("notification_read", "3", {"notification_ids": [name]}))["data"]["unread"] == 0
        assert (await ask("notification_read_all", "4", {}))["data"]["changed"] == 0
        assert (await ask("notification_preferences", "5", {}))["data"]["ai_notifications"] is True
        assert len((await ask("device_list", "6", {}))["data"]["devices"]) == 1
        assert (await ask("device_remove", "7", {"device_id": "default"}))["data"] == {"removed": True}
        refused = await ask("notification_list", "8", {"limit": 0})
        assert (refused["type"], refused["data"]["field"]) == ("error", "data.limit")


async def test_the_push_page_its_parts_and_its_key_are_served(engineless_server: RunningServer) -> None:
    async with engineless_server.http() as http:
        for path in ("/push", "/push/page.js", "/push/page.css", "/push/worker.js"):
            answer = await http.get(path)
            assert answer.status_code == 200
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert len((await http.get("/push/key")).json()["public_key"]) == 87


async def test_the_service_shows_itself_to_an_operator(engineless_server: RunningServer) -> None:
    for path, key in (
        ("notifications/dispatcher", "looks"),
        ("notifications/in_app", "noted"),
        ("notifications/web_push", "taken"),
        ("notifications/engine_monitor", "is_degraded"),
    ):
        snapshot = await engineless_server.snapshot(path)
        assert key in snapshot


async def test_a_connected_device_gets_it_as_an_event_and_its_acknowledgement_makes_it_delivered(
    engineless_server: RunningServer,
) -> None:
    async with (
        engineless_server.http() as http,
        connect(engineless_server.about.websocket_url, client_id="me", device_id="laptop", events=True) as client,
        client.events() as events,
    ):
        posted = await http.post("/notifications/me", json={"template": "message", "fields": {"title": "hi"}})
        with trio.fail_after(60):
            async for event in events:
                if isinstance(event, ClientEvent) and event.type == "notification":
                    assert isinstance(event.typed, NotificationEvent)
                    assert event.typed.notification.notification_id == posted.json()["notification_id"]
                    break
        # Asking for more implies that this one has been handled.
        with trio.move_on_after(0.01):
            await anext(events)

        async def is_delivered() -> bool:
            (entry,) = (await http.get("/notifications/me/history")).json()["entries"]
            return {one["device_id"]: one["state"] for one in entry["deliveries"]} == {
                "": "delivered",
                "laptop": "delivered",
            }

        await eventually(is_delivered)

"""Routes of notifications."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from quart import Response, jsonify, request
from quart_trio import QuartTrio

from actors.errors import CommandError
from actors.notifications.messages import (
    CountNotifications,
    ListDeadLetters,
    ListDevices,
    ListNotifications,
    MarkDelivery,
    NotificationRequest,
    PostNotification,
    ReadAllNotifications,
    ReadHistory,
    ReadNotifications,
    ReadStatistics,
    RegisterDevice,
    RemoveDevice,
    Resend,
    UsePreferences,
)
from actors.rest.conditional import ConditionalWrites, judges_conditions, set_tag, tag_of
from actors.rest.services import REST_DEVICE, Services, body_as, idempotency_key, identity
from protocol.codec import structure, unstructure
from protocol.errors import ErrorCode
from protocol.notifications import (
    DeliveryState,
    DeviceList,
    DeviceRegister,
    DeviceRemove,
    NotificationList,
    NotificationPost,
    NotificationPreferences,
    NotificationRead,
    NotificationReadAll,
    Preferences,
)
from protocol.validation import client_name

__all__ = ["register_notifications"]

ANSWER_SECONDS = 10.0


@frozen(kw_only=True)
class DeliveryReceipt:
    """Body of a delivery receipt from a device."""

    device_id: str = field(validator=client_name)


def register_notifications(app: QuartTrio, services: Services) -> None:
    """Register all routes under `/notifications/{client_id}`."""

    async def ask(message: NotificationRequest) -> Any:
        return await services.notifications.ask(message, timeout=ANSWER_SECONDS)

    async def owner(client_id: str) -> str:
        return (await identity(services, client_id)).client_id

    _register_reading(app, services, ask, owner)
    _register_devices(app, services, ask, owner)
    _register_history(app, ask, owner)


def _register_reading(app: QuartTrio, services: Services, ask: Any, owner: Any) -> None:
    @app.get("/notifications/<client_id>")
    async def list_notifications(client_id: str) -> Any:
        wanted = structure(
            {**_page(), **({"unread_only": _flag("unread_only")} if "unread_only" in request.args else {})},
            NotificationList,
            prefix="query",
        )
        page = await ask(ListNotifications(client_id=await owner(client_id), device_id=REST_DEVICE, data=wanted))
        return jsonify(unstructure(page))

    @app.post("/notifications/<client_id>")
    async def post_notification(client_id: str) -> Any:
        who = await identity(services, client_id)
        data: NotificationPost = await body_as(NotificationPost)
        key = await idempotency_key(who, "notification_post")
        posted = await ask(PostNotification(client_id=who.client_id, data=data, key=key))
        return jsonify(unstructure(posted)), 201

    @app.get("/notifications/<client_id>/badge")
    async def badge(client_id: str) -> Any:
        return jsonify(unstructure(await ask(CountNotifications(client_id=await owner(client_id)))))

    @app.post("/notifications/<client_id>/read")
    async def read_some(client_id: str) -> Any:
        who = await identity(services, client_id)
        data: NotificationRead = await body_as(NotificationRead)
        message = ReadNotifications(
            client_id=who.client_id,
            device_id=REST_DEVICE,
            data=data,
            key=await idempotency_key(who, "notification_read"),
        )
        return jsonify(unstructure(await ask(message)))

    @app.post("/notifications/<client_id>/read-all")
    async def read_all(client_id: str) -> Any:
        message = ReadAllNotifications(
            client_id=await owner(client_id), device_id=REST_DEVICE, data=NotificationReadAll()
        )
        return jsonify(unstructure(await ask(message)))

    @app.post("/notifications/<client_id>/<notification_id>/read")
    async def read_one(client_id: str, notification_id: str) -> Any:
        message = ReadNotifications(
            client_id=await owner(client_id),
            device_id=REST_DEVICE,
            data=NotificationRead(notification_ids=[notification_id[:64]]),
        )
        return jsonify(unstructure(await ask(message)))

    async def mark(client_id: str, notification_id: str, state: DeliveryState) -> Any:
        client_id = await owner(client_id)
        word: DeliveryReceipt = await body_as(DeliveryReceipt)
        message = MarkDelivery(
            client_id=client_id, notification_id=notification_id, device_id=word.device_id, state=state
        )
        return jsonify(unstructure(await ask(message)))

    @app.post("/notifications/<client_id>/<notification_id>/delivered")
    async def delivered(client_id: str, notification_id: str) -> Any:
        return await mark(client_id, notification_id, DeliveryState.DELIVERED)

    @app.post("/notifications/<client_id>/<notification_id>/opened")
    async def opened(client_id: str, notification_id: str) -> Any:
        return await mark(client_id, notification_id, DeliveryState.OPENED)


def _register_devices(app: QuartTrio, services: Services, ask: Any, owner: Any) -> None:
    @app.post("/notifications/<client_id>/devices")
    async def register(client_id: str) -> Any:
        who = await identity(services, client_id)
        data: DeviceRegister = await body_as(DeviceRegister)
        if data.device_id is None:
            raise CommandError(ErrorCode.INVALID_FIELD, "body.device_id is missing", field="body.device_id")
        message = RegisterDevice(
            client_id=who.client_id,
            device_id=data.device_id,
            data=data,
            key=await idempotency_key(who, "device_register"),
        )
        return jsonify(unstructure(await ask(message))), 201

    @app.get("/notifications/<client_id>/devices")
    async def list_devices(client_id: str) -> Any:
        message = ListDevices(client_id=await owner(client_id), device_id=REST_DEVICE, data=DeviceList())
        return jsonify(unstructure(await ask(message)))

    @app.delete("/notifications/<client_id>/devices/<device_id>")
    async def remove(client_id: str, device_id: str) -> Any:
        client_id = await owner(client_id)
        data = structure({"device_id": device_id}, DeviceRemove, prefix="path")
        removed = await ask(RemoveDevice(client_id=client_id, device_id=REST_DEVICE, data=data))
        if not removed.removed:
            raise CommandError(ErrorCode.NOT_FOUND, f"device {device_id} is not registered")
        return jsonify(unstructure(removed))

    @app.get("/notifications/<client_id>/preferences")
    async def get_preferences(client_id: str) -> Any:
        return await preferences(client_id, None)

    all_preferences = ConditionalWrites()

    @app.put("/notifications/<client_id>/preferences")
    @judges_conditions
    async def put_preferences(client_id: str) -> Any:
        client_id = await owner(client_id)
        wanted: Preferences = await body_as(Preferences)

        async def current() -> str:
            return tag_of(await preferences(client_id, None))

        async with all_preferences.writing((client_id, request.args.get("device_id", "")), current):
            response = await preferences(client_id, wanted)
        set_tag(response, tag_of(response))
        return response

    async def preferences(client_id: str, wanted: Preferences | None) -> Response:
        client_id = await owner(client_id)
        query = {"device_id": request.args["device_id"]} if "device_id" in request.args else {}
        of: NotificationPreferences = structure(query, NotificationPreferences, prefix="query")
        data = NotificationPreferences(preferences=wanted, device_id=of.device_id)
        used = await ask(UsePreferences(client_id=client_id, device_id=REST_DEVICE, data=data))
        response: Response = jsonify(unstructure(used))
        return response


def _register_history(app: QuartTrio, ask: Any, owner: Any) -> None:
    @app.get("/notifications/<client_id>/history")
    async def history(client_id: str) -> Any:
        wanted: NotificationList = structure(_page(), NotificationList, prefix="query")
        message = ReadHistory(client_id=await owner(client_id), cursor=wanted.cursor, limit=wanted.limit)
        return jsonify(unstructure(await ask(message)))

    @app.get("/notifications/<client_id>/statistics")
    async def statistics(client_id: str) -> Any:
        return jsonify(unstructure(await ask(ReadStatistics(client_id=await owner(client_id)))))

    @app.get("/notifications/<client_id>/dead-letters")
    async def dead_letters(client_id: str) -> Any:
        wanted: NotificationList = structure(_page(), NotificationList, prefix="query")
        message = ListDeadLetters(client_id=await owner(client_id), cursor=wanted.cursor, limit=wanted.limit)
        return jsonify(unstructure(await ask(message)))

    @app.post("/notifications/<client_id>/dead-letters/<notification_id>/resend")
    async def resend(client_id: str, notification_id: str) -> Any:
        resent = await ask(Resend(client_id=await owner(client_id), notification_id=notification_id))
        if not resent.resent:
            raise CommandError(ErrorCode.NOT_FOUND, "this notification has no failed delivery to resend")
        return jsonify(unstructure(resent))


def _page() -> dict[str, Any]:
    """`cursor` and `limit` of the query, for the codec to check."""
    page: dict[str, Any] = {}
    if "cursor" in request.args:
        page["cursor"] = request.args["cursor"]
    if "limit" in request.args:
        text = request.args["limit"]
        page["limit"] = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
    return page


def _flag(name: str) -> Any:
    text = request.args[name]
    return {"true": True, "1": True, "false": False, "0": False}.get(text, text)

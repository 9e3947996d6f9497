"""Registrations of devices at addresses that a client made up, and messages that are to be sent there."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.fuzzing.inputs import Input, draw_for

__all__ = ["PORT", "AddressInputs"]

PORT = b"{PRT}"
"""Stands for the receiver's port, which has as many digits."""
CLIENTS, DEVICES = 40, 6
INSIDE = (
    "localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "0.0.0.0", "0",
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[fe80::1]",
    "[fe80::1%25lo]", "[::1%lo]", "[0:0:0:0:0:0:0:1]", "ip6-localhost", "a.localhost", "localhost.localdomain", "127.0.0.1.nip.invalid",
    "①②⑦.⓪.⓪.①", "127。0。0。1", "%31%32%37.0.0.1", "localhost%00.example.org", "169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "192.168.0.1",
)  # fmt: skip
OUTSIDE = (
    "example.invalid", "bücher.invalid", "xn--bcher-kva.invalid", "xn--.invalid", "xn--\xff.invalid", "a" * 63 + ".invalid", "a" * 64 + ".invalid",
    "a." * 120 + "invalid", "-a.invalid", "a-.invalid", "_a.invalid", "a..invalid", ".invalid", "invalid.", "", ".", "..", "[", "]", "[]", "[::", "::1",
    "[v1.a]", "[1:2]", "a b", "a\tb", "a\0b", "ﷺ.invalid", "ß.invalid", "\u202e.invalid", "\u00ad.invalid", "١٢٧.٠.٠.١", "999.999.999.999", "1.2.3",
)  # fmt: skip
PORTS = (
    "",
    ":{PRT}",
    ":{PRT}",
    ":{PRT}",
    ":",
    ":0",
    ":1",
    ":443",
    ":65535",
    ":65536",
    ":-1",
    ":x",
    ":99999999999",
    ":٤٤٣",
    ":{PRT}:1",
)
USERS = ("",) * 8 + ("user@", "user:secret@", "@", "a@b@", "%40@", "example.org\\@")
PATHS = (
    "/fuzz",
    "/fuzz",
    "",
    "/",
    "/a/../b",
    "/%00",
    "/\r\nX: y",
    "/ü",
    "/?a=b",
    "/#c",
    "?q",
    "\\",
    "/" + "a" * 2100,
    "/ HTTP/1.1",
    "/{PRT}",
)
SCHEMES = ("https://",) * 12 + (
    "http://",
    "HTTPS://",
    "https:",
    "https:/",
    "//",
    "",
    "file://",
    "gopher://",
    "https:///",
    "hTTps://",
    "\thttps://",
)
KEYS = {
    "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
    "auth": "BTBZMqHH6r4Tts7J_aSIgg",
}


class AddressInputs:
    """`make(number)` is the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def make(self, number: int) -> Input:
        """The input of this number."""
        draw = draw_for(self.seed, number)
        client = f"a{draw.randrange(CLIENTS)}"
        if draw.random() < 0.25:
            message = {
                "template": "message",
                "fields": {"title": f"n{number}"},
                "priority": draw.choice(("critical", "high", "medium")),
            }
            return self._request(number, f"rest-post {client}", f"/notifications/{client}", message)
        device: dict[str, Any] = {"device_id": f"d{draw.randrange(DEVICES)}"}
        url = self._url(draw)
        if draw.random() < 0.6:
            device |= {"platform": "webhook", "url": url, "secret": "s" * 16}
        else:
            device |= {"platform": "web", "subscription": {"endpoint": url, "keys": dict(KEYS)}}
            if draw.random() < 0.1:
                device["subscription"]["keys"]["p256dh"] = draw.choice(("", "AAAA", "B" * 87, "é", "=" * 88))
        return self._request(
            number, f"rest-register {device['platform']} {url[:60]!r}", f"/notifications/{client}/devices", device
        )

    @staticmethod
    def _url(draw: random.Random) -> str:
        # Sound but for one or two parts, else all would be refused for the same few reasons.
        parts = ["https://", "", draw.choice(("localhost", "127.0.0.1", "[::1]", "a.invalid")), ":{PRT}", "/fuzz"]
        pools = (SCHEMES, USERS, INSIDE + OUTSIDE, PORTS, PATHS)
        for at in draw.choices(range(5), weights=(1, 1, 6, 2, 2), k=draw.choice((0, 1, 1, 2))):
            parts[at] = draw.choice(pools[at])
        if draw.random() < 0.1:
            at = draw.randrange(len(parts))
            parts[at] = parts[at] + chr(
                draw.choice((0, 9, 10, 32, 0x7F, 0xAD, 0xD800, 0x2028, 0xFF0F, 0x3002, draw.randrange(0x110000)))
            )
        return "".join(parts)

    @staticmethod
    def _request(number: int, kind: str, path: str, body: Any) -> Input:
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return Input(number, kind, (head.encode() + content,), must_answer=True)

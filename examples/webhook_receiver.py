"""Receive notifications as webhooks: python examples/webhook_receiver.py CERTIFICATE.pem KEY.pem [PORT]

Register it with `scripts/leanvibe notify devices --webhook https://HOST:PORT/ --secret SECRET` and give the same secret here in
WEBHOOK_SECRET. On a private address, or with a certificate of your own, the server needs `push_allow_private` and `push_ca_file`.
"""

import hashlib
import hmac
import json
import os
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ.get("WEBHOOK_SECRET", "0123456789abcdef").encode()
OLDEST_SECONDS = 300
MOST_BYTES = 64 * 1024
seen: set[str] = set()


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to what is genuine, recent or a repetition, and 4xx to the rest."""

    timeout = 10

    def do_POST(self) -> None:
        """One notification. It comes again, under the same id, until it is answered with 2xx."""
        size = int(self.headers.get("Content-Length") or 0)
        if not 0 < size <= MOST_BYTES:
            return self.answer(413)
        body = self.rfile.read(size)
        timestamp = self.headers.get("X-LeanVibe-Timestamp", "")
        signature = "v1=" + hmac.new(SECRET, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature, self.headers.get("X-LeanVibe-Signature", "")):
            return self.answer(401)
        if abs(time.time() - int(timestamp)) > OLDEST_SECONDS:
            return self.answer(400)
        notification = json.loads(body)
        if notification["notification_id"] not in seen:
            seen.add(notification["notification_id"])
            print(f"{notification['priority']}: {notification['title']} {notification['body']}".rstrip(), flush=True)
        return self.answer(204)

    def answer(self, status: int) -> None:
        """A status without a body."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Print notifications alone."""


certificate, key = sys.argv[1:3]
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[3]) if len(sys.argv) > 3 else 8443), Receiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(f"listening on https://localhost:{server.server_port}/", file=sys.stderr, flush=True)
server.serve_forever()

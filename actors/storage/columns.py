"""Tables and columns of the newest revision, to detect a database that only claims to be at it.

The services define their tables in their own folders, which storage does not import. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["COLUMNS", "TABLES"]

COLUMNS: Mapping[str, str] = {
    "access_tokens": "token_id name digest client_ids roles created_ms expires_ms revoked_ms is_local",
    "acknowledgements": "client_id device_id stream epoch seq time_ms",
    "assists": "stream client_id domain command_id conversation turn intent restart started_ms owner",
    "board_limits": "client_id project status most",
    "client_logs": "client_id epoch head",
    "conversations": (
        "client_id name created_ms updated_ms deleted_ms last_turn first_turn window_start bytes "
        "running_command running_stream leaf way_turns other_turns metadata version keeps_all"
    ),
    "events": "client_id seq type channel priority time_ms data bytes",
    "generations": (
        "stream client_id device_id command_id digest domain request prompt_tokens started_ms ended_ms text last owner"
    ),
    "idempotency": "client_id device_id command_id digest outcome head time_ms",
    "nodes": "node incarnation state seen_ms version model address",
    "notification_acknowledgements": "client_id device_id seq time_ms",
    "notification_clients": "client_id last_number preferences",
    "notification_deliveries": (
        "notification_id channel device_id client_id number state reason attempts due_ms released_ms sent_ms "
        "delivered_ms opened_ms digest_id"
    ),
    "notification_devices": (
        "client_id device_id channel address secret environment topic app_version device_model timezone "
        "locale preferences created_ms updated_ms due_ms"
    ),
    "notifications": "notification_id client_id number kind priority title body fields data created_ms read_ms is_digest",
    "responses": (
        "id client_id domain previous_id conversation_id created_ms ended_ms response restart ending text logprobs bytes owner"
    ),
    "subscriptions": "client_id device_id channels min_priority max_events_per_second batch_ms",
    "task_claims": "client_id from_assignee from_status holder lease task_id until_ms",
    "task_dependencies": "task_id depends_on place",
    "task_history": (
        "number client_id task_id project version kind time_ms device_id from_status to_status stay_ms cycle_ms changes"
    ),
    "task_tags": "task_id tag",
    "tasks": (
        "id client_id project title description status priority position tags attachments agent_decision "
        "assignee estimate_hours actual_hours due_ms confidence ai_analysis ai_analysis_status "
        "ai_analysis_confidence version created_ms updated_ms entered_ms started_ms due_told_ms search_text"
    ),
    "turns": "client_id name number role content prompt intent is_partial bytes time_ms parent item_id item",
}
"""Names of each table's columns."""
TABLES = frozenset({*COLUMNS, "conversation_items", "response_conversations"})
"""Those of every revision there was: what else is in a database is somebody else's."""

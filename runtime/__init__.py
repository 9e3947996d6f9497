"""Supervision for Trio: actors, mailboxes, references and OTP-like supervisors. See README.md."""

from runtime.actor import Actor, Context
from runtime.asking import ReplyPort
from runtime.dead_letters import DeadLetter, DeadLetters
from runtime.errors import (
    ActorDead,
    AskCycle,
    AskDeadline,
    AskFault,
    CapacityExceeded,
    ChildStuck,
    HandlerFailed,
    LinkedActorFailed,
    MailboxFull,
    Refused,
    RestartIntensityExceeded,
    RuntimeFault,
    SendFault,
    StartDeadlineExceeded,
    SupervisionFault,
    UnknownPath,
    UnsafeIntensity,
    WrongMessage,
)
from runtime.events import ChildEnded, ChildRestarting, ChildStarted, Event, StuckReport, SystemStopping
from runtime.mailbox import (
    MailboxSpec,
    MailboxStatistics,
    Overflow,
    block,
    conflate,
    drop_newest,
    drop_oldest,
    reject,
)
from runtime.messages import Down, DownReason, Request
from runtime.reference import ActorRef, DynamicRef
from runtime.restart_policy import Backoff
from runtime.specs import AutoShutdown, ChildSpec, DynamicSpec, Restart, Strategy, SupervisorSpec
from runtime.system import ActorSystem
from runtime.timers import Timer
from runtime.watchdog import Watchdog

__all__ = [
    "Actor",
    "ActorDead",
    "ActorRef",
    "ActorSystem",
    "AskCycle",
    "AskDeadline",
    "AskFault",
    "AutoShutdown",
    "Backoff",
    "CapacityExceeded",
    "ChildEnded",
    "ChildRestarting",
    "ChildSpec",
    "ChildStarted",
    "ChildStuck",
    "Context",
    "DeadLetter",
    "DeadLetters",
    "Down",
    "DownReason",
    "DynamicRef",
    "DynamicSpec",
    "Event",
    "HandlerFailed",
    "LinkedActorFailed",
    "MailboxFull",
    "MailboxSpec",
    "MailboxStatistics",
    "Overflow",
    "Refused",
    "ReplyPort",
    "Request",
    "Restart",
    "RestartIntensityExceeded",
    "RuntimeFault",
    "SendFault",
    "StartDeadlineExceeded",
    "Strategy",
    "StuckReport",
    "SupervisionFault",
    "SupervisorSpec",
    "SystemStopping",
    "Timer",
    "UnknownPath",
    "UnsafeIntensity",
    "Watchdog",
    "WrongMessage",
    "block",
    "conflate",
    "drop_newest",
    "drop_oldest",
    "reject",
]

"""All messages of the inference actor: from other services, from its engines and from its own timers."""

from __future__ import annotations

from actors.inference.engine_messages import EngineNews
from actors.inference.kernel_compiler import KernelsSettled
from actors.inference.messages import (
    DescribeGeneration,
    DetachStreams,
    InferenceRequest,
    IsGenerating,
    ReportProgress,
    SubscribeStream,
    UnsubscribeStream,
)
from actors.inference.settings import DeadlinePassed, IdleCheck
from actors.inference.stream_broker import DetachExpired

__all__ = ["InferenceMessage", "StreamMessage"]

StreamMessage = (
    SubscribeStream
    | UnsubscribeStream
    | DetachStreams
    | DetachExpired
    | IsGenerating
    | DescribeGeneration
    | ReportProgress
)
"""Requests about existing streams."""


InferenceMessage = InferenceRequest | EngineNews | KernelsSettled | IdleCheck | DeadlinePassed

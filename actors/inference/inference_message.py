"""Everything that the inference actor takes: from other rooms, from its engines, and from its own timers."""

from __future__ import annotations

from actors.inference.engine_messages import EngineIdle, EngineLoading, EngineReady, EngineStep
from actors.inference.messages import (
    CancelGeneration,
    Complete,
    DescribeEngine,
    DescribeGeneration,
    DetachStreams,
    FollowStream,
    IsGenerating,
    ListModels,
    LoadModel,
    MeasurePrompt,
    ReportProgress,
    StartGeneration,
    UnfollowStream,
    UnloadModel,
)
from actors.inference.room_settings import DeadlinePassed, IdleCheck
from actors.inference.stream_keeper import DetachExpired

__all__ = ["InferenceMessage", "StreamMessage"]

StreamMessage = (
    FollowStream | UnfollowStream | DetachStreams | DetachExpired | IsGenerating | DescribeGeneration | ReportProgress
)
"""What is about a stream that is there already."""


InferenceMessage = (
    StartGeneration
    | CancelGeneration
    | Complete
    | MeasurePrompt
    | StreamMessage
    | DescribeEngine
    | ListModels
    | LoadModel
    | UnloadModel
    | IdleCheck
    | EngineLoading
    | EngineReady
    | EngineStep
    | EngineIdle
    | DeadlinePassed
)

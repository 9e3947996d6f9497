"""Definitions for service managers: systemd units and a launchd agent, as text. Pure functions.

The units are hardened as `systemd-analyze security` recommends; each omission states its reason.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import field, frozen

__all__ = ["LABEL", "MARK", "ServicePlan", "launchd_agent", "systemd_service", "systemd_socket"]

MARK = "# Written by `leanvibe service install`; `leanvibe service uninstall` removes it."
LABEL = "leanvibe"
START_SECONDS = 900
"""The first start fetches the model and compiles."""
STOP_SECONDS = 40
"""More than the drain and what the server itself allows a stop; it ends by itself before that."""
WATCHDOG_SECONDS = 120
"""A model that is loaded again after a fault is no fault of the server."""

_HARDENING = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
    "# MemoryDenyWriteExecute stays off: the CPU kernels are compiled by numba at the first start, which needs memory that is written and",
    "# then executed. PrivateDevices stays off: an NVIDIA GPU is a device.",
)
_HARDENING_OF_THE_MACHINE = (
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "CapabilityBoundingSet=",
)
"""What takes rights away that a user's own service manager has not, and fails at."""


@frozen(kw_only=True)
class ServicePlan:
    """The command, its user, and the paths it may write to."""

    program: tuple[str, ...]
    """The command line before `serve`, absolute."""
    is_system: bool
    """For the whole machine, with a user of its own; otherwise for the user who installs it."""
    data_dir: Path | None = None
    """None takes the folder that the service manager makes (system), or the platform's (user)."""
    cache_dir: Path | None = None
    config: Path | None = None
    """Settings file."""
    environment: Mapping[str, str] = field(factory=dict)
    memory_max: str = "80%"
    """systemd's MemoryMax of all processes together."""
    host: str = "127.0.0.1"
    port: int = 8000
    ws_port: int = 8765
    has_socket: bool = False
    """Whether the manager listens and starts the server with the first connection."""


def systemd_service(plan: ServicePlan) -> str:
    """The `.service` unit."""
    environment = {name: _literal(value) for name, value in plan.environment.items()}
    state: list[str] = []
    if plan.is_system and plan.data_dir is None:
        state += ["DynamicUser=yes", "StateDirectory=leanvibe", "StateDirectoryMode=0700", "CacheDirectory=leanvibe"]
        state += ["ProtectHome=yes", "ProtectProc=invisible"]
        # A user without a home: everything that asks for one finds the folder of the state.
        environment |= {
            "HOME": "%S/leanvibe",
            "LEANVIBE_DATA_DIR": "%S/leanvibe",
            "LEANVIBE_CACHE_DIR": "%C/leanvibe",
        }
    else:
        writable = [one for one in (plan.data_dir, plan.cache_dir) if one is not None]
        # The dash: a folder that is gone is no reason not to start.
        state += [f"ReadWritePaths={' '.join(_quoted(_literal(f'-{one}')) for one in writable)}"] if writable else []
        environment |= {} if plan.data_dir is None else {"LEANVIBE_DATA_DIR": _literal(str(plan.data_dir))}
        environment |= {} if plan.cache_dir is None else {"LEANVIBE_CACHE_DIR": _literal(str(plan.cache_dir))}
    command = [*plan.program, "serve"]
    if plan.config is not None:
        command += ["--config", str(plan.config)]
    requires = [f"Requires={LABEL}.socket", f"After={LABEL}.socket"] if plan.has_socket else []
    lines = [
        MARK,
        "[Unit]",
        "Description=LeanVibe, a local AI assistant",
        *(["After=network.target", "Wants=network.target"] if plan.is_system else []),
        *requires,
        "# A port that is taken at boot may be free a little later.",
        "StartLimitIntervalSec=300",
        "StartLimitBurst=10",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={' '.join(_quoted(_literal(one).replace('$', '$$')) for one in command)}",
        "Restart=on-failure",
        "RestartSec=5",
        "# A wrong setting stays wrong.",
        "RestartPreventExitStatus=2",
        f"TimeoutStartSec={START_SECONDS}",
        f"TimeoutStopSec={STOP_SECONDS}",
        f"WatchdogSec={WATCHDOG_SECONDS}",
        "# The server ends its own processes, in order.",
        "KillMode=mixed",
        "# The server starts a worker again that the kernel has ended when memory ran out.",
        "OOMPolicy=continue",
        f"MemoryMax={plan.memory_max}",
        "TasksMax=512",
        "LimitNOFILE=65536",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in environment.items()),
        *state,
        *_HARDENING,
        *(
            _HARDENING_OF_THE_MACHINE
            if plan.is_system
            else ("# A user's own manager makes mounts in a namespace of users.", "PrivateUsers=yes")
        ),
        "",
        "[Install]",
        *([f"Also={LABEL}.socket"] if plan.has_socket else []),
        f"WantedBy={'multi-user.target' if plan.is_system else 'default.target'}",
    ]
    return "\n".join(lines) + "\n"


def systemd_socket(plan: ServicePlan) -> str:
    """The `.socket` unit; the order of its addresses is what the server expects."""
    host = f"[{plan.host.strip('[]')}]" if ":" in plan.host else plan.host
    lines = [
        MARK,
        "[Unit]",
        "Description=Sockets of LeanVibe",
        "",
        "[Socket]",
        "# REST, then the WebSocket.",
        f"ListenStream={host}:{plan.port}",
        f"ListenStream={host}:{plan.ws_port}",
        "NoDelay=yes",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    ]
    return "\n".join(lines) + "\n"


def launchd_agent(plan: ServicePlan, log: Path) -> bytes:
    """The property list of a launchd agent; what it prints goes to ``log``."""
    environment = dict(plan.environment)
    environment |= {} if plan.data_dir is None else {"LEANVIBE_DATA_DIR": str(plan.data_dir)}
    environment |= {} if plan.cache_dir is None else {"LEANVIBE_CACHE_DIR": str(plan.cache_dir)}
    command: Sequence[str] = [*plan.program, "serve"]
    if plan.config is not None:
        command = [*command, "--config", str(plan.config)]
    return plistlib.dumps(
        {
            "Label": LABEL,
            "ProgramArguments": list(command),
            "EnvironmentVariables": environment,
            "RunAtLoad": True,
            # Again after a failure, and not after `leanvibe service stop`.
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": STOP_SECONDS,
            "ProcessType": "Interactive",
            "StandardOutPath": str(log),
            "StandardErrorPath": str(log),
            "SoftResourceLimits": {"NumberOfFiles": 8192},
        }
    )


def _literal(text: str) -> str:
    """Text in which `%` begins no specifier."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Quote a word for a unit file (systemd.syntax(7))."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if not text or any(one in text for one in " \t\\\"'") else text

"""`traceparent` as OpenTelemetry's own propagator reads it, and the endpoint as its specification says."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from actors.command_line.main import leanvibe
from actors.settings import Settings, SettingsFault
from actors.tracing.endpoint import export_settings
from actors.tracing.trace_context import TraceContext, current_trace, parse_traceparent, parse_tracestate, within

VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = [
    VALID,
    VALID[:-2] + "00",
    VALID[:-2] + "ff",
    "cc" + VALID[2:] + "-of-a-later-version",
    VALID + "-more",
    "ff" + VALID[2:],
    VALID.upper(),
    "00-" + "0" * 32 + VALID[35:],
    VALID[:36] + "0" * 16 + "-01",
    VALID[:-1],
    VALID.replace("-", "_"),
    "",
    "nonsense",
    VALID.replace("a", "à"),
]


@pytest.mark.parametrize("header", HEADERS)
def test_tr1_traceparent_is_read_as_opentelemetry_reads_it(header: str) -> None:
    context = TraceContextTextMapPropagator().extract({"traceparent": header})
    theirs = get_current_span(context).get_span_context()
    ours = parse_traceparent(header)
    assert (ours is not None) == theirs.is_valid
    if ours is not None:
        assert int(ours.trace_id, 16) == theirs.trace_id
        assert int(ours.span_id, 16) == theirs.span_id
        assert ours.is_sampled == theirs.trace_flags.sampled
        assert ours.is_remote


@pytest.mark.parametrize(
    "lines",
    [
        ["congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"],
        ["congo=t61rcWkgMzE \t,  rojo=1,"],
        ["tenant@system=a b!", "1a@b=*/-_~"],
        ["a=1,A=2"],
        ["a=1,a=2"],
        ["a=,b=2"],
        ["a==1"],
        ["a=ä"],
        ["9=1"],
        ["a" * 257 + "=1"],
        ["a=" + "x" * 257],
        [",".join(f"k{number}=1" for number in range(33))],
        [""],
        [],
    ],
)
def test_tr15_tracestate_is_read_as_the_recommendation_says(lines: list[str]) -> None:
    carrier = {"traceparent": VALID, "tracestate": ",".join(lines)}
    theirs = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context().trace_state
    ours = parse_tracestate(lines)
    # Theirs keeps the valid members beside one that is not, where the recommendation lets all of them go.
    assert ours in (theirs.to_header(), "")
    if lines and lines[0][:6] in ("congo=", "tenant"):
        assert ours == theirs.to_header() != ""


def test_tr15_of_a_long_tracestate_long_members_go_first_and_then_the_oldest() -> None:
    long, short = "a=" + "x" * 200, [f"k{number}={'y' * 60}" for number in range(9)]
    assert parse_tracestate([",".join([long, *short])]) == ",".join(short[:8])
    assert parse_tracestate([f"{long},{short[0]}"]) == f"{long},{short[0]}"


def test_tr15_tracestate_goes_to_every_span_below() -> None:
    above = parse_traceparent(VALID, "congo=t61rcWkgMzE")
    assert above is not None
    assert above.child().child().state == "congo=t61rcWkgMzE"
    assert TraceContext("1" * 32, "1" * 16).child().state == ""


def test_a_child_stays_in_its_trace_and_what_was_current_comes_back() -> None:
    above = parse_traceparent(VALID)
    assert above is not None
    below = above.child()
    assert (below.trace_id, below.is_sampled, below.is_remote) == (above.trace_id, True, False)
    assert below.span_id != above.span_id
    with within(above):
        with within(below):
            assert current_trace() is below
        assert current_trace() is above
    assert current_trace() is None


OF_SETTINGS = "http://collector:4318"


@pytest.mark.parametrize(
    ("endpoint", "environment", "url"),
    [
        (None, {}, None),
        (OF_SETTINGS, {}, "http://collector:4318/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:4318/"}, "http://other:4318/v1/traces"),
        (OF_SETTINGS, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://other/x"}, "http://collector:4318/v1/traces"),
        (None, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://other/x"}, "https://other/x"),
        (OF_SETTINGS, {"OTEL_SDK_DISABLED": "true"}, None),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other", "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_tr2_the_endpoint_is_the_settings_or_the_environments(
    endpoint: str | None, environment: dict[str, str], url: str | None, tmp_path: Path
) -> None:
    found = export_settings(Settings(data_dir=tmp_path, trace_endpoint=endpoint), environment)
    assert (None if found is None else found.url) == url


def test_headers_and_resource_are_the_environments(tmp_path: Path) -> None:
    found = export_settings(
        Settings(data_dir=tmp_path, trace_endpoint=OF_SETTINGS),
        {
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20abc, x-a=1",
            "OTEL_SERVICE_NAME": "mine",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        },
    )
    assert found is not None
    assert found.headers == {"authorization": "Basic abc", "x-a": "1"}
    assert found.resource["service.name"] == "mine"
    assert found.resource["deployment.environment.name"] == "test"
    assert "abc" not in repr(found)


@pytest.mark.parametrize(
    ("endpoint", "environment", "named"),
    [
        ("collector:4318", {}, "trace_endpoint"),
        ("http://", {}, "trace_endpoint"),
        ("http://a b", {}, "trace_endpoint"),
        ("http://a:99999", {}, "trace_endpoint"),
        (OF_SETTINGS, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (OF_SETTINGS, {"OTEL_EXPORTER_OTLP_HEADERS": "secret"}, "OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_a_wrong_endpoint_is_named_and_not_quoted(
    endpoint: str, environment: dict[str, str], named: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsFault) as fault:
        export_settings(Settings(data_dir=tmp_path, trace_endpoint=endpoint), environment)
    assert named in str(fault.value)
    assert "secret" not in str(fault.value)


def test_a_server_with_a_wrong_endpoint_says_so_before_it_starts(tmp_path: Path) -> None:
    arguments = ["serve", "--check", "--engine", "mock", "--data-dir", str(tmp_path)]
    done = CliRunner().invoke(leanvibe, arguments, env={"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"})
    assert done.exit_code == 2
    assert "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL as http://127.0.0.1:4318" in done.stderr

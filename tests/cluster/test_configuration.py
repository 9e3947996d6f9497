"""Settings of a cluster: what is wrong with them is a sentence that says what to do and holds no password."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from actors.cluster.broker_check import require_broker
from actors.cluster.configuration import BrokerAddress, cluster_configuration
from actors.settings import Settings, SettingsFault
from actors.storage.database import database_url, open_engine
from actors.storage.errors import DatabaseHeld
from tests.redis_fixture import RedisProcess, redis_process
from tests.system.serving_process import leanvibe

SECRET = "s3cret"
HERE = f"postgresql://me:{SECRET}@127.0.0.1/x"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    place = tmp_path / "cluster.key"
    place.write_bytes(os.urandom(32))
    return place


def configured(tmp_path: Path, database: str | None = HERE, environment: Any = None, **given: Any) -> Any:
    settings = Settings(data_dir=tmp_path, database=database, **given)
    return cluster_configuration(settings, database_url(database, tmp_path), environment or {})


def test_cb1_a_server_without_a_broker_is_in_no_cluster_and_imports_nothing_of_one(tmp_path: Path) -> None:
    assert configured(tmp_path, database=None) is None
    program = (
        "import sys; from pathlib import Path; from actors.application import Listening, make_tree\n"
        "from actors.command_line.serve_cluster import checked_cluster\n"
        "from actors.settings import Settings; from actors.storage.database import database_url\n"
        "from actors.inspection.server_file import ServerFile; from runtime import ActorSystem; import socket\n"
        "settings = Settings(data_dir=Path(sys.argv[1]), engine='mock')\n"
        "checked_cluster(settings, database_url(None, settings.data_dir))\n"
        "about = ServerFile(pid=1, started_at='', rest_url='', websocket_url='', inspection_socket='', engine='mock',\n"
        "    model='mock', model_folder=None, certificate=None)\n"
        "tree = make_tree(ActorSystem(), settings, None, Listening(socket.socket(), socket.socket()), about)\n"
        "assert 'cluster' not in [one.id for one in tree.children]\n"
        "found = {'coredis', 'beartype', 'psycopg'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, timeout=60)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"broker": None, "cluster_key": None, "node": "a"}, "`node` is set and `broker` is not"),
        ({"broker": None, "cluster_key": Path("x")}, "`cluster_key` is set and `broker` is not"),
        ({"database": None}, 'set database = "postgresql://'),
        ({"database": "sqlite:////x"}, 'set database = "postgresql://'),
        ({"database": f"postgresql://me:{SECRET}@db.example/x"}, "db.example.*sslmode=verify-full"),
        ({"database": f"postgresql://me:{SECRET}@db.example/x?sslmode=prefer"}, "sslmode=verify-full"),
        ({"database": f"postgresql://me:{SECRET}@/x?host=127.0.0.1,10.0.0.1"}, r"10\.0\.0\.1.*sslmode"),
        ({"database": "postgresql:///x", "environment": {"PGHOST": "db.example"}}, "db.example.*sslmode"),
        ({"broker": "nonsense"}, "must begin with redis:// or rediss://"),
        ({"broker": f"rediss://me:{SECRET}@[::1"}, "is no URL"),
        ({"broker": f"rediss://me:{SECRET}@host:port"}, "is no URL"),
        ({"broker": f"redis://me:{SECRET}@10.0.0.1"}, r"10\.0\.0\.1.*use rediss://"),
        ({"broker": "redis://"}, "must name a host"),
        ({"broker": f"redis://:{SECRET}@localhost?db=1"}, "no options"),
        ({"broker": "redis://localhost/x"}, "a database number below 16"),
        ({"broker": "redis://localhost/16"}, "a database number below 16"),
        ({"broker_ca": Path("ca.pem")}, "use rediss://"),
        ({"broker": "rediss://localhost", "broker_ca": Path("/nowhere")}, "no readable certificate"),
        ({"cluster_key": None}, "needs `cluster_key`.*head -c 32"),
        ({"cluster_key": Path("/nowhere")}, "cannot be read.*head -c 32"),
        ({"cluster_key": Path("/dev/zero")}, "does not hold 32 random bytes"),
        ({"cluster_key": Path(__file__)}, "does not hold 32 random bytes"),
        ({"node": "a b"}, "1 to 63 letters"),
        ({"node": ""}, "1 to 63 letters"),
        ({"node": "a" * 64}, "1 to 63 letters"),
    ],
)
def test_cb2_a_wrong_setting_of_a_cluster_is_a_sentence_without_its_password(
    given: dict[str, Any], said: str, tmp_path: Path, key: Path
) -> None:
    with pytest.raises(SettingsFault, match=said) as refused:
        configured(tmp_path, **{"broker": "redis://localhost", "cluster_key": key, **given})
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"broker": "redis://me:p%40ss@[::1]:7000/3"},
        {"broker": "rediss://broker.example"},
        {"database": "postgresql:///x?host=/run/postgresql"},
        {"database": "postgresql:///x"},
        {"database": "postgresql://db.example/x?sslmode=verify-full"},
        {"database": "postgresql://db.example/x", "environment": {"PGSSLMODE": "require"}},
    ],
)
def test_what_is_right_is_taken(given: dict[str, Any], tmp_path: Path, key: Path) -> None:
    found = configured(tmp_path, **{"broker": "redis://localhost", "cluster_key": key, "node": "Mac-1", **given})
    assert found.node == "mac-1"
    assert found.key == key.read_bytes()
    assert (found.broker.tls is not None) == given.get("broker", "").startswith("rediss")
    if "p%40ss" in given.get("broker", ""):
        assert (found.broker.host, found.broker.port, found.broker.database) == ("::1", 7000, 3)
        assert (found.broker.username, found.broker.password) == ("me", "p@ss")
        assert str(found.broker) == "redis://[::1]:7000/3"
        assert "p@ss" not in repr(found)


@pytest.mark.integration
def test_cb3_a_broker_that_cannot_carry_a_cluster_is_refused_with_what_to_do(redis: RedisProcess) -> None:
    require_broker(redis.address)
    redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(SettingsFault, match=r"allkeys-lru.*set maxmemory-policy noeviction"):
        require_broker(redis.address)
    redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis.command("CONFIG", "SET", "requirepass", SECRET)
    for password in (None, "wrong"):
        with pytest.raises(SettingsFault, match="refused this node") as refused:
            require_broker(BrokerAddress(host="127.0.0.1", port=redis.port, password=password))
        assert SECRET not in str(refused.value)
    require_broker(BrokerAddress(host="127.0.0.1", port=redis.port, password=SECRET))
    redis.stop()
    with pytest.raises(SettingsFault, match=r"cannot be reached.*check that it runs there"):
        require_broker(redis.address)
    redis.go_on()
    redis.kill()
    with pytest.raises(SettingsFault, match=r"cannot be reached.*check that it runs there"):
        require_broker(redis.address)


def test_an_old_broker_is_refused_and_valkey_is_taken() -> None:
    from actors.cluster.broker_check import _problem

    good = {"maxmemory_policy": "noeviction"}
    assert "needs Redis 7" in str(_problem({**good, "redis_version": "6.2.14"}))
    assert _problem({**good, "redis_version": "7.0.15"}) is None
    assert _problem({**good, "redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.0.0"}) is None


@pytest.mark.integration
def test_a_broker_is_spoken_to_over_tls_and_only_by_whoever_can_prove_it(tmp_path: Path, key: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    with redis_process(
        "--tls-port", str(port), "--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem"),
        "--tls-auth-clients", "no",
    ):  # fmt: skip
        given = {"broker": f"rediss://localhost:{port}", "cluster_key": key}
        require_broker(configured(tmp_path, **given, broker_ca=tmp_path / "ca.pem").broker)
        with pytest.raises(SettingsFault, match=r"cannot be reached.*certificate"):
            require_broker(configured(tmp_path, **given).broker)


@pytest.mark.integration
def test_cb3_serve_and_its_check_end_with_the_sentence(tmp_path: Path, key: Path) -> None:
    given = {
        "LEANVIBE_BROKER": "redis://127.0.0.1:1",
        "LEANVIBE_CLUSTER_KEY": str(key),
        "LEANVIBE_DATABASE": HERE,
    }
    for words in (("serve", "--check"), ("serve",)):
        done = leanvibe(tmp_path, *words, **given)
        assert done.returncode == 2
        assert done.stderr.startswith("leanvibe: the broker at redis://127.0.0.1:1/0 cannot be reached")
        assert SECRET not in done.stderr
    done = leanvibe(tmp_path, "serve", **{**given, "LEANVIBE_DATABASE": "sqlite:////tmp/x"})
    assert done.returncode == 2
    assert "set database =" in done.stderr


@pytest.mark.integration
def test_cb4_nodes_share_a_database_and_keep_out_a_server_that_is_none(postgresql_database: URL) -> None:
    nodes = [open_engine(postgresql_database, writes=True, holder=f"node {n}", node=f"n{n}") for n in (1, 2)]
    alone = open_engine(postgresql_database, writes=True, holder="alone")
    try:
        with (
            nodes[0].connect(),
            nodes[1].connect(),
            pytest.raises(OperationalError, match="uses this database") as refused,
        ):
            alone.connect()
        assert isinstance(refused.value.__cause__, DatabaseHeld)
        for node in nodes:
            node.dispose()
        with alone.connect(), pytest.raises(OperationalError, match="the server at alone uses this database"):
            nodes[0].connect()
    finally:
        for one in (*nodes, alone):
            one.dispose()

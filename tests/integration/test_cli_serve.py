"""The services under `dalsegno serve`: killed in the middle of their work, stopped, started again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from tests.integration.cli_server import SERVICES, Served, completions, is_alive, serve, type_command, wait_for

from dalsegno.v1 import execution_service_pb2, execution_service_pb2_grpc

ITEMS = 200
MANY = f"""
version: '2.0'
many:
  input:
    - delay: 0.1
  tasks:
    work:
      with-items: i in <% range(0, {ITEMS}) %>
      concurrency: 10
      action: std.echo
      input:
        output: <% $.i %>
        delay: <% $.delay %>
      publish:
        sum: <% task().result.sum() %>
      on-success: tell
    tell:
      action: std.echo
      input: {{output: <% $.sum %>}}
      publish:
        told: <% task().result %>
  output:
    told: <% $.told %>
"""
UNSAFE = """
version: '2.0'
unsafe:
  input: [url, attempts]
  tasks:
    call:
      action: std.http
      input: {url: <% $.url %>, method: POST}
      retry: {count: <% $.attempts %>, delay: 0}
      publish:
        answer: <% task().result.content %>
      on-error: tell
    tell:
      action: std.noop
      publish:
        answer: nobody answered
  output:
    answer: <% $.answer %>
"""


def start(server: Served, *words: object) -> str:
    """Start an execution and return its id."""
    return server.type("start", *words).stdout.strip()


def count_done(server: Served, execution: str) -> int:
    """Return how many items have succeeded."""
    # Not through the program, whose start takes longer than what is to be caught in the middle.
    with grpc.insecure_channel(server.address) as channel:
        stub = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        request = execution_service_pb2.ListTasksRequest(execution_id=execution, filter="name=work")
        return sum(task.items.succeeded for task in stub.ListTasks(request, timeout=10).tasks)


@pytest.mark.parametrize("victims", [("engine",), ("executor",), ("api",), SERVICES], ids="+".join)
def test_killed_services_lose_nothing(tmp_path: Path, victims: tuple[str, ...]) -> None:
    """kill -9 in the middle of 200 tasks: the execution finishes, and the journal has every task completed once."""
    with serve(tmp_path / "data") as server:
        server.store(MANY, tmp_path)
        execution = start(server, "many")
        wait_for(lambda: count_done(server, execution) >= 20)

        server.kill(*victims)
        ended = server.type("watch", execution)

        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert server.read("show", execution)["output"] == {"told": sum(range(ITEMS))}
        done = completions(server.read("history", execution))
        assert set(done.values()) == {1}
        assert len(done) == ITEMS + 1
        told = server.told.read_text()
        assert all(f"{victim} runs again" in told for victim in victims)


class Endpoint(BaseHTTPRequestHandler):
    """Lets the first request wait for ever, and answers the others."""

    def do_POST(self) -> None:
        """Answer, unless this is the first request."""
        server = self.server
        assert isinstance(server, HangingServer)
        server.requests += 1
        if server.requests == 1:
            server.released.wait(60)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'"answered"')

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


class HangingServer(ThreadingHTTPServer):
    """Counts its requests."""

    daemon_threads = True
    requests = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.released = threading.Event()


@pytest.mark.parametrize(("attempts", "answer"), [(1, "answered"), (0, "nobody answered")])
def test_a_lost_action_that_is_not_safe_fails_and_names_its_executor(
    tmp_path: Path, attempts: int, answer: str
) -> None:
    """After kill -9 of its executor a POST is not repeated automatically; `retry` and `on-error` decide."""
    endpoint = HangingServer()
    threading.Thread(target=endpoint.serve_forever, daemon=True).start()
    try:
        with serve(tmp_path / "data") as server:
            server.store(UNSAFE, tmp_path)
            url = f"http://127.0.0.1:{endpoint.server_port}/"
            execution = start(server, "unsafe", "-i", f"url={url}", "-i", f"attempts={attempts}")
            wait_for(lambda: endpoint.requests == 1)

            server.kill("executor")
            ended = server.type("watch", execution)

            assert ended.returncode == 0, ended.stdout + ended.stderr
            assert server.read("show", execution)["output"] == {"answer": answer}
            lost, *others = server.read("action", "attempts", f"{execution}.1")
            assert (lost["state"], "executor-1" in lost["error"]) == ("ERROR", True)
            assert (endpoint.requests, len(others)) == (1 + attempts, attempts)
    finally:
        endpoint.released.set()
        endpoint.shutdown()
        endpoint.server_close()


def test_stopping_and_starting_again_goes_on(tmp_path: Path) -> None:
    """Ctrl-C ends all processes; with the same folder a new server finishes what the first one began."""
    with serve(tmp_path / "data") as server:
        server.store(MANY, tmp_path)
        execution = start(server, "many")
        wait_for(lambda: count_done(server, execution) >= 20)
        pids = [server.pid(service) for service in SERVICES]
        server.stop()

    assert not any(map(is_alive, pids))
    with serve(tmp_path / "data") as server:
        assert server.type("watch", execution).returncode == 0
        assert set(completions(server.read("history", execution)).values()) == {1}


def test_a_killed_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    """kill -9 of `dalsegno serve` itself ends its services too."""
    with serve(tmp_path / "data") as server:
        pids = [server.pid(service) for service in SERVICES]
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()

        wait_for(lambda: not any(map(is_alive, pids)))


def test_nohup_keeps_it_running(tmp_path: Path) -> None:
    """SIGHUP, which comes when the terminal is closed, ends it, unless it was started to ignore that."""
    with serve(tmp_path, before=("bash", "-c", 'trap "" HUP; exec "$@"', "bash")) as served:
        served.process.send_signal(signal.SIGHUP)
        assert served.type("list").returncode == 0
        assert served.process.poll() is None
    with serve(tmp_path) as served:
        served.process.send_signal(signal.SIGHUP)
        assert served.process.wait(40) == 0


def test_a_taken_address_is_said(tmp_path: Path) -> None:
    """A second server on the same address is refused with the option that chooses another."""
    with serve(tmp_path / "data") as server:
        ended = type_command("serve", "--data", tmp_path / "other", "--listen", server.address)

    assert ended.returncode != 0
    assert "--listen" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_second_server_on_a_folder_leaves_the_first_one_alone(tmp_path: Path) -> None:
    """It is refused in one sentence, and changes neither the process ids nor the logs that are there."""
    data = tmp_path / "data"
    free = ("--listen", "127.0.0.1:0", "--engine-listen", "127.0.0.1:0")
    with serve(data):
        before = {each.name: each.read_text() for each in data.glob("*.pid")}
        assert len(before) == 4
        ended = type_command("serve", "--data", data, *free)
        assert {each.name: each.read_text() for each in data.glob("*.pid")} == before
    assert ended.returncode == 1
    assert f"a server runs on the data folder {data} already" in " ".join(ended.stderr.split())
    assert "runs again" not in ended.stderr


def test_an_engine_that_stands_still_is_told_at_once(tmp_path: Path) -> None:
    """`serve` says that it is not ready and why, and that it is ready again; a command says the reason, too."""
    data = tmp_path / "data"
    with serve(data) as server:
        engine = int((data / "engine.pid").read_text())
        os.kill(engine, signal.SIGSTOP)
        try:
            wait_for(lambda: "not ready: the engine at" in server.told.read_text())
        finally:
            os.kill(engine, signal.SIGCONT)
        wait_for(lambda: "ready again" in server.told.read_text())


def test_an_older_log_is_not_told(tmp_path: Path) -> None:
    """What is shown of a log is what the service has written since this start; if that is nothing, this is said."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "engine.log").write_text("of yesterday\n")
    (tmp_path / "file").write_text("no folder")
    free = ("--listen", "127.0.0.1:0", "--engine-listen", "127.0.0.1:0")
    ended = type_command("serve", "--data", tmp_path, *free, "--database", f"sqlite:///{tmp_path}/file/x.db")
    assert "its log ends with:" in ended.stderr
    assert "of yesterday" not in ended.stderr


def test_a_database_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    """A service that ends each time it is started ends `serve` with the end of its log."""
    (tmp_path / "file").write_text("no folder")
    database = f"sqlite:///{tmp_path}/file/x.db"
    free = ("--listen", "127.0.0.1:0", "--engine-listen", "127.0.0.1:0")
    ended = type_command("serve", "--data", tmp_path, *free, "--database", database)

    assert ended.returncode == 5
    assert "ends each time it is started; its log ends with:" in ended.stderr


def test_a_damaged_database_is_told_once(tmp_path: Path) -> None:
    """A file that is no database ends `serve` at the first try, with one sentence and what to do: another start would
    not help."""
    (tmp_path / "dalsegno.db").write_bytes(b"no database" * 1_000)
    (tmp_path / "dalsegno.db").chmod(0o600)
    free = ("--listen", "127.0.0.1:0", "--engine-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0")
    ended = type_command("serve", "--data", tmp_path, *free)

    assert ended.returncode == 5
    assert "cannot run; its log ends with:" in ended.stderr
    assert ended.stderr.count("file is not a database") == 1
    assert "runs again" not in ended.stderr
    assert "next:  correct that first, or choose another folder with --data DIR" in ended.stderr


def test_pause_resume_and_cancel(tmp_path: Path) -> None:
    """A paused execution waits, a resumed one ends, and a cancelled one ends."""
    with serve(tmp_path / "data") as server:
        server.store(MANY, tmp_path)
        # Slow enough for commands to be typed while it runs, on a busy machine too.
        first, second = (start(server, "many", "-i", f"delay={delay}") for delay in (0.5, 2))
        wait_for(lambda: count_done(server, first) >= 10)
        server.type("pause", first, "--comment", "lunch")
        paused = server.type("watch", first, "--stop-at-pause")
        standing = count_done(server, first)

        server.type("cancel", second)
        cancelled = server.type("watch", second)
        still = count_done(server, first)
        server.type("resume", first)
        ended = server.type("watch", first)

        assert (paused.returncode, cancelled.returncode, ended.returncode) == (4, 3, 0)
        assert standing == still < ITEMS
        assert "lunch" in json.dumps(server.read("history", first))


def test_the_gateway_is_one_of_its_services(tmp_path: Path) -> None:
    """HTTP is served beside the api, and again after kill -9; without the gateway nothing is said of it."""
    with serve(tmp_path / "data") as server:
        found = re.search(r"^gateway +(\S+) +pid", server.told.read_text(), re.MULTILINE)
        assert found
        health = ["curl", "-sf", f"http://{found[1]}/healthz"]
        assert subprocess.run(health, capture_output=True, check=True).stdout == b'{"status":"SERVING"}\n'
        server.kill("gateway")
        wait_for(lambda: "gateway runs again" in server.told.read_text())
        wait_for(lambda: subprocess.run(health, capture_output=True, check=False).returncode == 0)
    with serve(tmp_path / "data", "--no-gateway") as server:
        assert "\ngateway " not in server.told.read_text()


def test_actions_get_the_address_of_its_gateway(tmp_path: Path) -> None:
    """callback_url() is where the gateway is reached, by any name that --public-url gives it."""
    text = "version: '2.0'\ncalls:\n  tasks:\n    call: {action: std.echo, input: {output: <% callback_url() %>}}\n"
    for options, host in (((), "127.0.0.1"), (("--public-url", "http://flows.example.com"), "flows.example.com")):
        with serve(tmp_path / host, *options) as server:
            server.store(text, tmp_path)
            execution = start(server, "calls")
            assert server.type("watch", execution).returncode == 0
            (attempt,) = server.read("action", "attempts", execution)
            address = attempt["result"]
            assert address.startswith(f"http://{host}")
            found = re.search(r"^gateway +(\S+) +pid", server.told.read_text(), re.MULTILINE)
            assert found
            reached = f"http://{found[1]}/hooks/token/{address.rpartition('/')[2]}"
            post = ["curl", "-s", "-w", " %{http_code}", "-H", f"host: {host}", "-X", "POST", reached]
            told = subprocess.run(post, capture_output=True, check=True, text=True).stdout
            assert told.endswith(" 200"), told  # the same again: it has succeeded

"""`samlet serve` as a process: it says where it listens, answers, and stops gently."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

pytest.importorskip("fastapi")
from samlet.cli import main
from samlet.cli.main import _parser
from samlet.cli.serve import _settings, _size
from samlet.errors import InputError


def settings_of(*words: str):
    return _settings(_parser().parse_args(["serve", *words]))


def test_it_serves_the_built_in_model_until_it_is_told_to_stop(sample):
    command = [sys.executable, "-m", "samlet", "serve", "--port", "0"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "SAMLET_TOKEN": ""}
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", line)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(
            "POST", "/v1/embeddings", sample("astronaut").read_bytes(), {"Content-Type": "image/jpeg"}
        )
        name = json.loads(connection.getresponse().read())["id"]
        connection.request("POST", f"/v1/embeddings/{name}/segment", json.dumps({"boxes": [0, 10, 490, 512]}))
        mask = json.loads(connection.getresponse().read())["masks"][0]
        assert mask["area"] > 50_000
        connection.request("GET", "/")
        page = connection.getresponse()
        assert page.status == 200 and b"<title>" in page.read()
        connection.close()
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[1]
    assert process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in rest


def test_defaults_are_safe(monkeypatch):
    monkeypatch.delenv("SAMLET_TOKEN", raising=False)
    settings = settings_of()
    assert set(settings.hosts) == {"localhost", "127.0.0.1", "[::1]"}
    assert settings.token is None and settings.label_studio_url is None and settings.frame_ancestors == ()
    assert settings.cache_bytes == 512 * 2**20 and settings.cache_url is None
    assert _parser().parse_args(["serve"]).host == "127.0.0.1"


def test_other_addresses_answer_to_any_name_unless_told(monkeypatch):
    assert settings_of("--host", "0.0.0.0").hosts == ()
    assert settings_of("--host", "0.0.0.0", "--allow-host", "Samlet.example").hosts == ("samlet.example",)
    assert "127.0.0.2" in settings_of("--host", "127.0.0.2").hosts


def test_secrets_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("SAMLET_TOKEN", "a-token-in-the-environment")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key")
    settings = settings_of("--label-studio", "http://127.0.0.1:8080")
    assert settings.token == "a-token-in-the-environment" and settings.label_studio_key == "key"
    assert "a-token" not in repr(settings) and "key'" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "size"), [("64M", 2**26), ("1g", 2**30), ("4GiB", 2**32), ("70000000", 70_000_000)]
)
def test_sizes(text, size):
    assert _size(text) == size


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--port", "99999"], "--port"),
        (["--port", "x"], "--port"),
        (["--workers", "0"], "--workers"),
        (["--cache-bytes", "lots"], "--cache-bytes"),
        (["--cache-bytes", "1M"], "at least 67,108,864 bytes"),
        (["--cache", "http://x"], "redis://"),
        (["--token", "short"], "at least 8"),
        (["--host", "no.such.host.invalid"], "listen on"),
        (["--allow-frame", "*; script-src *"], "origin"),
        (["--label-studio", "file:///data"], "http://HOST:PORT"),
        (["--label-studio", "http://user:pass@host"], "http://HOST:PORT"),
        (["--model", "nano", "--model", "nano"], "twice"),
        (["--model", "no-such-model"], "name of a model"),
    ],
)
def test_a_wrong_option_is_one_sentence(words, says, capsys, monkeypatch):
    monkeypatch.setenv("SAMLET_TOKEN", "")
    monkeypatch.setattr(socket, "getaddrinfo", _without_names(socket.getaddrinfo))
    code = main(["serve", "--port", "0", *words] if "--port" not in words else ["serve", *words])
    told = capsys.readouterr().err
    assert code in (2, 3) and says in told and told.count("\n") == 1, told


def _without_names(real):
    def getaddrinfo(host, *args, **kwargs):
        if host is not None and str(host).endswith(".invalid"):
            raise socket.gaierror(-2, "Name or service not known")
        return real(host, *args, **kwargs)

    return getaddrinfo


def test_a_port_in_use_is_said(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code = main(["serve", "--port", str(taken.getsockname()[1])])
    told = capsys.readouterr().err
    assert code == 2 and "in use" in told


def test_without_its_packages_it_says_which_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "samlet.server", None)
    assert main(["serve"]) == 3
    assert "samlet[server]" in capsys.readouterr().err


def test_settings_refuse_nonsense():
    from samlet.server.settings import Settings

    with pytest.raises(InputError):
        Settings(workers=0)

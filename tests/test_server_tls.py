"""`samlet serve --tls`: a certificate made once, a real handshake over loopback, and what is refused."""

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time

import pytest

pytest.importorskip("fastapi")
from samlet.cli import main
from samlet.errors import InputError, MissingExtraError
from samlet.server import tls
from samlet.server.settings import Settings
from tests.server_running import running


def has_package():
    try:
        import cryptography  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tls, "local_addresses", lambda: ["192.0.2.7"])  # tests have no way out to look up
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A certificate with its key, made once for the module."""
    try:
        content = tls._made(["localhost", "127.0.0.1", "::1"])
    except MissingExtraError:
        pytest.skip("needs openssl or cryptography")
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    path.write_bytes(content)
    return path


def trusting(path):
    context = ssl.create_default_context(cafile=str(path))
    assert context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED
    return context


def test_a_client_that_trusts_the_certificate_gets_the_page_and_one_that_does_not_gets_nothing(made):
    identity = tls.own(made)
    with running(settings=Settings(workers=2), identity=identity) as port:
        for name in ("localhost", "127.0.0.1"):
            connection = http.client.HTTPSConnection(name, port, timeout=30, context=trusting(made))
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.status == 200 and b"<title>samlet" in answer.read()
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            shown = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(binary_form=True))
            assert shown.strip() in made.read_text() and connection.sock.version() in ("TLSv1.2", "TLSv1.3")
            # The page's own requests name an origin that is https, too.
            connection.request("GET", "/v1/models", headers={"Origin": f"https://{name}:{port}"})
            assert connection.getresponse().status == 200
            connection.close()
        stranger = http.client.HTTPSConnection(
            "localhost", port, timeout=30, context=ssl.create_default_context()
        )
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.request("GET", "/")
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.request("GET", "/")
            plain.getresponse()


def test_the_fingerprint_is_that_of_the_certificate_shown(made):
    with (
        running(identity=tls.own(made)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=30) as raw,
    ):
        context = trusting(made)
        with context.wrap_socket(raw, server_hostname="localhost") as wrapped:
            der = wrapped.getpeercert(binary_form=True)
    import hashlib

    assert tls.own(made).fingerprint.replace(":", "").lower() == hashlib.sha256(der).hexdigest()
    assert re.fullmatch(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", tls.own(made).fingerprint)


def test_it_is_made_once_private_and_again_when_it_ends_or_is_damaged(cache, made, monkeypatch):
    calls = []
    monkeypatch.setattr(tls, "_made", lambda names: calls.append(names) or made.read_bytes())
    first = tls.self_signed()
    assert first.is_self_signed and first.certificate.is_relative_to(cache)
    assert (
        first.certificate.stat().st_mode & 0o077 == 0 and first.certificate.parent.stat().st_mode & 0o077 == 0
    )
    assert tls.self_signed() == first and len(calls) == 1
    assert {"localhost", "127.0.0.1", "::1", "192.0.2.7"} <= set(calls[0])
    long_ago = time.time() - (tls.DAYS - 1) * 86400
    os.utime(first.certificate, (long_ago, long_ago))
    tls.self_signed()
    assert len(calls) == 2
    first.certificate.write_text("damaged")
    tls.self_signed()
    assert len(calls) == 3


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(
            "_by_program",
            marks=pytest.mark.skipif(not __import__("shutil").which("openssl"), reason="openssl"),
        ),
        pytest.param("_by_package", marks=pytest.mark.skipif(not has_package(), reason="needs samlet[tls]")),
    ],
)
def test_both_ways_make_what_a_client_accepts(way, tmp_path):
    path = tmp_path / "one.pem"
    path.write_bytes(getattr(tls, way)(["localhost", "127.0.0.1", "::1", "a-name.local"]))
    assert path.read_text().count("PRIVATE KEY") == 2
    with running(identity=tls.own(path)) as port:
        connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=trusting(path))
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        names = {value for _, value in connection.sock.getpeercert()["subjectAltName"]}
        assert {"localhost", "127.0.0.1", "a-name.local"} <= names
        connection.close()


def test_without_openssl_and_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"samlet\[tls\]"):
        tls.self_signed()


def test_files_that_are_no_certificate_are_refused_in_one_sentence(tmp_path, made):
    text = made.read_text()
    key = text[: text.index("-----BEGIN CERT")]
    (tmp_path / "key.pem").write_text(key)
    (tmp_path / "certificate.pem").write_text(text[len(key) :])
    good = tls.own(tmp_path / "certificate.pem", tmp_path / "key.pem")
    assert good.fingerprint == tls.own(made).fingerprint and not good.is_self_signed
    (tmp_path / "other.pem").write_bytes(tls._made(["localhost"]))
    (tmp_path / "text.pem").write_text("hello")
    bad = [
        (tmp_path / "gone.pem", None),
        (tmp_path / "text.pem", None),
        (tmp_path / "certificate.pem", None),
        (tmp_path / "certificate.pem", tmp_path / "other.pem"),
        (tmp_path / "key.pem", tmp_path / "key.pem"),
    ]
    for certificate, private in bad:
        with pytest.raises(InputError, match="without a passphrase") as caught:
            tls.own(certificate, private)
        assert str(caught.value).count("\n") == 0 and "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--key", "k.pem"], "expected --certificate"),
        (["--certificate", "no.pem"], "expected a certificate in"),
    ],
)
def test_a_wrong_option_is_one_sentence(words, says, capsys):
    assert main(["serve", "--port", "0", *words]) == 2
    told = capsys.readouterr().err
    assert says in told and told.count("\n") == 1


def test_the_command_says_the_fingerprint_and_serves(made, cache):
    (cache / "tls").mkdir(parents=True)
    (cache / "tls" / "self-signed.pem").write_bytes(made.read_bytes())
    command = [sys.executable, "-m", "samlet", "serve", "--port", "0", "--tls"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "SAMLET_TOKEN": ""}
    )
    assert process.stderr is not None
    try:
        port = int(re.search(r"https://127\.0\.0\.1:(\d+)/", process.stderr.readline())[1])
        note = process.stderr.readline()
        assert "browsers warn" in note and tls.own(made).fingerprint in note
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=trusting(made))
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[1]
    assert "Traceback" not in rest

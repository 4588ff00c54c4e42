"""Certificates for `samlet serve --tls`: a browser gives its camera to secure pages only.

A certificate of one's own is signed by nobody, so browsers warn; whoever compares the fingerprint knows whom they talk
to. It is made once and kept in samlet's cache, because a browser that was told to trust it remembers that.
"""

import contextlib
import hashlib
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from samlet.atomic import atomic_write
from samlet.errors import InputError, MissingExtraError, OutputError
from samlet.store import cache_folder

DAYS = 397  # browsers accept no certificate for longer
_RENEW_SECONDS = (DAYS - 7) * 86400
_NAME = "samlet"
_OPENSSL_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server shows to prove who it is.

    Attributes:
        certificate: PEM file with the certificate, and what signed it.
        key: PEM file with the private key; may be the same.
        is_self_signed: Whether browsers will warn about it.
    """

    certificate: Path
    key: Path
    is_self_signed: bool

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as browsers show it: AA:BB: and so on."""
        text = self.certificate.read_text("ascii", "ignore")
        begin = text.index(ssl.PEM_HEADER)
        first = text[begin : text.index(ssl.PEM_FOOTER, begin) + len(ssl.PEM_FOOTER)]
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest().hex(":").upper()


def own(certificate: Path, key: Path | None = None) -> Identity:
    """Take a certificate that somebody signed.

    Args:
        certificate: PEM file.
        key: PEM file with its private key, without a passphrase; None if it is in the same file.

    Raises:
        InputError: They cannot be read, or do not belong together.
    """
    found = Identity(certificate, key or certificate, is_self_signed=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty passphrase: without it OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, found.key, password=lambda: b"")
        found.fingerprint  # noqa: B018  it is read from the same file
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "no certificate in it"
        raise InputError(
            f"expected a certificate in {str(certificate)!r:.120} with its key, without a passphrase, in "
            f"{str(found.key)!r:.120}, but they cannot be used "
            f"({str(reason).lower().replace('_', ' ')}); correct the files"
        ) from None
    return found


def self_signed() -> Identity:
    """Give this machine's own certificate, which is made at the first use and again when it is about to end.

    Raises:
        MissingExtraError: Neither the package cryptography nor the program openssl is there to make it.
        OutputError: The cache cannot be written.
    """
    path = cache_folder() / "tls" / "self-signed.pem"
    if not _is_good(path):
        content = _made(names())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o700)
        except OSError as error:
            raise OutputError(
                f"expected a folder {path.parent} to write to, but it cannot be made ({error.strerror}); "
                "set SAMLET_CACHE to a folder you may write to"
            ) from None
        atomic_write(path, content)
        path.chmod(0o600)
    return Identity(path, path, is_self_signed=True)


def names() -> list[str]:
    """Say under which names and addresses this machine is asked, those of the local network included."""
    found = ["localhost", "127.0.0.1", "::1"]
    host = socket.gethostname()
    if host.isascii() and host.replace("-", "").replace(".", "").isalnum():
        found.append(host.lower())
    return list(dict.fromkeys([*found, *local_addresses()]))


def local_addresses() -> list[str]:
    """Give the addresses by which others on the network reach this machine; nothing is sent to find them."""
    found = []
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))  # of a datagram socket: it only looks up the way there
            address = ipaddress.ip_address(probe.getsockname()[0].split("%")[0])
            if not (address.is_loopback or address.is_link_local or address.is_unspecified):
                found.append(str(address))
    return found


def _is_good(path: Path) -> bool:
    try:
        if time.time() - path.stat().st_mtime > _RENEW_SECONDS:
            return False
        own(path)
    except (OSError, InputError):
        return False
    return True


def _made(wanted: list[str]) -> bytes:
    """Make a key and a certificate: one PEM file, so that the two never come apart."""
    try:
        return _by_package(wanted)
    except ImportError:
        return _by_program(wanted)


def _by_package(wanted: list[str]) -> bytes:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    alternatives = [
        x509.IPAddress(ipaddress.ip_address(one)) if _is_address(one) else x509.DNSName(one) for one in wanted
    ]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(pem)


def _by_program(wanted: list[str]) -> bytes:
    program = shutil.which("openssl")
    if program is None:
        raise MissingExtraError(
            "expected cryptography or the program openssl to make a certificate, found neither; "
            "pip install 'samlet[tls]', or give --certificate and --key"
        )
    alternatives = ",".join(f"{'IP' if _is_address(one) else 'DNS'}:{one}" for one in wanted)
    with tempfile.TemporaryDirectory(prefix="samlet-tls-") as scratch:  # which only its owner may read
        key, certificate = Path(scratch, "key.pem"), Path(scratch, "certificate.pem")
        command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                   "-days", str(DAYS), "-subj", f"/CN={_NAME}", "-addext", f"subjectAltName={alternatives}",
                   "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
        try:
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                timeout=_OPENSSL_SECONDS,
                env={**os.environ, "RANDFILE": str(Path(scratch, "random"))},
            )
            return key.read_bytes() + certificate.read_bytes()
        except (subprocess.SubprocessError, OSError) as error:
            raise MissingExtraError(
                f"expected openssl to make a certificate, but it failed ({type(error).__name__}); "
                "pip install 'samlet[tls]', or give --certificate and --key"
            ) from None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

"""
A certificate for the TLS tests, and the functions that connect with it.
"""

from __future__ import annotations

import datetime
import importlib.util
import ipaddress
import socket
import ssl
import tempfile
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.trial.unittest import SkipTest

from .support import SECONDS

VERSIONS = "TLSv1_2", "TLSv1_3"
#: SSL_OPIGNORE_UNEXPECTED_EOF, which Python 3.9 sets with OpenSSL 3: a FIN then
#: passes for close_notify.
IGNORE_UNEXPECTED_EOF = 1 << 7


def needs(*modules: str) -> None:
    """
    Skip the test where one of C{modules} is missing.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise SkipTest(f"{module} is not installed")


@cache
def certificate() -> bytes:
    """
    A key and a self-signed certificate for C{localhost}, in PEM.
    """
    needs("cryptography", "OpenSSL")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    alternatives = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternatives, critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + signed.public_bytes(serialization.Encoding.PEM)


def certificateFile(test: Any) -> str:
    """
    The path of a file with the two, for as long as C{test} runs.
    """
    folder = tempfile.mkdtemp()
    test.addCleanup(rmtree, folder)
    path = Path(folder, "certificate.pem")
    path.write_bytes(certificate())
    return str(path)


def serverOptions(version: str = "TLSv1_3") -> Any:
    """
    The options with which a Twisted server speaks one version of TLS.
    """
    pem = certificate()
    from OpenSSL import SSL
    from twisted.internet.ssl import PrivateCertificate

    options = PrivateCertificate.loadPEM(pem).options()
    number = {"TLSv1_2": SSL.TLS1_2_VERSION, "TLSv1_3": SSL.TLS1_3_VERSION}[version]
    made = options.getContext()
    made.set_min_proto_version(number)
    made.set_max_proto_version(number)
    return options


def clientOptions() -> Any:
    """
    The options with which a Twisted client speaks TLS; it trusts the certificate.
    """
    pem = certificate()
    from twisted.internet.ssl import (
        Certificate,
        optionsForClientTLS,
        trustRootFromCertificates,
    )

    trusted = trustRootFromCertificates([Certificate.loadPEM(pem)])
    return optionsForClientTLS("localhost", trustRoot=trusted)


def context(version: str = "TLSv1_3") -> ssl.SSLContext:
    """
    The context with which Python's C{ssl} speaks TLS.
    """
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    pem = certificate().decode()
    found.load_verify_locations(cadata=pem[pem.index("-----BEGIN CERT") :])
    found.minimum_version = found.maximum_version = ssl.TLSVersion[version]
    found.options &= ~IGNORE_UNEXPECTED_EOF
    return found


def wrap(client: socket.socket, version: str = "TLSv1_3", **keywords: Any) -> Any:
    """
    TLS by Python's C{ssl}, to which a FIN without close_notify is an error.

    @param keywords: attributes of the context.
    """
    made = context(version)
    for name, value in keywords.items():
        setattr(made, name, value)
    return made.wrap_socket(
        client, server_hostname="localhost", suppress_ragged_eofs=False
    )


def isTruncation(error: ssl.SSLError) -> bool:
    """
    Is it a FIN without close_notify?  An C{SSLEOFError}, from Python 3.10 on.
    """
    return "eof" in str(error).lower()


def connectTLS(port: int, request: bytes) -> ssl.SSLSocket:
    """
    L{wrap} a new connection, and send.
    """
    client = wrap(socket.create_connection(("127.0.0.1", port), SECONDS))
    client.sendall(request)
    return client


def receiveTLS(client: ssl.SSLSocket) -> tuple[bytes, str]:
    """
    What arrives, and whether C{close_notify} or a bare FIN was behind it.
    """
    received, end = b"", "close_notify"
    with client:
        try:
            while data := client.recv(1 << 16):
                received += data
        except ssl.SSLZeroReturnError:  # close_notify, when ours is sent
            pass
        except ssl.SSLError as error:
            if not isTruncation(error):
                raise
            end = "FIN"
    return received, end

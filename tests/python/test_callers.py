"""Who may call: the real server with TLS and tokens, and the clients that people have."""

import base64
import datetime
import hashlib
import hmac
import ipaddress
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import adbc_driver_flightsql.dbapi as flightsql
import lineament
import pyarrow.flight as flight
import pytest
import readings
from program import REPOSITORY, Server, binary, fails, run
from test_errors import message_of

SQL = "SELECT sensor, value FROM reading WHERE sensor = 'a' ORDER BY valid_at"
ANSWER = {"sensor": ["a", "a"], "value": [1.0, 2.5]}
ISSUER = "https://issuer.example/"
AUDIENCE = "lineament"


def certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate for this machine that vouches for itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


def token(folder: Path, *arguments: object) -> str:
    return run(folder / "store", "token", "create", "--tokens", folder / "tokens.toml", *arguments).strip()


class Guarded:
    """A server that asks its callers who they are, over TLS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate, self.key = certificate(folder)
        self.ada, self.bob = token(folder, "--principal", "ada"), token(folder, "--principal", "bob")
        self.expired = token(folder, "--principal", "eve", "--expires", "1s")
        self.server = Server(
            folder / "store", "--host", "0.0.0.0", "--tls-cert", self.certificate, "--tls-key", self.key,
            "--tokens", folder / "tokens.toml",
        )  # fmt: skip
        assert re.fullmatch(r"grpc\+tls://0\.0\.0\.0:\d+", self.server.url), self.server.url
        self.url = self.server.url.replace("0.0.0.0", "localhost")

    def connect(self, token: str | None, **options) -> lineament.Client:
        return lineament.connect(self.url, token=token, tls_root_certs=self.certificate, **options)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    guarded = Guarded(tmp_path_factory.mktemp("guarded"))
    with guarded.server:
        with guarded.connect(guarded.ada) as client:
            client.apply(readings.DEFINITIONS)
            client.ingest("reading", readings.rows())
        yield guarded


@pytest.fixture(autouse=True)
def no_token_around(monkeypatch):
    monkeypatch.delenv("LINEAMENT_TOKEN", raising=False)
    monkeypatch.delenv("LINEAMENT_TLS_ROOT_CERTS", raising=False)


def test_elsewhere_than_loopback_needs_both(tmp_path):
    cert, key = certificate(tmp_path)
    token(tmp_path, "--principal", "ada")
    tls, tokens = ("--tls-cert", cert, "--tls-key", key), ("--tokens", tmp_path / "tokens.toml")
    for options, missing in (
        ((), "give --tls-cert and --tls-key, and --tokens, --jwt-jwks or --jwt-key"),
        (tls, "give --tokens, --jwt-jwks or --jwt-key ("),
        (tokens, "give --tls-cert and --tls-key ("),
    ):
        said = fails(tmp_path / "store", "serve", "--port", 0, "--host", "0.0.0.0", *options)
        assert missing in said and "docs/security.md" in said, said
    for options, says in (
        (("--tls-cert", cert), "--tls-key"),
        (("--jwt-key", key), "--jwt-issuer"),
        # What is said of tokens and cannot count is not passed over.
        (("--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE), "--jwt-jwks"),
        (("--jwt-jwks", key, "--jwt-key", key, "--jwt-issuer", "x", "--jwt-audience", "y"), "cannot be used with"),
        ((*tokens, "--jwt-key", key, "--jwt-issuer", "x", "--jwt-audience", "y"), "cannot be used with"),
        (("--tls-cert", key, "--tls-key", cert), "no CERTIFICATE"),
        (("--tokens", tmp_path / "nothing"), "nothing"),
    ):
        said = fails(tmp_path / "store", "serve", "--port", 0, *options)
        assert says in said, said


def test_the_python_client(guarded, monkeypatch):
    with guarded.connect(guarded.ada) as client:
        assert client.sql(SQL).to_arrow().to_pydict() == ANSWER
        assert guarded.ada not in repr(client) and guarded.ada not in repr(client._access)
        training_set = client.get_historical_features(readings.spine(), ["reading.value"])
        assert client.with_run("nightly").training_set(training_set.id).digest == training_set.digest
    monkeypatch.setenv("LINEAMENT_TOKEN", guarded.bob)
    monkeypatch.setenv("LINEAMENT_TLS_ROOT_CERTS", str(guarded.certificate))
    with lineament.connect(guarded.url) as client:
        client.get_historical_features(readings.spine(), ["reading.grade"], name="bob's")
        writers = client.sql("SELECT sequence, principal FROM lineament.log ORDER BY sequence").to_arrow().to_pydict()
        sets = client.sql("SELECT name, principal FROM lineament.training_sets").to_arrow().to_pylist()
    assert writers["principal"][1:3] == ["ada", "ada"] and "bob" in writers["principal"], writers
    assert {"name": "bob's", "principal": "bob"} in sets


def test_what_is_wrong_says_what_to_do(guarded, tmp_path):
    without = message_of(lineament.Unauthenticated, lambda: guarded.connect(None))
    assert "token=" in without and "LINEAMENT_TOKEN" in without
    unknown = message_of(lineament.Unauthenticated, lambda: guarded.connect("lmt_" + "0" * 64))
    assert "none that this server knows" in unknown and "0000" not in unknown
    time.sleep(1.1)
    assert "expired at" in message_of(lineament.Unauthenticated, lambda: guarded.connect(guarded.expired))
    for wrong in ("a b", "tökén", "a\nb"):
        said = message_of(lineament.InvalidRequest, lambda wrong=wrong: guarded.connect(wrong))
        assert "characters" in said and wrong not in said
    (tmp_path / "other").mkdir()
    stranger, _ = certificate(tmp_path / "other")
    for roots in (stranger, None):
        said = message_of(
            lineament.Unavailable,
            lambda roots=roots: lineament.connect(guarded.url, token=guarded.ada, tls_root_certs=roots),
        )
        assert "tls_root_certs=" in said, said
    with pytest.raises(lineament.InvalidRequest, match="cannot be read"):
        lineament.connect(guarded.url, token=guarded.ada, tls_root_certs=tmp_path / "nothing.pem")
    with pytest.raises(lineament.InvalidRequest, match="not PEM"):
        lineament.connect(guarded.url, token=guarded.ada, tls_root_certs=b"rubbish")
    # A token never leaves this machine in clear.
    with pytest.raises(lineament.InvalidRequest, match="is not encrypted"):
        lineament.connect("grpc://192.0.2.1:8815", token=guarded.ada)
    plain = guarded.url.replace("grpc+tls", "grpc")
    assert "grpc+tls" in message_of(lineament.Unavailable, lambda: lineament.connect(plain, token=guarded.ada))


def test_plain_pyarrow(guarded):
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {guarded.ada}".encode())])
    other = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {guarded.bob}".encode())])
    with flight.connect(guarded.url, tls_root_certs=guarded.certificate.read_bytes()) as plain:
        info = plain.get_flight_info(flight.FlightDescriptor.for_command(SQL), options)
        ticket = info.endpoints[0].ticket
        assert b"SELECT" not in ticket.ticket
        assert plain.do_get(ticket, options).read_all().to_pydict() == ANSWER
        with pytest.raises(flight.FlightUnauthorizedError, match="another caller than `bob`"):
            plain.do_get(ticket, other).read_all()
        for ask in (
            lambda: plain.do_get(flight.Ticket(json.dumps({"sql": SQL}))).read_all(),
            lambda: list(plain.list_flights()),
            lambda: list(plain.list_actions()),
            lambda: list(plain.do_action(flight.Action("lineament.status", b"{}"))),
            lambda: plain.get_schema(flight.FlightDescriptor.for_command(SQL)),
        ):
            # pyarrow gives the errors of get_schema a class of their own.
            with pytest.raises((flight.FlightUnauthenticatedError, OSError), match="needs a token"):
                ask()
        with pytest.raises(flight.FlightUnauthenticatedError):
            plain.authenticate_basic_token("ada", "secret")


def test_adbc(guarded):
    from adbc_driver_flightsql import DatabaseOptions

    def options(token: str) -> dict[str, str]:
        return {
            DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}",
            DatabaseOptions.TLS_ROOT_CERTS.value: guarded.certificate.read_text(),
        }

    with flightsql.connect(guarded.url, db_kwargs=options(guarded.ada)) as connection, connection.cursor() as cursor:
        cursor.execute(SQL)
        assert cursor.fetch_arrow_table().to_pydict() == ANSWER
        # Prepared, with a parameter bound into its sealed handle.
        cursor.execute("SELECT count(*) AS n FROM reading WHERE sensor = ?", parameters=("a",))
        assert cursor.fetchone() == (2,)
    with pytest.raises(Exception, match="(?i)unauthenticated|needs a token|none that this server knows"):
        with flightsql.connect(guarded.url, db_kwargs=options("lmt_" + "1" * 64)) as connection:
            with connection.cursor() as cursor:
                cursor.execute(SQL)
                cursor.fetchall()


def jwt(key, claims: dict, **header: str) -> str:
    """A token signed with RSA, as most identity providers do."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    def part(text: bytes) -> str:
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    message = f"{part(json.dumps({'alg': 'RS256', **header}).encode())}.{part(json.dumps(claims).encode())}"
    signature = key.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{message}.{part(signature)}"


def rsa_key(folder: Path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "issuer.pem").write_bytes(public)
    return key


def test_tokens_of_an_identity_provider(tmp_path):
    key = rsa_key(tmp_path)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "sub": "1", "email": "ada@example.org"}
    options = ("--jwt-key", tmp_path / "issuer.pem", "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    # On loopback too, and without TLS there.
    with Server(tmp_path / "store", *options, "--jwt-principal-claim", "email") as server:
        assert server.url.startswith("grpc://127.0.0.1:")
        with lineament.connect(server.url, token=jwt(key, claims)) as client:
            client.apply(readings.DEFINITIONS)
            principals = client.sql("SELECT principal FROM lineament.log ORDER BY sequence").to_arrow()["principal"]
            assert principals.to_pylist()[-1] == "ada@example.org"
        late = jwt(key, {**claims, "exp": int(time.time()) - 61})
        assert "expired" in message_of(lineament.Unauthenticated, lambda: lineament.connect(server.url, token=late))
        other = jwt(key, {**claims, "aud": "other"})
        assert "aud" in message_of(lineament.Unauthenticated, lambda: lineament.connect(server.url, token=other))
        (tmp_path / "thief").mkdir()
        forged = jwt(rsa_key(tmp_path / "thief"), claims)
        assert "signature" in message_of(
            lineament.Unauthenticated, lambda: lineament.connect(server.url, token=forged)
        )
        # The public key taken for a shared secret.
        body = forged.split(".")[1]
        head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256"}).encode()).rstrip(b"=").decode()
        secret = (tmp_path / "issuer.pem").read_bytes()
        mac = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
        swapped = f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert "algorithm" in message_of(
            lineament.Unauthenticated, lambda: lineament.connect(server.url, token=swapped)
        )


def test_no_secret_is_ever_said(tmp_path):
    """Whatever a server logs at its most talkative, no token and no key is in it."""
    cert, key_file = certificate(tmp_path)
    planted = [token(tmp_path, "--principal", "ada"), "lmt_" + "5ec2e7" * 10 + "dead", "0ld-basic-5ec2e7-password"]
    environment = {**os.environ, "LINEAMENT_LOG": "trace", "NO_COLOR": "1"}
    arguments = (
        "--store", tmp_path / "store", "serve", "--port", "0", "--tls-cert", cert, "--tls-key", key_file,
        "--tokens", tmp_path / "tokens.toml", "--ticket-key", tmp_path / "ticket.key",
    )  # fmt: skip
    process = subprocess.Popen(
        [str(binary()), *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=(tmp_path / "log").open("w"), text=True,
    )  # fmt: skip
    try:
        url = process.stdout.readline().removeprefix("listening on ").strip()
        ticket = None
        with flight.connect(url, tls_root_certs=cert.read_bytes()) as plain:
            for secret in planted:
                for header in (f"Bearer {secret}", f"Basic {secret}", secret, f"Bearer {secret} {secret}"):
                    options = flight.FlightCallOptions(headers=[(b"authorization", header.encode())])
                    try:
                        info = plain.get_flight_info(flight.FlightDescriptor.for_command("SELECT 1"), options)
                        ticket = info.endpoints[0].ticket.ticket
                        plain.do_get(info.endpoints[0].ticket, options).read_all()
                    except flight.FlightError as error:
                        assert secret not in str(error)
        assert ticket is not None, "the good token was let in"
    finally:
        process.terminate()
        rest = process.communicate(timeout=30)[0]
    said = rest + (tmp_path / "log").read_text()
    assert "a call was not let in" in said and "listening" in said and "principal=" in said
    secrets = [*planted, (tmp_path / "ticket.key").read_text().strip()]
    secrets += [line for line in key_file.read_text().splitlines() if not line.startswith("-")]
    for secret in secrets:
        assert secret not in said and secret.removeprefix("lmt_") not in said, secret
    stored = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert not [secret for secret in planted if secret.encode() in stored]


def test_token_create(tmp_path):
    file = tmp_path / "tokens.toml"
    made = token(tmp_path, "--principal", "ada", "--role", "reader", "--expires", "2099-01-01T00:00:00Z")
    assert re.fullmatch(r"lmt_[0-9a-f]{64}", made)
    text = file.read_text()
    assert made not in text and 'principal = "ada"' in text and "2099-01-01T00:00:00Z" in text
    assert file.stat().st_mode & 0o077 == 0
    for wrong, says in (
        (("--principal", ""), "principal"),
        (("--principal", "a\nb"), "one line"),
        (("--principal", "ada", "--expires", "yesterday"), "as 90d"),
        (("--principal", "ada", "--expires", "2001-01-01T00:00:00Z"), "never count"),
    ):
        said = fails(tmp_path / "store", "token", "create", "--tokens", file, *wrong)
        assert says in said, said
    assert file.read_text() == text


def test_the_page_about_security_runs(tmp_path):
    """The ten lines that set a server up, as docs/security.md shows them."""
    page = (REPOSITORY / "docs" / "security.md").read_text()
    shell = re.search(r"```sh\n(.*?)```", page, re.DOTALL).group(1)
    python = re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1)
    script = tmp_path / "set_up.sh"
    script.write_text(shell.replace("lineament ", f"{binary()} ").replace("--port 8815", "--port 0"))
    process = subprocess.Popen(
        ["bash", "-eu", str(script)], cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        url = process.stdout.readline().removeprefix("listening on ").strip()
        assert url.startswith("grpc+tls://0.0.0.0:"), url
        code = python.replace("grpc+tls://localhost:8815", url.replace("0.0.0.0", "localhost"))
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "ada" in done.stdout, done.stdout + done.stderr
    finally:
        os.killpg(process.pid, 15)
        process.communicate(timeout=30)

"""Keys of a KMS: a double of AWS's in a server of its own, spoken to by its own client, and one of Google's here."""

import os
import secrets
from concurrent import futures
from dataclasses import replace
from typing import Any

import grpc
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ports import LOOPBACK, find_ports
from small_runs import PROCESSES

from pipeline.errors import MeterveilError
from pipeline.keys import SECRET_ACCESS, create_keyset, open_keyset, rewrap_keyset

boto3 = pytest.importorskip("boto3", reason="no client of AWS: pip install '.[kms]'")
moto = pytest.importorskip("moto.server", reason="no double of AWS: pip install '.[kms]'")
_NONCE = bytes(12)


@pytest.fixture
def aws(monkeypatch):
    """A KMS of AWS's kind, for this process and all that it starts; gives its client."""
    (port,) = find_ports(1)
    server = moto.ThreadedMotoServer(ip_address=LOOPBACK, port=port, verbose=False)
    server.start()
    for name, value in {
        "AWS_ENDPOINT_URL_KMS": f"http://{LOOPBACK}:{port}",
        "AWS_ACCESS_KEY_ID": "user",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(8),
        "AWS_REGION": "eu-north-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield boto3.client("kms", region_name="eu-north-1")
    server.stop()


def make_key(aws) -> str:
    return "aws-kms://" + aws.create_key()["KeyMetadata"]["Arn"]


def reveal(path, kek) -> bytes:
    return open_keyset(path, kek).primary.secret.reveal(SECRET_ACCESS)


def test_a_keyset_opens_with_the_key_of_aws_that_it_was_made_with(aws, tmp_path):
    kek, path = make_key(aws), tmp_path / "keyset.json"
    aws.create_alias(AliasName="alias/lake", TargetKeyId=kek.rpartition("/")[2])
    create_keyset(path, kek)
    secret = reveal(path, kek)
    assert len(secret) == 32
    assert secret not in path.read_bytes()
    assert reveal(path, kek) == reveal(path, "aws-kms://alias/lake") == secret
    assert [file.name for file in tmp_path.iterdir()] == ["keyset.json"]


def test_another_key_of_aws_or_a_changed_date_does_not_open_it(aws, tmp_path):
    kek, path = make_key(aws), tmp_path / "keyset.json"
    create_keyset(path, kek)
    with pytest.raises(MeterveilError, match=r"does not open key|the KMS refuses"):
        open_keyset(path, make_key(aws))
    text = path.read_text()
    path.write_text(text.replace('"active_from": "0001-01-01"', '"active_from": "2026-01-01"'))
    assert path.read_text() != text
    with pytest.raises(MeterveilError, match="the key-encryption key does not open key"):
        open_keyset(path, kek)


def test_what_aws_refuses_and_an_aws_that_is_away_are_a_line(aws, tmp_path, monkeypatch):
    kek, path = make_key(aws), tmp_path / "keyset.json"
    create_keyset(path, kek)
    with pytest.raises(
        MeterveilError, match=r"^aws-kms://alias/none: the KMS refuses: NotFoundException; .*kms:Decrypt"
    ):
        open_keyset(path, "aws-kms://alias/none")
    monkeypatch.setattr("pipeline.kms_aws.ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://{LOOPBACK}:{find_ports(1)[0]}")
    with pytest.raises(MeterveilError, match="the KMS can't be asked: EndpointConnectionError; see that credentials"):
        open_keyset(path, kek)


@pytest.mark.long
def test_a_run_whose_workers_ask_aws_has_the_rows_of_one_with_a_kek_in_a_file(aws, fleet, tmp_path):
    kek, path = make_key(aws), tmp_path / "keyset.json"
    rewrap_keyset(fleet.keys["keyset"], str(fleet.keys["kek"]), path, kek)
    moved = replace(fleet, keys={"keyset": path, "kek": kek})
    for part in (1, 2):
        done = moved.run(tmp_path / "lake", part, *PROCESSES)
        assert done.returncode == 0, done.stderr
    assert fleet.compare(tmp_path / "lake") == []


class Google:
    """What Google Cloud KMS does with a symmetric key, by its published interface."""

    def __init__(self, kms: Any) -> None:
        self.kms = kms
        self.keys = {"projects/p/locations/l/keyRings/r/cryptoKeys/" + name: os.urandom(32) for name in ("one", "two")}

    def encrypt(self, request, context):
        if "/keyRings/" not in request.name:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such form of a name")
        sealed = self._find(request, context).encrypt(_NONCE, request.plaintext, request.additional_authenticated_data)
        return self.kms.EncryptResponse(ciphertext=sealed)

    def decrypt(self, request, context):
        key = self._find(request, context)
        try:
            opened = key.decrypt(_NONCE, request.ciphertext, request.additional_authenticated_data)
        except InvalidTag:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Decryption failed")
        return self.kms.DecryptResponse(plaintext=opened)

    def _find(self, request, context):
        if request.name not in self.keys:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no right, or no such key")
        return AESGCM(self.keys[request.name])

    def serve(self) -> tuple[grpc.Server, int]:
        methods = {
            name: grpc.unary_unary_rpc_method_handler(work, taken.deserialize, given.serialize)
            for name, work, taken, given in (
                ("Encrypt", self.encrypt, self.kms.EncryptRequest, self.kms.EncryptResponse),
                ("Decrypt", self.decrypt, self.kms.DecryptRequest, self.kms.DecryptResponse),
            )
        }
        server = grpc.server(futures.ThreadPoolExecutor(1))
        service = "google.cloud.kms.v1.KeyManagementService"
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, methods)])
        port = server.add_insecure_port(f"{LOOPBACK}:0")
        server.start()
        return server, port


@pytest.fixture
def google(monkeypatch):
    """Google's KMS, as far as keysets need it; gives the URIs of two keys."""
    kms = pytest.importorskip("google.cloud.kms_v1", reason="no client of Google Cloud: pip install '.[gcp]'")
    double = Google(kms)
    server, port = double.serve()
    channel = grpc.insecure_channel(f"{LOOPBACK}:{port}")
    transport = kms.KeyManagementServiceClient.get_transport_class("grpc")(channel=channel)
    client = kms.KeyManagementServiceClient(transport=transport)
    monkeypatch.setattr("pipeline.kms_gcp.KeyManagementServiceClient", lambda: client)
    yield [f"gcp-kms://{name}" for name in double.keys]
    channel.close()
    server.stop(None).wait()


def test_a_keyset_opens_with_the_key_of_google_that_it_was_made_with(google, tmp_path):
    kek, other = google
    path = tmp_path / "keyset.json"
    create_keyset(path, kek)
    assert reveal(path, kek) not in path.read_bytes()
    with pytest.raises(MeterveilError, match="the key-encryption key does not open key"):
        open_keyset(path, other)
    with pytest.raises(MeterveilError, match=r"the KMS refuses: PermissionDenied; .*cryptoKeyVersions.useToDecrypt"):
        open_keyset(path, kek + "s")


@pytest.mark.usefixtures("google")
def test_a_name_that_is_none_of_google_is_told_and_no_keyset_is_made(tmp_path):
    with pytest.raises(
        MeterveilError, match=r"^gcp-kms://projects/p/k: the KMS refuses: InvalidArgument; .*useToEncrypt"
    ):
        create_keyset(tmp_path / "keyset.json", "gcp-kms://projects/p/k")
    assert list(tmp_path.iterdir()) == []

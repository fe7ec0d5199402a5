"""Keys of AWS KMS: symmetric ones, named by ARN, id or alias."""

import os
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.kms import ATTEMPTS, CONNECT_S, READ_S, KmsKey, refused, unreachable
from pipeline.wrapping import WrongKeyError

#: Name under which AWS authenticates, and logs, what a secret is bound to.
_CONTEXT = "keyset"
_WRONG = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


class AwsKey(KmsKey):
    """A key of AWS KMS."""

    __slots__ = ()

    def wrap(self, secret: bytes, bound: bytes) -> bytes:
        """Have the service wrap a secret."""
        return bytes(self._ask("encrypt", bound, Plaintext=secret)["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, bound: bytes) -> bytes:
        """Have the service unwrap a secret; raises ``WrongKeyError``."""
        return bytes(self._ask("decrypt", bound, CiphertextBlob=wrapped)["Plaintext"])

    def _ask(self, action: str, bound: bytes, **given: bytes) -> Any:
        try:
            return getattr(self.client, action)(KeyId=self.name, EncryptionContext={_CONTEXT: bound.decode()}, **given)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _WRONG:
                raise WrongKeyError from None
            raise refused(self.uri, code, f"kms:{action.title()}") from None
        except BotoCoreError as error:
            raise unreachable(self.uri, error) from None


def open_key(name: str, uri: str) -> AwsKey:
    """Open a key: in the region of its ARN, or in that of the environment.

    Raises:
        MeterveilError: there is no region.
    """
    parts = name.split(":")  # arn:aws:kms:REGION:ACCOUNT:key/ID
    region = parts[3] if parts[0] == "arn" and len(parts) > 4 else os.environ.get("AWS_REGION")
    patience = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS}, connect_timeout=CONNECT_S, read_timeout=READ_S
    )
    try:
        return AwsKey(name, uri, boto3.client("kms", region_name=region, config=patience))
    except BotoCoreError as error:
        raise unreachable(uri, error) from None

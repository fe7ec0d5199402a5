"""Keys of Google Cloud KMS: symmetric ones, named by their resource."""

from typing import Any

from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, RetryError
from google.auth.exceptions import GoogleAuthError
from google.cloud.kms import KeyManagementServiceClient

from pipeline.kms import READ_S, KmsKey, refused, unreachable
from pipeline.wrapping import WrongKeyError


class GcpKey(KmsKey):
    """A key of Google Cloud KMS."""

    __slots__ = ()

    def wrap(self, secret: bytes, bound: bytes) -> bytes:
        """Have the service wrap a secret."""
        return bytes(self._ask("encrypt", bound, plaintext=secret).ciphertext)

    def unwrap(self, wrapped: bytes, bound: bytes) -> bytes:
        """Have the service unwrap a secret; raises ``WrongKeyError``."""
        return bytes(self._ask("decrypt", bound, ciphertext=wrapped).plaintext)

    def _ask(self, action: str, bound: bytes, **given: bytes) -> Any:
        request = {"name": self.name, "additional_authenticated_data": bound, **given}
        try:
            return getattr(self.client, action)(request=request, timeout=READ_S)
        except GoogleAPICallError as error:
            if action == "decrypt" and isinstance(error, InvalidArgument):
                raise WrongKeyError from None
            right = f"cloudkms.cryptoKeyVersions.useTo{action.title()}"
            raise refused(self.uri, type(error).__name__, right) from None
        except (RetryError, GoogleAuthError) as error:
            raise unreachable(self.uri, error) from None


def open_key(name: str, uri: str) -> GcpKey:
    """Open a key, with the credentials of the environment or of the machine.

    Raises:
        MeterveilError: there are none.
    """
    try:
        return GcpKey(name, uri, KeyManagementServiceClient())
    except GoogleAuthError as error:
        raise unreachable(uri, error) from None

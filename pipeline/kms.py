"""Key-encryption keys that never leave a key management service (KMS), by the URIs that Tink gives to them.

The service is asked to wrap a secret when a keyset is made, and to unwrap it by every process that opens the keyset;
each call stands in the service's own log. What a secret is bound to goes along as authenticated data. Credentials come
from the environment, or from the machine's role, as the service's own client has it.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.errors import MeterveilError

if TYPE_CHECKING:
    from pipeline.wrapping import WrappingKey

#: Start of a URI to the module that opens it, and the extra that brings its client.
_SERVICES = {"aws-kms://": ("pipeline.kms_aws", "aws"), "gcp-kms://": ("pipeline.kms_gcp", "gcp")}
SCHEMES = tuple(_SERVICES)
#: How often and how long, in s, a service is asked.
ATTEMPTS, CONNECT_S, READ_S = 6, 10, 30


@dataclass(frozen=True, slots=True)
class KmsKey:
    """A key of a service.

    Attributes:
        name: as the service has it.
        uri: as the user gave it, for errors.
        client: of the service.
    """

    name: str
    uri: str
    client: Any


def open_kms_key(kek: str) -> "WrappingKey":
    """Open a key of a KMS; nothing is asked yet.

    Args:
        kek: ``aws-kms://`` and a key's ARN, or ``gcp-kms://projects/…/locations/…/keyRings/…/cryptoKeys/…``.

    Raises:
        MeterveilError: the service's client is not installed, or has no credentials.
    """
    scheme = next(one for one in SCHEMES if kek.startswith(one))
    module, extra = _SERVICES[scheme]
    try:
        opened: WrappingKey = import_module(module).open_key(kek.removeprefix(scheme), kek)
    except ModuleNotFoundError:
        raise MeterveilError(
            "the client of this KMS is not installed", where=kek, remedy=f"pip install -c constraints.txt '.[{extra}]'"
        ) from None
    return opened


def refused(kek: str, code: str, right: str) -> MeterveilError:
    """Say that a service does not do what it is asked, and which right it takes."""
    return MeterveilError(
        f"the KMS refuses: {code}", where=kek, remedy=f"see that the key is enabled, and that you have {right} on it"
    )


def unreachable(kek: str, error: Exception) -> MeterveilError:
    """Say that a service can't be asked."""
    return MeterveilError(
        f"the KMS can't be asked: {type(error).__name__}",
        where=kek,
        remedy="see that credentials and region are in the environment, and that the service can be reached",
    )

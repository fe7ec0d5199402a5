"""Starts a program with secrets in its environment: a worker of Dataflow can be given no variable in another way.

    python with_secrets.py PROGRAM [ARGUMENT ...]

``METERVEIL_SECRETS`` says which: ``NAME=projects/P/secrets/S/versions/V``, separated by blanks. The machine's service
account opens them, and only this process and the program ever hold them. It needs no package.
"""

import base64
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

WANTED = "METERVEIL_SECRETS"
#: A version is a number: with "latest", workers of one job could hold different keys.
_ENTRY = re.compile(r"([A-Z][A-Z0-9_]*)=(projects/[\w:.-]+/secrets/[\w-]+/versions/[0-9]+)")
_ANSWER_S = 30.0


def read_wanted(text: str) -> dict[str, str]:
    """Read names of variables and the secrets that they are to hold.

    Raises:
        ValueError: something else stands there.
    """
    wanted = {}
    for place, entry in enumerate(text.split(), 1):
        if not (match := _ENTRY.fullmatch(entry)):
            raise ValueError(f"{WANTED}: entry {place} is not NAME=projects/P/secrets/S/versions/NUMBER")
        wanted[match[1]] = match[2]
    return wanted


def fetch_secrets(wanted: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Fetch secrets with the token of the machine's service account.

    Args:
        wanted: names of variables, and resource names of versions of secrets.
        environment: may name other services: ``GCE_METADATA_HOST``, ``SECRET_MANAGER_URL``.

    Raises:
        OSError: a service does not answer, or refuses.
        ValueError: it answers something else.
    """
    host = environment.get("GCE_METADATA_HOST", "metadata.google.internal")
    service = environment.get("SECRET_MANAGER_URL", "https://secretmanager.googleapis.com")
    token = _ask(
        f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token", {"Metadata-Flavor": "Google"}
    )["access_token"]
    authorized = {"Authorization": f"Bearer {token}"}
    return {
        name: base64.b64decode(_ask(f"{service}/v1/{secret}:access", authorized)["payload"]["data"]).decode()
        for name, secret in wanted.items()
    }


def _ask(url: str, headers: Mapping[str, str]) -> Any:
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - one of the two services
    with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310 - the same
        return json.load(answer)


def main(program: Sequence[str]) -> NoReturn:
    """Become the program."""
    environment = dict(os.environ)
    try:
        if wanted := read_wanted(environment.pop(WANTED, "")):
            environment |= fetch_secrets(wanted, environment)
    except urllib.error.HTTPError as error:
        sys.exit(f"with_secrets: the service refuses with {error.code}: may this service account open the secrets?")
    except OSError:
        sys.exit("with_secrets: no service answers; this starts on a machine of Google Cloud")
    except (ValueError, KeyError) as error:
        # Of an answer, nothing is repeated.
        sys.exit(f"with_secrets: {error if str(error).startswith(WANTED) else 'the service answers something else'}")
    os.execvpe(program[0], list(program), environment)  # noqa: S606 - what the image names


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: with_secrets.py PROGRAM [ARGUMENT ...]")
    main(sys.argv[1:])

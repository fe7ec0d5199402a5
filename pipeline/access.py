"""Who may read what: users of the operating system, the roles they are granted, and the datasets of a role."""

import grp
import os
import pwd
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from pipeline.errors import MeterveilError
from transforms.plan import Dataset, Plan


@dataclass(frozen=True, slots=True)
class User:
    """A user of the operating system.

    Attributes:
        name: login name, or the number of a user who has none.
        groups: names of the user's groups.
    """

    name: str
    groups: frozenset[str]


def current_user() -> User:
    """Find who runs this process; asks the kernel, since variables like ``LOGNAME`` say what they are told to."""
    uid = os.getuid()
    name = str(uid)
    with suppress(KeyError):
        name = pwd.getpwuid(uid).pw_name
    groups = set()
    for gid in {os.getgid(), *os.getgroups()}:
        with suppress(KeyError):
            groups.add(grp.getgrgid(gid).gr_name)
    return User(name, frozenset(groups))


def granted_roles(plan: Plan, user: User) -> frozenset[str]:
    """Collect the roles that the policy grants to a user, to one of the user's groups, or to everybody."""
    keys = {"*", user.name, *(f"@{group}" for group in user.groups)}
    return frozenset().union(*(plan.grants.get(key, frozenset()) for key in keys))


def authorise(plan: Plan, user: User, role: str, purpose: str) -> Mapping[str, Dataset]:
    """Find the datasets, by name, that a user may read in a role and for a purpose.

    Raises:
        MeterveilError: the role is not granted, or has nothing to read for that purpose.
    """
    roles = granted_roles(plan, user)
    if role not in roles:
        raise MeterveilError(
            f"this user is not granted the role {role!r}, asked for with purpose {purpose!r}",
            where="query",
            remedy=f"roles granted: {_list(roles)}",
        )
    own = {name: dataset for name, dataset in plan.datasets.items() if role in dataset.audience}
    readable = {name: dataset for name, dataset in own.items() if purpose in dataset.purposes}
    if not readable:
        purposes = {purpose for dataset in own.values() for purpose in dataset.purposes}
        raise MeterveilError(
            f"the role {role!r} may read nothing for the purpose {purpose!r}",
            where="query",
            remedy=f"its purposes: {_list(purposes)}",
        )
    return readable


def _list(words: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(words)) or "none"

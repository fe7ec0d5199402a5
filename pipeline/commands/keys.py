"""``meterveil keys``: making and showing keysets."""

import argparse
from typing import Any

from pipeline.commands.shared import Parser, add_json, add_kek, as_place, print_rows


def describe(commands: Any) -> None:
    """Describe the command and its options."""
    command = commands.add_parser("keys", help="create and show pseudonymisation keys")
    actions = command.add_subparsers(required=True, metavar="ACTION", parser_class=Parser)
    create = actions.add_parser("create", help="make a keyset; also the key-encryption key, where that is a new file")
    create.add_argument("--keyset", type=as_place, required=True, help="keyset file to make")
    add_kek(create)
    create.set_defaults(run=_create_keys, parser=create)
    rewrap = actions.add_parser("rewrap", help="write a keyset again under another key-encryption key; pseudonyms stay")
    rewrap.add_argument("--keyset", type=as_place, required=True, help="keyset file")
    add_kek(rewrap)
    rewrap.add_argument("--out", type=as_place, required=True, help="keyset file to make")
    rewrap.add_argument("--new-kek", required=True, help="its key-encryption key, named in the same ways")
    rewrap.set_defaults(run=_rewrap_keys, parser=rewrap)
    show = actions.add_parser("show", help="list the keys of a keyset, without their secrets")
    show.add_argument("--keyset", type=as_place, required=True, help="keyset file")
    add_json(show)
    show.set_defaults(run=_show_keys, parser=show)


def _create_keys(arguments: argparse.Namespace) -> None:
    from pipeline.keys import create_keyset

    info = create_keyset(arguments.keyset, arguments.kek)
    print(f"key {info.id} in {arguments.keyset}; keep the key-encryption key apart from it")


def _rewrap_keys(arguments: argparse.Namespace) -> None:
    from pipeline.keys import rewrap_keyset

    rewrap_keyset(arguments.keyset, arguments.kek, arguments.out, arguments.new_kek)
    print(f"{arguments.out} has the keys of {arguments.keyset}; try it before you delete that one")


def _show_keys(arguments: argparse.Namespace) -> None:
    from pipeline.keys import describe_keyset

    rows = [
        {
            "id": info.id,
            "status": str(info.status),
            "primary": info.primary,
            "active_from": str(info.active_from),
            "created_at": info.created_at.isoformat(),
        }
        for info in describe_keyset(arguments.keyset)
    ]
    print_rows(rows, as_json=arguments.json)

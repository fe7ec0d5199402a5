"""``meterveil policy``: what a policy says, why, and what another one would change."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.commands.shared import EPILOG, Parser, add_json, as_place, open_lake_and_plan, print_rows
from pipeline.errors import MeterveilError
from schemas.legal import LANGUAGES


def describe(commands: Any) -> None:
    """Describe the command, its actions and their options."""
    command = commands.add_parser("policy", help="check a policy, show who sees what and why, make its notice")
    actions = command.add_subparsers(required=True, metavar="ACTION", parser_class=Parser)
    check = actions.add_parser(
        "check",
        help="validate a policy, list its datasets and what is probably not meant",
        description="Validates a policy: what would protect nobody does not compile. Lists its datasets, and what is "
        "allowed and yet probably not meant.",
        epilog=EPILOG,
    )
    check.add_argument("--strict", action="store_true", help="fail if anything is found")
    _finish(check, _check)
    matrix = actions.add_parser("matrix", help="who sees which field, in which form")
    matrix.add_argument("--html", type=Path, metavar="FILE", help="write a page instead")
    _finish(matrix, _show_matrix)
    explain = actions.add_parser("explain", help="why a role or recipient sees a field, or why not")
    explain.add_argument("audience", metavar="ROLE", help="a role, or a recipient")
    explain.add_argument("field", metavar="FIELD", help="a field of the views")
    _finish(explain, _explain)
    for name, what in (("notice", "the privacy notice"), ("record", "the record of processing activities (Art. 30)")):
        document = actions.add_parser(name, help=f"make {what} from a policy")
        document.add_argument("--language", choices=LANGUAGES, default="fi", help="language of the document (fi)")
        document.add_argument("--format", choices=("markdown", "html"), default="markdown", help="(markdown)")
        document.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: standard output)")
        document.add_argument(
            "--policy", type=as_place, help="policy file (default: the one that comes with meterveil)"
        )
        document.set_defaults(run=_write_document, parser=document, document=name)
    groups = actions.add_parser(
        "groups",
        help="shares of target groups by postal code, of a lake",
        description="Shows how many of those whom marketing may reach are in each target group, by area, so that a "
        "rule which singles out a neighbourhood is seen. Too few members, or too few others, are not told.",
        epilog=EPILOG,
    )
    groups.add_argument("--lake", type=as_place, required=True, help="the lake")
    groups.add_argument("--minimum", type=int, default=15, help="fewest people that are told (15)")
    add_json(groups)
    groups.set_defaults(run=_show_groups, parser=groups)
    diff = actions.add_parser("diff", help="who gains and who loses what by another policy")
    diff.add_argument("old", type=as_place, metavar="OLD", help="policy file")
    diff.add_argument("new", type=as_place, metavar="NEW", help="policy file")
    add_json(diff)
    diff.set_defaults(run=_diff, parser=diff)


def _finish(command: argparse.ArgumentParser, run: Any) -> None:
    command.add_argument("--policy", type=as_place, help="policy file (default: the one that comes with meterveil)")
    add_json(command)
    command.set_defaults(run=run, parser=command)


def _load(path: Path | None) -> Any:
    from pipeline.policy_file import DEFAULT_POLICY, load_policy

    return load_policy(path or DEFAULT_POLICY)


def _check(arguments: argparse.Namespace) -> None:
    from transforms.policy_lints import find_lints

    plan = _load(arguments.policy)
    rows = [
        {
            "dataset": name,
            "audience": ", ".join(sorted(dataset.audience)),
            "purposes": ", ".join(sorted(dataset.purposes)),
            "domain": dataset.domain,
            "epoch": dataset.epoch,
            "columns": len(dataset.columns),
        }
        for name, dataset in plan.datasets.items()
    ]
    lints = [asdict(lint) for lint in find_lints(plan)]
    if arguments.json:
        print(json.dumps({"datasets": rows, "lints": lints}, indent=2))
    else:
        print_rows(rows, as_json=False)
        if lints:
            print_rows(lints, as_json=False)
    if lints and arguments.strict:
        raise MeterveilError(
            f"{len(lints)} things that are probably not meant",
            where="policy",
            remedy="see the list, or leave --strict out",
        )


def _show_matrix(arguments: argparse.Namespace) -> None:
    from pipeline.policy_pages import make_matrix, write_matrix_page

    plan = _load(arguments.policy)
    if arguments.html:
        write_matrix_page(plan, arguments.html)
        print(f"{arguments.html}: who sees which field")
    else:
        print_rows(make_matrix(plan), as_json=arguments.json)


def _explain(arguments: argparse.Namespace) -> None:
    from transforms.policy_errors import PolicyError
    from transforms.policy_explain import explain_field

    try:
        found = explain_field(_load(arguments.policy), arguments.audience, arguments.field)
    except PolicyError as error:
        raise MeterveilError(error.problem, where="policy explain", remedy=error.remedy) from None
    if arguments.json:
        print(json.dumps(asdict(found), indent=2))
        return
    rows = [
        {
            "dataset": reason.access.dataset,
            "column": reason.access.column,
            "form": reason.access.form,
            "rows": reason.access.rows or "all",
            "purpose": reason.purpose,
            "legal basis": reason.legal_basis,
            "granted to": ", ".join(reason.granted_to),
        }
        for reason in found.reasons
    ]
    if rows:
        print(f"{found.audience} sees {found.field}:")
        print_rows(rows, as_json=False)
    else:
        print(f"{found.audience} does not see {found.field}: no dataset for it has that field. It would take:")
        print("\n".join(f"  {line}" for line in found.needed))
    print(f"Others who see it: {', '.join(found.others) or 'nobody'}")


def _write_document(arguments: argparse.Namespace) -> None:
    from pipeline.documents import write_markdown, write_page
    from transforms.notice import make_notice, make_record

    make = {"notice": make_notice, "record": make_record}[arguments.document]
    document = make(_load(arguments.policy), arguments.language)
    text = (write_page if arguments.format == "html" else write_markdown)(document)
    if arguments.out is None:
        print(text, end="")
    else:
        arguments.out.write_text(text, encoding="utf-8")


def _show_groups(arguments: argparse.Namespace) -> None:
    from pipeline.group_shares import tell_group_shares

    if arguments.minimum < 2:
        arguments.parser.error("--minimum: at least 2, since one is a person")
    lake, plan = open_lake_and_plan(arguments)
    rows = tell_group_shares(lake, plan, arguments.minimum).to_pylist()
    if rows or arguments.json:
        print_rows(rows, as_json=arguments.json)
    else:
        print("nobody is in a target group: the policy has none, or marketing may reach nobody")


def _diff(arguments: argparse.Namespace) -> None:
    from transforms.policy_diff import PARTS, compare_policies

    changes = compare_policies(_load(arguments.old), _load(arguments.new))
    if arguments.json:
        print_rows([asdict(change) for change in changes], as_json=True)
        return
    for part, heading in PARTS.items():
        # Those to whom the same happens share a line.
        whose: dict[tuple[str, ...], list[str]] = {}
        for one in changes:
            if one.part == part:
                whose.setdefault((one.change, one.what, one.before, one.after), []).append(one.who)
        rows = [
            {"who": ", ".join(who), "change": change, "what": what, "before": before, "after": after}
            for (change, what, before, after), who in whose.items()
        ]
        if rows:
            print(heading)
            print_rows(rows, as_json=False)
    if not changes:
        print("nothing changes")

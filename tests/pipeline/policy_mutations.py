"""Policies that somebody might write by mistake or with intent: the default one, a few steps away from itself.

Half of the steps are those of a person who knows the language (another rule, audience, purpose, a field more); the others
tear the document itself (a part missing, in the wrong place, or a value that nobody expects).
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Any

import pyarrow as pa
import yaml

from schemas.features import FEATURES
from schemas.views import FIELD_CLASSES, VIEWS

Document = dict[str, Any]
Step = Callable[[Document, Random], None]

ENTITIES = ("metering_point", "usage_site", "customer")
ATTRIBUTES = (
    "view",
    "audience",
    "purposes",
    "domain",
    "epoch",
    "retention",
    "where",
    "restricted",
    "fields",
    "anonymity",
    "disclosure",
)
ODD_VALUES = (
    None, True, False, 0, -1, 3.0, 0.1, 10**30, float("nan"), float("inf"), 1e300, 5e-324, "", " ", "*", "keep", "drop",
    "ä\u0000", "\U0001d4ac", "a/b", "a|b", "no", "x" * 5000, [], {}, [[]], {"from": "energy"}, "999999999999 years",
)  # fmt: skip


def dump(document: Document) -> str:
    """Write a policy, every key on a line of its own, and nothing by reference."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=10**6
    )


def enrich(document: Document) -> Document:
    """Give a policy what every part of the language needs: a recipient with a domain of its own, and every rule."""
    document = deepcopy(document)
    document.setdefault("recipients", {})["mutant_partner"] = {"kind": "partner", "description": "a partner"}
    document.setdefault("domains", {})["mutant-partner"] = ["mutant_partner"]
    document["purposes"]["mutant_service"] = {
        "legal_basis": "consent", "origin": "company", "description": "a service", "classes": ["usage", "quasi_identifier"],
    }  # fmt: skip
    document["datasets"]["analytics.mutant_service"] = {
        "view": "daily",
        "audience": ["mutant_partner"],
        "purposes": ["mutant_service"],
        "domain": "mutant-partner",
        "epoch": "month",
        "retention": "90 days",
        "where": {"contracted": True},
        "fields": {
            "customer": {"from": "customer_id", "pseudonymise": "customer"},
            "year": {"from": "local_date", "generalise": "year"},
            "energy": {"round": 0.5},
            "direction": {"mask": {"keep_last": 4}},
            "fuse": {"from": "fuse_a", "generalise": {"band": [35]}},
            "heating": "keep",
        },
        "anonymity": {"k": 3, "columns": ["fuse", "heating"]},
    }
    document["datasets"]["analytics.mutant_readings"] = {
        "view": "readings",
        "audience": ["mutant_partner"],
        "purposes": ["mutant_service"],
        "fields": {
            "start": {"generalise": "year"},
            "energy": {"round": 0.25},
            "status": {"mask": {"keep_last": 2}},
            "flags": {"generalise": {"band": [1, 2, 64]}},
        },
    }
    return document


def mutate(document: Document, random: Random) -> Document:
    """Take one to four steps away from a policy."""
    changed = deepcopy(document)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        step = random.choice(STEPS)
        try:
            step(changed, random)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            continue  # an earlier step has torn away what this one needs
    return changed


def damage(text: str, random: Random) -> str:
    """Do to lines of a policy what an editor can do by a slip: lose, repeat, move or indent one, or a few at once."""
    lines = text.split("\n")
    for _ in range(random.choice((1, 1, 2))):
        first = random.randrange(len(lines))
        block = lines[first : first + random.choice((1, 1, 2, 5))]
        others = lines[:first] + lines[first + len(block) :]
        elsewhere = random.randrange(len(others) + 1)
        match random.randrange(5):
            case 0:
                lines = others
            case 1:
                lines = [*lines[:first], *block, *lines[first:]]
            case 2:
                lines = [*others[:elsewhere], *block, *others[elsewhere:]]
            case 3:
                lines = [*lines[:first], *("  " + line for line in block), *lines[first + len(block) :]]
            case _:
                lines = [*lines[:first], *(line.removeprefix("  ") for line in block), *lines[first + len(block) :]]
    return "\n".join(lines)


def draw_rule(random: Random) -> Any:
    """Draw a rule of the language, with values at and beyond its borders."""
    return random.choice(
        (
            "keep",
            "keep",
            "drop",
            {"pseudonymise": random.choice(ENTITIES)},
            {"generalise": "year"},
            {"generalise": {"postal_prefix": random.choice((1, 3, 4, 5, 3.0))}},
            {"generalise": {"band": sorted(random.sample(range(100), random.randint(1, 4)))}},
            {"generalise": {"band": random.choice(([], [5, 5], [25.0], [10**20], [9, 3]))}},
            {"round": random.choice((0.01, 1, 0.000001, 1e-7, 1e13, 0, float("inf")))},
            {"mask": {"keep_last": random.choice((0, 2, 4, 5, 2.0))}},
        )
    )


def _dataset(document: Document, random: Random) -> Document:
    return random.choice(list(document["datasets"].values()))


def _view_of(dataset: Document, random: Random) -> str:
    return dataset["view"] if random.random() < 0.8 else random.choice(sorted(VIEWS))


def _grant_a_field(document: Document, random: Random) -> None:
    dataset = _dataset(document, random)
    field, rule = random.choice(sorted(VIEWS[_view_of(dataset, random)])), draw_rule(random)
    if isinstance(rule, dict) and random.random() < 0.5:
        dataset["fields"][f"{field}_made"] = {"from": field} | rule
    else:
        dataset["fields"][field] = rule


def _change_a_rule(document: Document, random: Random) -> None:
    fields = _dataset(document, random)["fields"]
    name = random.choice(list(fields))
    rule = draw_rule(random)
    if isinstance(fields[name], dict) and isinstance(rule, dict) and "from" in fields[name]:
        rule = {"from": fields[name]["from"]} | rule
    fields[name] = rule


def _copy_a_rule(document: Document, random: Random) -> None:
    fields = _dataset(document, random)["fields"]
    name = random.choice(list(fields))
    _dataset(document, random)["fields"][name] = deepcopy(fields[name])


def _transplant(document: Document, random: Random) -> None:
    giver, taker, attribute = _dataset(document, random), _dataset(document, random), random.choice(ATTRIBUTES)
    if attribute in giver:
        taker[attribute] = deepcopy(giver[attribute])
    else:
        taker.pop(attribute, None)


def _copy_a_dataset(document: Document, random: Random) -> None:
    zone = random.choice(("operational", "analytics"))
    document["datasets"][f"{zone}.mutant{random.randint(1, 9)}"] = deepcopy(_dataset(document, random))


def _change_an_audience(document: Document, random: Random) -> None:
    audience = random.choice(
        [_dataset(document, random)["audience"], random.choice(list(document["domains"].values()))]
    )
    _toggle(audience, random.choice([*document["roles"], *document["recipients"]]))


def _change_purposes(document: Document, random: Random) -> None:
    _toggle(_dataset(document, random)["purposes"], random.choice(list(document["purposes"])))


def _change_what_a_purpose_needs(document: Document, random: Random) -> None:
    _toggle(random.choice(list(document["purposes"].values()))["classes"], random.choice(FIELD_CLASSES))


def _change_a_basis(document: Document, random: Random) -> None:
    purpose = random.choice(list(document["purposes"].values()))
    purpose.pop("ground", None)
    purpose["legal_basis"] = random.choice(("consent", "contract", "public_task", "legitimate_interests"))


def _change_a_class(document: Document, random: Random) -> None:
    field = random.choice(sorted(VIEWS[random.choice(sorted(VIEWS))]))
    document.setdefault("classes", {})[field] = random.choice(FIELD_CLASSES)


def _change_a_domain(document: Document, random: Random) -> None:
    dataset = _dataset(document, random)
    dataset["domain"] = random.choice([*document["domains"], "a-domain"])
    if dataset["domain"] not in document["domains"]:
        document["domains"]["a-domain"] = deepcopy(dataset["audience"])


def _change_a_filter(document: Document, random: Random) -> None:
    dataset = _dataset(document, random)
    if dataset.get("where") and random.random() < 0.5:
        dataset["where"].popitem()
        return
    view = VIEWS[_view_of(dataset, random)]
    name = random.choice([field.name for field in view.values() if field.type in {pa.bool_(), pa.string()}])
    values = (
        (True, False, "some")
        if random.random() < 0.1
        else (True, False)
        if view[name].type == pa.bool_()
        else ("some", "")
    )
    dataset.setdefault("where", {})[name] = random.choice(values)


def _grant_a_role(document: Document, random: Random) -> None:
    who = random.choice([*document["grants"], "eve", "@guests"])
    _toggle(document["grants"].setdefault(who, []), random.choice([*document["roles"], *document["recipients"]]))


def _hand_out(document: Document, random: Random) -> None:
    recipient = random.choice(list(document["recipients"].values()))
    _toggle(recipient.setdefault("disclosed_by", []), random.choice(list(document["roles"])))


def _change_a_group(document: Document, random: Random) -> None:
    conditions = random.choice(list(document["target_groups"].values()))["when"]
    feature = random.choice((*FEATURES, "age", "sex", "language", "identity_code", "payment_defaults"))
    test = random.choice(
        ({"is": "spot"}, {"at_least": 25}, {"below": 0.5}, {"at_least": float("nan")}, {"below": 10**30})
    )
    conditions.append({"feature": feature} | test)


def _change_what_protects_a_group(document: Document, random: Random) -> None:
    dataset = _dataset(document, random)
    if random.random() < 0.3:
        dataset.pop(random.choice(("anonymity", "disclosure")), None)
    elif random.random() < 0.7:
        dataset.setdefault("anonymity", {"k": 5, "columns": []})["k"] = random.choice((1, 2, 5, 3.0, 10**6))
        _toggle(dataset["anonymity"]["columns"], random.choice(list(dataset["fields"])))
    else:
        dominance = random.choice((0.1, 0.9, float("nan")))
        dataset["disclosure"] = {"minimum": random.choice((1, 3, 15)), "dominance": dominance}


def _hear_a_feed(document: Document, random: Random) -> None:
    _toggle(random.choice(list(document["resolution"].values())), random.choice(list(document["sources"])))


def _toggle(names: list[str], name: str) -> None:
    if name in names:
        names.remove(name)
    else:
        names.append(name)


def _delete(document: Document, random: Random) -> None:
    place = random.choice(list(_places(document)))
    del place[0][place[1]]


def _swap(document: Document, random: Random) -> None:
    """Put a value where another one stood."""
    leaves = [(node, key) for node, key in _places(document) if not isinstance(node[key], dict | list)]
    (node, key), (other, of) = random.choice(leaves), random.choice(leaves)
    node[key] = other[of]


def _graft(document: Document, random: Random) -> None:
    places = list(_places(document))
    (node, key), (other, of) = random.choice(places), random.choice(places)
    node[key] = deepcopy(other[of])


def _put_something_odd(document: Document, random: Random) -> None:
    node, key = random.choice(list(_places(document)))
    node[key] = deepcopy(random.choice(ODD_VALUES))


def _rename(document: Document, random: Random) -> None:
    """Give a key a name that stands elsewhere, or one with a slip of the pen; it comes last then."""
    keys = [(node, key) for node, key in _places(document) if isinstance(node, dict)]
    node, key = random.choice(keys)
    slip = random.randrange(len(key))
    name = (
        random.choice(keys)[1] if random.random() < 0.5 else key[:slip] + random.choice("aeit_-A. ") + key[slip + 1 :]
    )
    node[name] = node.pop(key)


def _shuffle(document: Document, random: Random) -> None:
    """Change the order of a mapping's keys: of columns it is one that matters, of all else none."""
    nodes = [document, *(node[key] for node, key in _places(document) if isinstance(node[key], dict))]
    node = random.choice(nodes)
    entries = list(node.items())
    random.shuffle(entries)
    node.clear()
    node.update(entries)


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Give every place of a document, by the node and the key or index in it."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


MEANT = (
    _grant_a_field, _grant_a_field, _change_a_rule, _copy_a_rule, _transplant, _copy_a_dataset, _change_an_audience,
    _change_purposes, _change_what_a_purpose_needs, _change_a_basis, _change_a_class, _change_a_domain, _change_a_filter,
    _change_a_filter,
    _grant_a_role, _hear_a_feed, _hand_out, _change_a_group, _change_what_protects_a_group,
)  # fmt: skip
TORN = (_delete, _swap, _graft, _put_something_odd, _rename, _shuffle)
STEPS: tuple[Step, ...] = (*MEANT, *TORN, *TORN)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML asks for each value
        return True

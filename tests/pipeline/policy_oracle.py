"""What a policy says, read from the document by plain code that shares nothing with the compiler.

``find_breaches`` finds what must not compile; ``find_overreach`` what a plan grants beyond the document; ``make_rows`` makes
the rows of a dataset, one value at a time. Whoever adds a word to the language teaches it here what the word takes away.
"""

import hashlib
import hmac
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from schemas.views import VIEWS

Document = Mapping[str, Any]
Row = Mapping[str, Any]

PARTS = {
    "version", "controller", "classes", "roles", "recipients", "purposes", "sources", "grants", "domains", "limits",
    "resolution", "publish_after", "marketing", "target_groups", "datasets",
}  # fmt: skip
PARTS_OF_A_DATASET = {"view", "audience", "purposes", "domain", "epoch", "retention", "where", "restricted", "fields", "anonymity", "disclosure"}  # fmt: skip

#: From the most to the least sensitive.
CLASSES = (
    "direct_identifier", "identity_code", "contact", "location", "quasi_identifier", "usage", "financial", "profile", "technical",
)  # fmt: skip
#: What identifies people or leads to their door, whatever a view or a policy says of it.
SENSITIVE = {
    "metering_point_id": "direct_identifier", "site_id": "direct_identifier", "customer_id": "direct_identifier",
    "contract_id": "direct_identifier", "name": "direct_identifier", "deceased_on": "direct_identifier",
    "information_restriction": "direct_identifier", "file_name": "direct_identifier",
    "identity_code": "identity_code", "business_id": "identity_code",
    "phone": "contact", "email": "contact", "postal_address": "contact",
    "site_address": "location", "postal_code": "location", "municipality": "location", "grid_area": "location",
}  # fmt: skip
IDENTIFIES = {"metering_point": "metering_point_id", "usage_site": "site_id", "customer": "customer_id"}
STATE = (
    "metering_point_id", "product", "direction", "resolution_s", "local_date", "start", "energy", "status", "flags",
    "registered_at", "rival_registered_at", "daily_rival_registered_at", "customer_id", "contract_id",
)  # fmt: skip
#: What rules of target groups may go by: words, and numbers.
WORDS = {"heating", "building_type", "tariff", "interest", "preferred_channel", "solar_sign"}
#: Features of load, and what of a month each is made from besides what tells months apart.
OF_MONTHS = {
    **{
        name: {name}
        for name in (
            *("peak_kw", "base_kw", "load_factor", "utilisation_hours"), *("night_share", "weekend_ratio", "midday_ratio"),
        )
    },
    "winter_ratio": {"energy"},
    "solar_sign": {"energy", "site_id", "midday_ratio"},
}  # fmt: skip
NUMBERS = {"fuse_a", "reminders", *OF_MONTHS} - WORDS
TELLING_MONTHS = {"customer_id", "contract_id", "metering_point_id", "product", "direction", "month", "present_minutes"}
NEED_A_GROUND = {"legal_obligation", "public_task", "legitimate_interests"}
LONGEST = {"day": 1, "month": 31, "year": 366}


def columns_of(spec: Document) -> dict[str, tuple[str, Any]]:
    """Read the columns of a dataset: name to source field and rule, in their order."""
    return {
        name: (rule.get("from", name) if isinstance(rule, dict) else name, rule)
        for name, rule in spec["fields"].items()
        if rule != "drop"
    }


def class_of(document: Document, view: str, field: str) -> str:
    said = [VIEWS[view][field].field_class, document.get("classes", {}).get(field), SENSITIVE.get(field)]
    return min((name for name in said if name), key=CLASSES.index)


def readable(document: Document, who: set[str], role: str, purpose: str) -> set[str]:
    """List the datasets that somebody with these names (user, ``@groups``, ``*``) reads in a role, for a purpose."""
    if not any(role in document["grants"].get(name, ()) for name in who):
        return set()
    datasets = document["datasets"].items()
    return {name for name, spec in datasets if role in spec["audience"] and purpose in spec["purposes"]}


def list_access(document: Document) -> dict[tuple[str, str], Any]:
    """List what everybody has: audience and column, or user and role, to how they have it."""
    access: dict[tuple[str, str], Any] = {}
    for name, spec in document["datasets"].items():
        for column, (source, rule) in columns_of(spec).items():
            hides = kind_of(rule) == "pseudonymise"
            link = (spec["domain"], spec.get("epoch", "none")) if hides else ()
            access |= {(who, f"{name}.{column}"): (source, _plain(rule), link) for who in spec["audience"]}
    for name, recipient in document.get("recipients", {}).items():
        access |= {(role, f"disclosure to {name}"): True for role in recipient.get("disclosed_by", ())}
    for who, granted in document["grants"].items():
        access |= {(who, f"role {role}"): True for role in granted or ("none",)}
    return access


def list_statements(document: Document) -> dict[tuple[str, str], Any]:
    """List what else a document says that changes why, how long or of whom: part and name to what is said there."""
    said: dict[tuple[str, str], Any] = {}
    for name, spec in document["datasets"].items():
        of_rows = {part: spec.get(part) for part in ("view", "where", "retention", "anonymity", "disclosure")}
        said["datasets", name] = of_rows | {"where": spec.get("where", {}), "purposes": set(spec["purposes"])}
    for part in ("purposes", "domains", "classes", "sources", "resolution"):
        said |= {
            (part, name): set(value) if part == "domains" else value for name, value in document.get(part, {}).items()
        }
    for name, group in document.get("target_groups", {}).items():
        said["target_groups", name] = group["when"]
    for name, recipient in document.get("recipients", {}).items():
        said["recipients", name] = recipient["kind"]
    said["marketing", "age of the ban list"] = document.get("marketing")
    return said


def find_breaches(document: Document) -> list[str]:
    """List what a document says that no policy may say."""
    assert document.keys() <= PARTS, "teach the oracle what the new part means"
    found = [*_breaches_of_names(document), *_breaches_of_domains(document), *_breaches_of_feeds_and_limits(document)]
    for name, group in document.get("target_groups", {}).items():
        for condition in group["when"]:
            fits = WORDS if "is" in condition else NUMBERS
            if condition["feature"] not in fits:
                found.append(f"{name} goes by what is no feature, or compares it in a way that it is not")
    features = {one["feature"] for group in document.get("target_groups", {}).values() for one in group["when"]}
    if loads := features & OF_MONTHS.keys():
        wanted = TELLING_MONTHS.union(*(OF_MONTHS[one] for one in loads))
        if not any(_keeps_months(name, spec, wanted) for name, spec in document["datasets"].items()):
            found.append("groups go by the load of months that no table keeps")
    for name, spec in document["datasets"].items():
        assert spec.keys() <= PARTS_OF_A_DATASET, "teach the oracle what the new part means"
        breaches = (*_breaches_of_use(document, spec), *_breaches_of_columns(document, name, spec))
        found += [f"{name}: {breach}" for breach in breaches]
    return found


def _keeps_months(name: str, spec: Document, wanted: set[str]) -> bool:
    kept = {source for source, rule in columns_of(spec).values() if rule == "keep"}
    where = spec.get("where", {})
    return (
        name.startswith("operational.")
        and spec["view"] == "months"
        and where in ({}, {"contracted": True})
        and wanted <= kept
    )


def _breaches_of_names(document: Document) -> Iterator[str]:
    if document["roles"].keys() & document.get("recipients", {}).keys():
        yield "a role is a recipient"
    for who, granted in document["grants"].items():
        if not set(granted) <= document["roles"].keys():
            yield f"{who} is granted what is no role"
    for name, purpose in document["purposes"].items():
        grounds = purpose.get("ground", "")
        said = grounds.values() if isinstance(grounds, dict) else [grounds]
        if purpose["legal_basis"] in NEED_A_GROUND and not all(text.strip() for text in said):
            yield f"{name} has no ground"
    for field, declared in document.get("classes", {}).items():
        tightest = min((view[field].field_class for view in VIEWS.values() if field in view), key=CLASSES.index)
        if CLASSES.index(declared) > CLASSES.index(tightest):
            yield f"{field} is loosened"


def _breaches_of_domains(document: Document) -> Iterator[str]:
    for domain, audience in document.get("domains", {}).items():
        yield from _breaches_of_an_audience(document, audience)
        users = [name for name, spec in document["datasets"].items() if spec.get("domain") == domain]
        if len({name.partition(".")[0] for name in users}) > 1:
            yield f"pseudonyms of {domain} stand beside identifiers"


def _breaches_of_an_audience(document: Document, audience: list[str]) -> Iterator[str]:
    recipients = document.get("recipients", {}).keys()
    if not audience or not set(audience) <= document["roles"].keys() | recipients:
        yield "an audience of nobody"
    if len(audience) > 1 and set(audience) & recipients:
        yield "a recipient shares"


def _breaches_of_feeds_and_limits(document: Document) -> Iterator[str]:
    heard = {feed for order in document.get("resolution", {}).values() for feed in order}
    if not heard <= document["sources"].keys() or "readings" not in document["sources"]:
        yield "a feed is no source"
    limits = document.get("limits", {})
    for limit in (*filter(None, (limits.get("quarantined"),)), *limits.get("missing", ())):
        if not 0 <= limit["share"] <= 1:
            yield "a limit never holds"


def _breaches_of_use(document: Document, spec: Document) -> Iterator[str]:
    """Look at whom a dataset is for, and whether they need what it shows."""
    yield from _breaches_of_an_audience(document, spec["audience"])
    columns = columns_of(spec)
    if not columns or not spec["purposes"]:
        yield "nothing, or for nothing"
    yield from _breaches_of_restrictions(document, spec)
    if hidden_by(spec) and set(spec["audience"]) != set(document["domains"][spec["domain"]]):
        yield "pseudonyms that another audience has"
    for name, (source, rule) in columns.items():
        declared, how = class_of(document, spec["view"], source), kind_of(rule)
        shown = "quasi_identifier" if how == "generalise" and declared != "technical" else declared
        for purpose in spec["purposes"]:
            if how != "pseudonymise" and shown not in ("technical", *document["purposes"][purpose]["classes"]):
                yield f"{purpose} does not need {name}"


def _breaches_of_restrictions(document: Document, spec: Document) -> Iterator[str]:
    """Look at what is told of persons under an information restriction."""
    columns, where = columns_of(spec), spec.get("where", {})
    places = {source for source, _ in columns.values()} | where.keys()
    if spec["view"] == "months" and places & {"postal_code", "municipality", "grid_area"}:
        yield "places stand that may have to go"
    if "information_restriction" not in VIEWS[spec["view"]]:
        if "restricted" in spec:
            yield "nobody there can be shown"
    elif spec.get("restricted") != "shown" and where.get("information_restriction") is not False:
        for name, (source, _) in columns.items():
            if class_of(document, spec["view"], source) in CLASSES[:4]:
                yield f"{name} tells of persons under an information restriction"


def _breaches_of_columns(document: Document, dataset: str, spec: Document) -> Iterator[str]:
    """Look at what a dataset shows, and what its filter tells."""
    if dataset == "operational.readings":
        whole = all(spec["fields"].get(name) == "keep" for name in STATE)
        if spec["view"] != "readings" or spec.get("where") or not whole:
            yield "the merge can't find its state again"
    analytics = dataset.startswith("analytics.")
    yield from _breaches_of_groups(document, spec, analytics=analytics)
    for name, (source, rule) in columns_of(spec).items():
        declared, how = class_of(document, spec["view"], source), kind_of(rule)
        if how == "pseudonymise":
            if IDENTIFIES[rule["pseudonymise"]] != source:
                yield f"{name} is a pseudonym of something else"
            continue
        if source in hidden_by(spec):
            yield f"{name} tells whose the pseudonym is"
        coarse = declared == "location" and how == "generalise" and "postal_prefix" in rule["generalise"]
        if analytics and declared in CLASSES[:4] and not coarse:
            yield f"{name} shows a {declared} in analytics"
    for field, value in spec.get("where", {}).items():
        if analytics and isinstance(value, str) and class_of(document, spec["view"], field) in CLASSES[:4]:
            yield f"the filter tells {field} of every row"


def _breaches_of_groups(document: Document, spec: Document, *, analytics: bool) -> Iterator[str]:
    """Look at how many share what is told of one."""
    fine = []
    for name, (source, rule) in columns_of(spec).items():
        declared, how = class_of(document, spec["view"], source), kind_of(rule)
        coarse = how == "generalise" and declared != "technical"
        if coarse or (declared == "quasi_identifier" and how != "pseudonymise"):
            fine.append(name)
    if "anonymity" in spec:
        if not set(fine) <= set(spec["anonymity"]["columns"]) or not spec["anonymity"]["k"] >= 2:
            yield "something is told that nobody may share"
        if spec.get("where", {}) not in ({}, {"contracted": True}) or spec["view"] not in (
            "readings",
            "daily",
            "sites",
        ):
            yield "those who share it are not counted"
    sources = {columns_of(spec)[name][0] for name in fine}
    asked = [name for name in spec.get("where", {}) if class_of(document, spec["view"], name) == "quasi_identifier"]
    fine += [name for name in asked if name not in sources]
    if "anonymity" not in spec and analytics and len(fine) > 1:
        yield f"{fine} together single people out"
    if spec["view"] == "sites" and ("retention" not in spec or spec.get("epoch", "none") not in ("none", "year")):
        yield "years that have no end, or pseudonyms of parts of one"
    if (spec["view"] == "area_hours") != ("disclosure" in spec):
        yield "sums of few"


def hidden_by(spec: Document) -> set[str]:
    """List the fields that a dataset shows under pseudonyms."""
    return {source for source, rule in columns_of(spec).values() if kind_of(rule) == "pseudonymise"}


def kind_of(rule: Any) -> str:
    return next(iter(rule.keys() - {"from"})) if isinstance(rule, dict) else ""


def find_overreach(document: Document, plan: Any) -> list[str]:
    """List what a plan grants that the document does not."""
    found = [*_overreach_of_names(document, plan), *_overreach_beyond_tables(document, plan)]
    for name, dataset in plan.datasets.items():
        if name in document["datasets"]:
            spec = document["datasets"][name]
            found += [f"{name}: {excess}" for excess in _overreach_of_a_dataset(name, spec, dataset)]
        else:
            found.append(f"{name} from nowhere")
    return found


def _overreach_of_names(document: Document, plan: Any) -> Iterator[str]:
    if any(not granted <= set(document["grants"].get(who, ())) for who, granted in plan.grants.items()):
        yield "somebody has more roles"
    if {name: sorted(audience) for name, audience in plan.domains.items()} != {
        name: sorted(audience) for name, audience in document.get("domains", {}).items()
    }:
        yield "a domain is of another audience"
    if {name: (purpose.legal_basis, set(purpose.classes)) for name, purpose in plan.purposes.items()} != {
        name: (purpose["legal_basis"], set(purpose["classes"])) for name, purpose in document["purposes"].items()
    }:
        yield "a purpose means something else"
    if any(getattr(plan, part).keys() != document.get(part, {}).keys() for part in ("roles", "recipients", "sources")):
        yield "other roles, recipients or sources"
    if plan.classes != document.get("classes", {}):
        yield "other classes"
    if {name: list(order) for name, order in plan.resolution.items()} != document.get("resolution", {}):
        yield "others are believed"


def _overreach_beyond_tables(document: Document, plan: Any) -> Iterator[str]:
    """Look at what is handed out, and whom marketing may address."""
    if any(
        recipient.disclosed_by != set(document["recipients"].get(name, {}).get("disclosed_by", ()))
        for name, recipient in plan.recipients.items()
    ):
        yield "others hand out"
    if {
        name: [(one.feature, one.test, one.value) for one in group.conditions]
        for name, group in plan.target_groups.items()
    } != {
        name: [
            (one["feature"], test, value) for one in group["when"] for test, value in one.items() if test != "feature"
        ]
        for name, group in document.get("target_groups", {}).items()
    }:
        yield "others are in a target group"
    number, unit = document.get("marketing", {"ban_list": "0 days"})["ban_list"].split()
    if plan.ban_list_days > int(number) * LONGEST[unit.rstrip("s")]:
        yield "an older register of bans will do"


def _overreach_of_a_dataset(name: str, spec: Document, dataset: Any) -> Iterator[str]:
    if (dataset.zone, dataset.view) != (name.partition(".")[0], spec["view"]):
        yield "another zone or view"
    if dataset.audience != set(spec["audience"]) or dataset.purposes != set(spec["purposes"]):
        yield "another audience or purpose"
    if (dataset.domain, dataset.epoch or "none") != (spec.get("domain", ""), spec.get("epoch", "none")):
        yield "another domain or epoch"
    if dataset.where != spec.get("where", {}):
        yield "other rows"
    yield from _overreach_of_groups(spec, dataset)
    if "retention" in spec:
        number, unit = spec["retention"].split()
        if dataset.retention_days is None or dataset.retention_days > int(number) * LONGEST[unit.rstrip("s")]:
            yield "kept longer"
    columns = columns_of(spec)
    if [column.name for column in dataset.columns] != list(columns):
        yield "other columns"
    for column in dataset.columns:
        source, rule = columns.get(column.name, ("", "drop"))
        if (column.source, _say(column.rule)) != (source, _plain(rule)):
            yield f"{column.name} shows something else"


def _overreach_of_groups(spec: Document, dataset: Any) -> Iterator[str]:
    said = spec.get("anonymity")
    if (dataset.anonymity and (dataset.anonymity.k, [*dataset.anonymity.columns])) != (
        said and (said["k"], said["columns"])
    ):
        yield "other groups"
    said = spec.get("disclosure")
    if (dataset.disclosure and (dataset.disclosure.minimum, dataset.disclosure.dominance)) != (
        said and (said["minimum"], said["dominance"])
    ):
        yield "other sums"


def _plain(rule: Any) -> tuple[Any, ...]:
    """Bring a rule of the document to the form of ``_say``."""
    match rule:
        case {"generalise": {"postal_prefix": digits}}:
            plain = ("PostalPrefix", digits)
        case {"generalise": {"band": edges}}:
            plain = ("Band", tuple(edges))
        case {"generalise": "year"}:
            plain = ("Year",)
        case {"pseudonymise": entity}:
            plain = ("Pseudonymise", entity)
        case {"round": step}:
            plain = ("Round", Decimal(str(step)) * 1_000_000)
        case {"mask": {"keep_last": keep_last}}:
            plain = ("Mask", keep_last)
        case _:
            plain = ("Keep",) if rule == "keep" else ()
    return plain


def _say(rule: Any) -> tuple[Any, ...]:
    return (type(rule).__name__, *asdict(rule).values())


def make_rows(spec: Document, rows: list[Row], subkey: Callable[[str], bytes]) -> list[dict[str, Any]]:
    """Make the rows of a dataset from those of its view."""
    kept = [row for row in rows if all(row[field] == value for field, value in spec.get("where", {}).items())]
    return [
        {name: _make_value(row[source], rule, subkey) for name, (source, rule) in columns_of(spec).items()}
        for row in kept
    ]


def _make_value(value: Any, rule: Any, subkey: Callable[[str], bytes]) -> Any:
    match rule:
        case _ if value is None or rule == "keep":
            made = value
        case {"pseudonymise": entity}:
            octets = bytearray(hmac.new(subkey(entity), value.encode(), hashlib.sha256).digest()[:16])
            octets[6], octets[8] = octets[6] & 0x0F | 0x80, octets[8] & 0x3F | 0x80
            made = bytes(octets)
        case {"generalise": "year"}:
            made = value.year
        case {"generalise": {"postal_prefix": digits}}:
            head = value[: int(digits)]
            made = head if len(head) == digits and set(head) <= set("0123456789") else None
        case {"generalise": {"band": edges}}:
            made = _name_band(value, [int(edge) for edge in edges])
        case {"round": step}:
            made = (value / Decimal(str(step))).quantize(Decimal(1), ROUND_HALF_EVEN) * Decimal(str(step))
        case {"mask": {"keep_last": keep_last}}:
            shown = value[-int(keep_last) :] if 0 < keep_last < len(value) else ""
            made = "*" * (len(value) - len(shown)) + shown
        case _:
            raise AssertionError("teach the oracle this rule")
    return made


def _name_band(value: int, edges: list[int]) -> str:
    low = max((edge for edge in edges if edge <= value), default=-math.inf)
    high = min((edge for edge in edges if edge > value), default=math.inf)
    if low == -math.inf:
        return f"<{high}"
    if high == math.inf:
        return f">={low}"
    return f"{low}" if high - low == 1 else f"{low}-{high - 1}"

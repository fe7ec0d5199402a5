"""Who a policy lets use what, and why: purposes and their legal basis, recipients, what a dataset must not show."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.features import FEATURES
from schemas.legal import LANGUAGES, NEED_A_GROUND
from schemas.reference import REFERENCE_FEEDS
from schemas.views import FIELD_CLASSES, PLACES, VIEW_KINDS, VIEWS, Field
from transforms.plan import (
    Band,
    Column,
    Condition,
    Controller,
    Dataset,
    PostalPrefix,
    Pseudonymise,
    Purpose,
    Recipient,
    Rule,
    TargetGroup,
    Text,
    Year,
    Zone,
)
from transforms.policy_errors import Path, PolicyError, expect, expect_all

#: What meters say, as it stands among the sources.
READINGS_FEED = "readings"

#: Classes that analytics may hold in a protected form only: the rules that protect enough, and the remedy.
ANALYTICS_RULES: Mapping[str, tuple[tuple[type[Rule], ...], str]] = {
    "direct_identifier": ((Pseudonymise,), "pseudonymise or drop it"),
    "identity_code": ((), "drop it"),
    "contact": ((), "drop it"),
    "location": ((PostalPrefix,), "generalise it to a postal_prefix or drop it"),
}


#: What says in a view that a person may not be disclosed, and the classes that tell who and where they are.
RESTRICTION = "information_restriction"
_RESTRICTED = frozenset({"direct_identifier", "identity_code", "contact", "location"})
#: What rules of target groups must not go by.
_NO_FEATURES = frozenset({"age", "sex", "gender", "language", "identity_code", "payment_defaults", "credit_register"})


@dataclass(frozen=True, slots=True)
class Names:
    """What the datasets of one policy may refer to.

    Attributes:
        classes: field to its class, where the policy tightens it.
        roles: names of the roles.
        recipients: names of the recipients.
        purposes: the purposes, by name.
        domains: domain to its audience.
    """

    classes: Mapping[str, str]
    roles: Iterable[str]
    recipients: Iterable[str]
    purposes: Mapping[str, Purpose]
    domains: Mapping[str, Iterable[str]]

    def class_of(self, field: Field) -> str:
        """Give the class of a field of a view."""
        return self.classes.get(field.name, field.field_class)


def read_text(text: str | Mapping[str, str]) -> Text:
    """Read a text: one that stands for every language, or one for each."""
    return dict.fromkeys(LANGUAGES, text) if isinstance(text, str) else dict(text)


def compile_controller(spec: Mapping[str, str]) -> Controller:
    """Compile who answers for the processing."""
    return Controller(spec["name"], spec["contact"], spec.get("business_id", ""))


def compile_purposes(specs: Mapping[str, Any]) -> dict[str, Purpose]:
    """Compile purposes.

    Raises:
        PolicyError: a legal basis that says nothing alone, without its ground.
    """
    for name, spec in specs.items():
        if spec["legal_basis"] in NEED_A_GROUND and "ground" not in spec:
            problem = f"{spec['legal_basis']} without a ground"
            raise PolicyError(("purposes", name), problem, "say which law, task or interest it is")
    return {
        name: Purpose(
            spec["legal_basis"],
            read_text(spec.get("ground", "")),
            spec["origin"],
            read_text(spec["description"]),
            frozenset(spec["classes"]),
        )
        for name, spec in specs.items()
    }


def compile_recipients(specs: Mapping[str, Any], roles: Iterable[str]) -> dict[str, Recipient]:
    """Compile recipients.

    Raises:
        PolicyError: a name that is a role's.
    """
    for name in specs:
        if name in roles:
            raise PolicyError(("recipients", name), f"{name} is a role", "give one of them another name")
        expect_all(specs[name].get("disclosed_by", ()), roles, "role", ("recipients", name, "disclosed_by"))
    return {
        name: Recipient(spec["kind"], read_text(spec["description"]), frozenset(spec.get("disclosed_by", ())))
        for name, spec in specs.items()
    }


def compile_sources(specs: Mapping[str, Any]) -> dict[str, Text]:
    """Compile the feeds in use.

    Raises:
        PolicyError: a feed that there is not, or no readings.
    """
    expect_all(specs, (READINGS_FEED, *REFERENCE_FEEDS), "feed", ("sources",))
    if READINGS_FEED not in specs:
        raise PolicyError(("sources",), f"{READINGS_FEED} is missing", "meters are a source in every lake")
    return {name: read_text(text) for name, text in specs.items()}


def compile_groups(specs: Mapping[str, Any]) -> dict[str, TargetGroup]:
    """Compile target groups.

    Raises:
        PolicyError: a condition on what is no feature, or with a test or value that does not fit it.
    """
    return {
        name: TargetGroup(
            read_text(spec["description"]),
            tuple(_compile_condition(one, ("target_groups", name, "when")) for one in spec["when"]),
        )
        for name, spec in specs.items()
    }


def _compile_condition(spec: Mapping[str, Any], path: Path) -> Condition:
    feature = spec["feature"]
    if feature in _NO_FEATURES:
        raise PolicyError(path, f"a rule goes by {feature}", "that would discriminate: go by something else")
    expect(feature, FEATURES, "feature", path)
    [test] = spec.keys() - {"feature"}
    value, kind = spec[test], FEATURES[feature]
    if (test == "is") != (kind is str) or isinstance(value, str) != (kind is str):
        remedy = "compare it with is: <word>" if kind is str else "compare it with at_least or below: <number>"
        raise PolicyError(path, f"{feature} is a {'word' if kind is str else 'number'}", remedy)
    return Condition(feature, test, value)


def check_restricted(
    spec: Mapping[str, Any], columns: Iterable[Column], view: Mapping[str, Field], names: Names, path: Path
) -> None:
    """Refuse a dataset that shows persons under an information restriction, unless it says that it does.

    Raises:
        PolicyError: that; or places in what stands once published; or it says so of a view without any such person.
    """
    columns = list(columns)
    told = {*spec.get("where", {}), *(column.source for column in columns)}
    if VIEW_KINDS[spec["view"]] == "month" and (places := sorted(told.intersection(PLACES))):
        problem = f"{', '.join(places)} of who comes under an information restriction later would stand in it"
        raise PolicyError(path, problem, "leave it out: what is published stands")
    if RESTRICTION not in view and "restricted" in spec:
        problem = f"{spec['view']} has no places of persons under an information restriction to show"
        raise PolicyError((*path, "restricted"), problem, "leave it out")
    if RESTRICTION not in view or spec.get("where", {}).get(RESTRICTION) is False or spec.get("restricted") == "shown":
        return
    shown = [column.name for column in columns if names.class_of(view[column.source]) in _RESTRICTED]
    if shown:
        raise PolicyError(
            path,
            f"it shows {', '.join(shown)} of persons under an information restriction",
            f"leave them out by where: {{{RESTRICTION}: false}}, or say restricted: shown",
        )


def check_classes(classes: Mapping[str, str]) -> None:
    """Refuse a class that is looser than a view has it.

    Raises:
        PolicyError: that, or a field that no view has.
    """
    # FIELD_CLASSES goes from the most to the least sensitive: an earlier class is a tighter one.
    loosest: dict[str, int] = {}
    for field in (field for view in VIEWS.values() for field in view.values()):
        rank = FIELD_CLASSES.index(field.field_class)
        loosest[field.name] = min(rank, loosest.get(field.name, rank))
    for name, declared in classes.items():
        expect(name, loosest, "field", ("classes", name))
        if FIELD_CLASSES.index(declared) > loosest[name]:
            actual = FIELD_CLASSES[loosest[name]]
            raise PolicyError(
                ("classes", name), f"{declared} loosens the class of {name}", f"it is {actual}: confirm or tighten that"
            )


def check_audience(audience: Iterable[str], names: Names, path: Path) -> None:
    """Refuse an audience that is neither roles of the company nor one recipient.

    Raises:
        PolicyError: that, or a name that is neither.
    """
    audience = list(audience)
    expect_all(audience, (*names.roles, *names.recipients), "role or recipient", path)
    if len(audience) > 1 and set(audience).intersection(names.recipients):
        raise PolicyError(path, "a recipient shares this with somebody", "give each recipient what is its own")


def check_use(columns: Iterable[Column], view: Mapping[str, Field], names: Names, spec: Any, path: Path) -> None:
    """Refuse a column that one of the dataset's purposes does not need.

    Raises:
        PolicyError: that.
    """
    for column in columns:
        shown = class_shown(column, names.class_of(view[column.source]))
        for purpose in spec["purposes"]:
            if shown not in {"technical", "pseudonym", *names.purposes[purpose].classes}:
                raise PolicyError(
                    (*path, "fields", column.name),
                    f"the purpose {purpose} needs no {shown}",
                    "drop the field, pseudonymise it, or say among the purpose's classes that it does",
                )


def class_shown(column: Column, field_class: str) -> str:
    """Tell what a reader of a column sees: a pseudonym, something generalised, or the class of its source."""
    match column.rule:
        case Pseudonymise():
            return "pseudonym"
        case PostalPrefix() | Band() | Year() if field_class != "technical":
            return "quasi_identifier"
        case _:
            return field_class


def check_protection(
    zone: Zone, columns: Iterable[Column], view: Mapping[str, Field], names: Names, path: Path
) -> None:
    """Refuse a column of an analytics dataset that does not protect enough.

    Raises:
        PolicyError: that.
    """
    if zone != "analytics":
        return
    for column in columns:
        field_class = names.class_of(view[column.source])
        if field_class in ANALYTICS_RULES:
            enough, remedy = ANALYTICS_RULES[field_class]
            if not isinstance(column.rule, enough):
                problem = f"analytics may not hold {column.source} ({field_class}) this way"
                raise PolicyError((*path, "fields", column.name), problem, remedy)


def check_domain(spec: Mapping[str, Any], columns: Iterable[Column], names: Names, path: Path) -> None:
    """Refuse pseudonyms without a domain, beside what they hide, and in a domain that is another audience's.

    Raises:
        PolicyError: that.
    """
    pseudonymised = any(isinstance(column.rule, Pseudonymise) for column in columns)
    if "domain" not in spec:
        if pseudonymised or "epoch" in spec:
            raise PolicyError(path, "pseudonyms and their epoch need a domain", "name one of the policy's domains")
        return
    expect(spec["domain"], names.domains, "domain", (*path, "domain"))
    hidden = {column.source for column in columns if isinstance(column.rule, Pseudonymise)}
    for column in columns:
        if column.source in hidden and not isinstance(column.rule, Pseudonymise):
            problem = f"{column.source} tells whose the pseudonym is"
            raise PolicyError((*path, "fields", column.name), problem, "drop it, or the pseudonym")
    if not pseudonymised:
        raise PolicyError((*path, "domain"), "nothing is pseudonymised here", "leave the domain out")
    if set(spec["audience"]) != set(names.domains[spec["domain"]]):
        raise PolicyError(
            (*path, "domain"),
            f"{spec['domain']} belongs to another audience, and its pseudonyms would link the two",
            "give each audience a domain of its own",
        )


def check_domains(datasets: Mapping[str, Dataset]) -> None:
    """Refuse a domain on both sides: its operational rows would tell whose the pseudonyms of its analytics are.

    Raises:
        PolicyError: that.
    """
    analytics = {dataset.domain for dataset in datasets.values() if dataset.zone == "analytics"} - {""}
    for name, dataset in datasets.items():
        if dataset.zone == "operational" and dataset.domain in analytics:
            raise PolicyError(
                ("datasets", name, "domain"),
                f"analytics has pseudonyms of {dataset.domain} too, and would be linked to what is identified here",
                "give this dataset a domain of its own",
            )

"""The privacy notice, made from the policy that runs: so what it says and what the tables hold can't drift apart.

Its parts are those that data subjects must be told by Art. 13 and 14 of the General Data Protection Regulation.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from schemas.legal import LEGAL_BASES, RECIPIENT_KINDS
from schemas.views import FIELD_CLASSES, VIEW_KINDS
from schemas.words import BASIS_WORDS, CLASS_WORDS, FEATURE_WORDS, FIELD_WORDS, KIND_WORDS, RIGHTS, TEXTS, TITLES
from transforms.grants import Access, list_access
from transforms.load_features import list_used
from transforms.plan import Plan, Purpose, Text

#: Days of a month and of a year, as people count a retention.
_MONTH, _YEAR = 30.4375, 365.25
#: Longer than this, a retention is told in whole years.
_YEARS_FROM = 4 * _YEAR


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document.

    Attributes:
        title: its heading.
        paragraphs: texts.
        items: a list, after the texts.
        rows: a table, after the list: the head first.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A document that a policy is told in.

    Attributes:
        language: one of ``schemas.legal.LANGUAGES``.
        title: its title.
        sections: its parts.
    """

    language: str
    title: str
    sections: tuple[Section, ...]


def make_notice(plan: Plan, language: str) -> Document:
    """Make the privacy notice.

    Args:
        plan: the policy.
        language: one of ``schemas.legal.LANGUAGES``.
    """
    told = _Teller(plan, language)
    sections = (
        told.controller(),
        told.data(),
        told.sources(),
        told.purposes(),
        told.profiling(),
        told.roles(),
        told.recipients(),
        told.retention(),
        told.protection(),
        told.rights(),
        told.conduct(),
    )
    return Document(language, TITLES["notice"][language], sections)


def make_record(plan: Plan, language: str) -> Document:
    """Make the record of processing activities (Art. 30 of the General Data Protection Regulation).

    Args:
        plan: the policy.
        language: one of ``schemas.legal.LANGUAGES``.
    """
    told = _Teller(plan, language)
    sections = (told.controller(), *told.activities(), told.retention(), told.protection())
    return Document(language, TITLES["record"][language], sections)


class _Teller:
    """Tells a policy in one language."""

    def __init__(self, plan: Plan, language: str) -> None:
        self.plan, self.language = plan, language
        self.access = list_access(plan)

    def controller(self) -> Section:
        """Tell who answers."""
        controller = self.plan.controller
        number = f" ({controller.business_id})" if controller.business_id else ""
        said = self._words("controller", company=controller.name, number=number, contact=controller.contact)
        return self._section("controller", said)

    def data(self) -> Section:
        """Tell which fields some audience sees, by class."""
        return self._section("data", self._words("data"), items=self._fields(self.access))

    def sources(self) -> Section:
        """Tell where data comes from."""
        return self._section("sources", self._words("sources"), items=map(self._text, self.plan.sources.values()))

    def purposes(self) -> Section:
        """Tell what data is used for and why that is lawful: the purposes of the statement, then the company's own."""
        ordered = sorted(self.plan.purposes.values(), key=lambda purpose: purpose.origin != "statement")
        rows = [(self._text(one.description), self._basis(one), self._words(one.origin)) for one in ordered]
        head = self._head("purpose", "legal_basis", "origin")
        return self._section("purposes", self._words("purposes"), rows=[head, *rows])

    def profiling(self) -> Section:
        """Tell whether and how people are profiled, and what is not done."""
        refused = [self._words("no_automated_decisions")]
        if not self.plan.target_groups:
            return self._section("profiling", self._words("no_profiling"), items=refused)
        refused += [self._words(name) for name in ("no_credit", "no_discrimination", "no_curve")]
        rows = [
            (self._text(group.description), "; ".join(self._feature(one.feature) for one in group.conditions))
            for group in self.plan.target_groups.values()
        ]
        said = [self._words("profiling"), self._words("profiled_out", days=self.plan.ban_list_days)]
        if list_used(self.plan.target_groups):
            said.append(self._words("profiled_load"))
            refused.append(self._words("no_foreign_load"))
        return self._section("profiling", *said, items=refused, rows=[self._head("target_group", "goes_by"), *rows])

    def _feature(self, feature: str) -> str:
        return FEATURE_WORDS[feature][self.language]

    def roles(self) -> Section:
        """Tell who in the company sees what, and for what."""
        rows = [(self._text(text), *self._use(name)) for name, text in self.plan.roles.items()]
        return self._section("roles", self._words("roles"), rows=[self._head("who", "classes", "purpose"), *rows])

    def recipients(self) -> Section:
        """Tell who outside the company is given what."""
        order = list(RECIPIENT_KINDS)
        rows = [
            (self._text(one.description), KIND_WORDS[one.kind][self.language], *self._use(name))
            for name, one in sorted(self.plan.recipients.items(), key=lambda item: order.index(item[1].kind))
            if one.kind != "authority"
        ]
        said = self._words("recipients" if rows else "no_recipients")
        head = self._head("who", "kind", "classes", "purpose")
        return self._section("recipients", said, self._words("authorities"), rows=[head, *rows])

    def retention(self) -> Section:
        """Tell how long rows are kept, table by table."""
        rows = []
        for name, dataset in self.plan.datasets.items():
            unbounded = "with_reference" if VIEW_KINDS[dataset.view] == "entity" else "for_ever"
            days = dataset.retention_days
            rows.append((name, self._words(unbounded) if days is None else self._duration(days)))
        return self._section("retention", self._words("retention"), rows=[self._head("table", "kept"), *rows])

    def protection(self) -> Section:
        """Tell how data is protected, and in which domains pseudonyms link."""
        rows = []
        for name, audience in self.plan.domains.items():
            epochs = {dataset.epoch for dataset in self.plan.datasets.values() if dataset.domain == name}
            told = ", ".join(self._words(f"epoch_{epoch or 'none'}") for epoch in sorted(epochs))
            rows.append((name, ", ".join(sorted(audience)), told))
        head = self._head("domain", "who", "new_pseudonyms")
        return self._section("protection", self._words("protection"), rows=[head, *rows])

    def rights(self) -> Section:
        """Tell the rights of data subjects."""
        said = self._words("rights", contact=self.plan.controller.contact)
        return self._section("rights", said, items=RIGHTS[self.language])

    def conduct(self) -> Section:
        """Tell how the company conducts itself."""
        return self._section("conduct", self._words("conduct"))

    def activities(self) -> Iterator[Section]:
        """Tell each purpose as a processing activity."""
        for name, purpose in self.plan.purposes.items():
            rows = [row for row in self.access if name in row.purposes]
            audiences = {row.audience for row in rows}
            inside = [self._text(self.plan.roles[one]) for one in audiences if one in self.plan.roles]
            outside = [
                self._text(self.plan.recipients[one].description) for one in audiences if one not in self.plan.roles
            ]
            told = (
                ("purpose", self._text(purpose.description)),
                ("legal_basis", self._basis(purpose)),
                ("subjects", self._words("customers")),
                ("classes", "; ".join(self._fields(rows))),
                ("who", "; ".join(inside)),
                ("outside", "; ".join(outside)),
                ("transfers", self._words("no_transfers")),
                ("tables", ", ".join(dict.fromkeys(row.dataset for row in rows))),
            )
            body = tuple((self._words(what), text or "–") for what, text in told)
            yield Section(self._text(purpose.description), rows=(self._head("what", "told"), *body))

    def _fields(self, access: Iterable[Access]) -> Iterator[str]:
        """Tell the fields of personal classes by class, the most sensitive first, each by what it is called."""
        seen = {(row.field_class, row.field) for row in access}
        for field_class in FIELD_CLASSES:
            fields = sorted(field for of, field in seen if of == field_class and field in FIELD_WORDS)
            if fields and field_class in CLASS_WORDS:
                called = [FIELD_WORDS[field][self.language] for field in fields]
                yield f"{CLASS_WORDS[field_class][self.language]}: {', '.join(called)}"

    def _use(self, audience: str) -> tuple[str, str]:
        """Tell which classes an audience sees, as they are or under pseudonyms, and for which purposes."""
        rows = [row for row in self.access if row.audience == audience]
        plain = {row.field_class for row in rows if row.shown != "pseudonym"}
        classes = [CLASS_WORDS[name][self.language] for name in FIELD_CLASSES if name in plain & CLASS_WORDS.keys()]
        if any(row.shown == "pseudonym" for row in rows):
            classes.append(self._words("pseudonyms"))
        purposes = dict.fromkeys(purpose for row in rows for purpose in row.purposes)
        return "; ".join(classes), "; ".join(self._text(self.plan.purposes[name].description) for name in purposes)

    def _basis(self, purpose: Purpose) -> str:
        """Tell a legal basis, with its place in the law and its ground."""
        ground, place = self._text(purpose.ground), LEGAL_BASES[purpose.legal_basis]
        return f"{BASIS_WORDS[purpose.legal_basis][self.language]} ({place})" + (f": {ground}" if ground else "")

    def _duration(self, days: int) -> str:
        """Tell a number of days as people would."""
        for name, unit, least in (("years", _YEAR, _YEARS_FROM), ("months", _MONTH, 4 * _MONTH)):
            if days >= least:
                return self._words(name, number=round(days / unit))
        return self._words("days", number=days)

    def _text(self, text: Text) -> str:
        return text.get(self.language, "")

    def _words(self, name: str, **values: object) -> str:
        return TEXTS[name][self.language].format(**values)

    def _head(self, *names: str) -> tuple[str, ...]:
        return tuple(self._words(name) for name in names)

    def _section(
        self, name: str, *paragraphs: str, items: Iterable[str] = (), rows: Sequence[tuple[str, ...]] = ()
    ) -> Section:
        """Make a section; a table that has but a head is left out."""
        return Section(TITLES[name][self.language], paragraphs, tuple(items), tuple(rows) if len(rows) > 1 else ())

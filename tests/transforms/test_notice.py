"""The privacy notice and the record of processing say what the policy says, in every language, and nothing else."""

from copy import deepcopy
from html.parser import HTMLParser
from importlib.resources import files

import pytest
import yaml

from pipeline.documents import write_markdown, write_page
from schemas.features import FEATURES
from schemas.legal import LANGUAGES, LEGAL_BASES, RECIPIENT_KINDS
from schemas.views import FIELD_CLASSES, VIEWS
from schemas.words import BASIS_WORDS, CLASS_WORDS, FEATURE_WORDS, FIELD_WORDS, KIND_WORDS, RIGHTS, TEXTS, TITLES
from transforms.grants import list_access
from transforms.notice import make_notice, make_record
from transforms.policy import compile_plan

RETAILER = yaml.safe_load((files("schemas") / "policies" / "retailer.yaml").read_text(encoding="utf-8"))
PLAN = compile_plan(RETAILER)


@pytest.fixture
def document():
    return deepcopy(RETAILER)


@pytest.fixture(params=LANGUAGES)
def language(request):
    return request.param


def notice(document, language="fi") -> str:
    return write_markdown(make_notice(compile_plan(document), language))


def test_every_word_stands_in_every_language():
    for words in (CLASS_WORDS, FIELD_WORDS, BASIS_WORDS, KIND_WORDS, TITLES, TEXTS):
        assert all(set(text) == set(LANGUAGES) and all(text.values()) for text in words.values())
    assert len({len(rights) for rights in RIGHTS.values()}) == 1
    assert (set(BASIS_WORDS), set(KIND_WORDS)) == (set(LEGAL_BASES), set(RECIPIENT_KINDS))


def test_every_personal_field_has_a_name_for_people():
    personal = {
        field.name for view in VIEWS.values() for field in view.values() if field.field_class != FIELD_CLASSES[-1]
    }
    assert personal <= set(FIELD_WORDS)
    assert set(CLASS_WORDS) == set(FIELD_CLASSES[:-1])


def test_everything_that_the_policy_says_is_told(language):
    told = notice(RETAILER, language)
    assert PLAN.controller.name in told
    assert PLAN.controller.contact in told
    regular = [one.description for one in PLAN.recipients.values() if one.kind != "authority"]
    for texts in (PLAN.sources.values(), PLAN.roles.values(), regular):
        assert all(text[language] in told for text in texts)
    for purpose in PLAN.purposes.values():
        assert purpose.description[language] in told
        assert purpose.ground[language] in told
    for row in list_access(PLAN):
        assert row.field not in FIELD_WORDS or FIELD_WORDS[row.field][language] in told
    assert all(right in told for right in RIGHTS[language])


def test_what_nobody_sees_is_not_told(document):
    del document["datasets"]["operational.collections"]
    assert CLASS_WORDS["identity_code"]["fi"] not in notice(document)
    document["purposes"]["billing"]["classes"].append("identity_code")
    document["datasets"]["operational.codes"] = {
        "view": "customers", "audience": ["billing"], "purposes": ["billing"], "fields": {"identity_code": "keep"},
        "restricted": "shown",
    }  # fmt: skip
    assert f"{CLASS_WORDS['identity_code']['fi']}: henkilötunnus" in notice(document)


def test_a_source_that_is_not_in_use_is_not_told(document):
    told = document["sources"].pop("service_use")["fi"]
    assert told in notice(RETAILER)
    assert told not in notice(document)


def test_a_recipient_is_told_with_its_kind_and_what_it_gets(document):
    for name, spec in RETAILER["datasets"].items():
        if RETAILER["recipients"].keys() & set(spec["audience"]):
            del document["datasets"][name]
    del document["recipients"], document["domains"]["grid-planning"], document["domains"]["partner-green"]
    assert TEXTS["no_recipients"]["fi"] in notice(document)
    document["recipients"] = {
        "fitter": {"kind": "subcontractor", "description": {"fi": "mittariasentaja", "en": "fitter"}}
    }
    document["purposes"]["customer_service"]["classes"].append("usage")
    document["datasets"]["operational.work"] = {
        "view": "customers", "audience": ["fitter"], "purposes": ["customer_service"], "fields": {"site_address": "keep"},
        "where": {"information_restriction": False},
    }  # fmt: skip
    told = notice(document)
    assert "| mittariasentaja | alihankkija | Käyttöpaikan sijainti |" in told
    assert TEXTS["no_recipients"]["fi"] not in told


def test_the_purposes_of_the_statement_come_first_and_are_told_apart(language):
    rows = next(one for one in make_notice(PLAN, language).sections if one.title == TITLES["purposes"][language]).rows[
        1:
    ]
    origins = [row[-1] for row in rows]
    assert origins == sorted(origins, key=[TEXTS[one][language] for one in ("statement", "company")].index)
    assert len(set(origins)) == 2


def test_retention_is_told_as_people_count(document):
    document["datasets"]["analytics.daily"]["retention"] = "90 days"
    told = notice(document)
    assert "| operational.readings | 6 vuotta |" in told
    assert "| analytics.readings | 36 kuukautta |" in told
    assert "| analytics.daily | 90 päivää |" in told


def test_the_record_has_every_purpose_with_what_the_law_asks_for(language):
    record = make_record(PLAN, language)
    titles = [section.title for section in record.sections]
    for name, purpose in PLAN.purposes.items():
        rows = dict(record.sections[titles.index(purpose.description[language])].rows)
        tables = {row.dataset for row in list_access(PLAN) if name in row.purposes}
        assert set(rows[TEXTS["tables"][language]].split(", ")) == tables
        assert LEGAL_BASES[purpose.legal_basis] in rows[TEXTS["legal_basis"][language]]
        assert all(rows.values())


class _Tags(HTMLParser):
    """Checks that what is opened is closed in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):  # noqa: ARG002 - as the parser calls it
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("make", [make_notice, make_record])
def test_a_page_is_whole_stands_alone_and_says_what_the_markdown_says(make, language, document):
    document["roles"]["billing"] = {"fi": "laskuttaa <nopeasti> & oikein", "en": "bills <fast> & right"}
    made = make(compile_plan(document), language)
    page, tags = write_page(made), _Tags()
    tags.feed(page)
    assert tags.open == []
    assert "://" not in page
    assert f'<html lang="{language}">' in page
    assert "&lt;" in page
    assert page.count("<tr>") == sum(len(section.rows) for section in made.sections)
    assert write_markdown(made).count("\n## ") == page.count("<h2>") == len(made.sections)


def test_profiling_is_told_with_what_it_goes_by_and_what_is_not_done(document, language):
    told = notice(RETAILER, language)
    for group in PLAN.target_groups.values():
        features = "; ".join(FEATURE_WORDS[one.feature][language] for one in group.conditions)
        assert f"| {group.description[language]} | {features} |" in told
    refused = ("no_automated_decisions", "no_credit", "no_discrimination", "no_curve")
    assert all(TEXTS[name][language] in told for name in refused)
    of_load = [TEXTS[name][language] for name in ("profiled_load", "no_foreign_load")]
    assert all(text in told for text in of_load)
    del document["target_groups"]["night_tariff"]
    assert not any(text in notice(document, language) for text in of_load)
    del document["target_groups"]
    assert TEXTS["no_profiling"][language] in notice(document, language)
    assert TEXTS["no_credit"][language] not in notice(document, language)


def test_every_feature_has_a_name_for_people():
    assert set(FEATURE_WORDS) == set(FEATURES)

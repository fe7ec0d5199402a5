"""The privacy statement part by part: each is executed by something that is there, tested by a test that is there, told."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from pipeline.cli import build_parser
from pipeline.documents import write_markdown
from schemas.views import VIEWS
from transforms.notice import make_notice
from transforms.policy import compile_plan

POLICY = yaml.safe_load((files("schemas") / "policies" / "retailer.yaml").read_text(encoding="utf-8"))
TABLE = (files("schemas") / "policies" / "statement.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.splitlines()
    if line.startswith("|") and "---" not in line
][1:]
TESTS = Path(__file__).parents[1]
NOTICE = write_markdown(make_notice(compile_plan(POLICY), "fi")).lower()

#: The parts of the statement, and what the Finnish notice says of each, by stems that no other part brings along.
PARTS = {
    "name and contact details": ["nimi", "puhelinnumero", "sähköpostiosoite", "postiosoite"],
    "identity code": ["henkilötunnus"],
    "use of services": ["palveluiden käyttö"],
    "payment behaviour": ["maksumuistutusten määrä", "avoin summa"],
    "usage site": ["käyttöpaikan osoite"],
    "energy consumption": ["energiankulutus", "energiamäärä aikaväleittäin"],
    "the customer as a source": ["tarjouspyynnöissä, tilauksissa, sopimuksissa"],
    "meters as a source": ["energiamittarit"],
    "competitions, events, raffles": ["kilpailut, tapahtumat, arpajaiset"],
    "population register": ["väestötietojärjestelmä"],
    "credit register": ["suomen asiakastiedon rekisteri"],
    "telephone directories": ["puhelinluettelorekisterit"],
    "register of bans": ["asiakkuusmarkkinointiliiton kieltorekisteri"],
    "authorities and companies": ["palveluja tarjoavat viranomaiset", "palveluja tarjoavat yritykset"],
    "internet": ["yleisesti saatavilla olevat internetlähteet"],
    "customer relationship": ["asiakassuhteen hoitaminen ja kehittäminen"],
    "payments": ["maksujen valvonta ja perintä"],
    "products and services": ["ylläpitäminen, tarjoaminen ja kehittäminen", "palveluiden toimittaminen"],
    "tasks": ["sisäiset ja ulkoiset tehtävät"],
    "marketing": ["markkinointi ja etämyynti", "suoramarkkinoinnin kohdistaminen profiloimalla"],
    "profiling": [
        "käyttäytymistä, kiinnostuksen kohteita ja henkilökohtaisia mieltymyksiä",
        "taloudellista tilannetta",
    ],
    "target groups": ["kohderyhmä"],
    "access": ["jotka tarvitsevat niitä työssään"],
    "recipients": ["tytäryhtiö", "palveluntuottaja", "alihankkija"],
    "authorities": ["viranomaisille tietoja luovutetaan vain silloin, kun laki"],
    "conduct": ["noudatamme lakeja ja määräyksiä", "rehellisesti", "syrjimättä", "avoimesti"],
}


@pytest.mark.parametrize("part", PARTS)
def test_the_notice_covers_every_part(part):
    missing = [words for words in PARTS[part] if words not in NOTICE]
    assert not missing


def test_the_table_has_the_whole_statement():
    assert len(ROWS) >= len(PARTS)
    assert all(len(row) == 3 for row in ROWS)


def exists(name: str) -> bool:
    """Tell whether there is what a name of the table means."""
    if name.startswith("meterveil "):
        return name.split()[1] in build_parser().format_help()
    if (view := name.partition(".")[0]) in VIEWS and "/" not in name:
        return name.partition(".")[2] in VIEWS[view]
    place = POLICY
    for key in name.split("/"):
        if not isinstance(place, dict) or key not in place:
            return False
        place = place[key]
    return True


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_executes_a_part_is_there_and_so_is_its_test(row):
    _, executed, tested = row
    names, tests = (re.findall(r"`([^`]+)`", cell) for cell in (executed, tested))
    assert names
    assert [name for name in names if not exists(name)] == []
    assert tests
    for test in tests:
        file, _, function = test.partition("::")
        [path] = TESTS.rglob(file)
        assert f"def {function}(" in path.read_text(encoding="utf-8"), test


def test_a_name_that_means_nothing_is_noticed():
    for name in ("sources/gossip", "customers.shoe_size", "meterveil guess", "datasets/operational.nothing"):
        assert not exists(name)

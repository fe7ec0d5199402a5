"""The page about the policy is true: its example compiles and changes what it says, and it knows every part."""

import json
import re
from copy import deepcopy
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from pipeline.errors import MeterveilError
from pipeline.policy_file import DEFAULT_POLICY, load_policy
from schemas.views import FIELD_CLASSES
from transforms.policy_diff import compare_policies

PAGE = (Path(__file__).parents[2] / "deploy" / "policy.md").read_text(encoding="utf-8")
SCHEMA = json.loads((files("schemas") / "policy.schema.json").read_text(encoding="utf-8"))
DEFAULT = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
(EXAMPLE,) = (yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
ADVICE = "datasets/analytics.heating_advice"
#: What the page has instead of a part of the example, and where that stands.
INSTEAD = {
    "`site: {from: site_id, mask: {keep_last: 4}}`": f"{ADVICE}/fields",
    "`postal_code: keep`": f"{ADVICE}/fields",
    "`tariff: keep`": f"{ADVICE}/fields",
    "`domain: load-research`": ADVICE,
    "`audience: [heating_advisor, analyst]`": ADVICE,
    "`where: {customer_id: C-1001}`": ADVICE,
    "`legal_basis: public_task`, without its `ground`": "purposes/heating_advice",
    "`heating: kep`": f"{ADVICE}/fields",
}


def table(below: str) -> list[list[str]]:
    """List the cells of the first table below a line, without its head."""
    lines = PAGE.partition(below)[2].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = lines[first : first + next(n for n, line in enumerate([*lines[first:], ""]) if not line.startswith("|"))]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


def extend(document, addition) -> dict:
    """Add the entries of the example to a policy, each below its part."""
    extended = deepcopy(document)
    for part, entries in addition.items():
        extended.setdefault(part, {}).update(deepcopy(entries))
    return extended


def load(folder, document):
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return load_policy(path)


def test_the_example_changes_what_the_page_says(tmp_path):
    told = compare_policies(load_policy(DEFAULT_POLICY), load(tmp_path, extend(DEFAULT, EXAMPLE)))
    columns = [change for change in told if change.part == "columns"]
    assert {(change.who, change.change) for change in columns} == {("heating_advisor", "gains")}
    assert {change.part for change in told} == {"columns", "purposes", "recipients", "domains", "tables"}
    assert [[f"`{change.what}`", change.after] for change in columns] == table("`heating_advisor` gains four")


def test_every_mistake_of_the_page_is_tried():
    assert [row[0] for row in table("What would not protect")] == list(INSTEAD)


@pytest.mark.parametrize(("instead", "said"), table("What would not protect"))
def test_a_mistake_is_answered_as_the_page_says(tmp_path, instead, said):
    document = extend(DEFAULT, EXAMPLE)
    place = document
    for key in INSTEAD[instead].split("/"):
        place = place[key]
    place |= yaml.safe_load(instead.split("`")[1])
    if "without its `ground`" in instead:
        del place["ground"]
    with pytest.raises(MeterveilError) as caught:
        load(tmp_path, document)
    assert str(caught.value).endswith(f": {said.strip('`')}")


def names_of(schema) -> set[str]:
    """Collect what a mapping may have as keys and a value may be, but names that a policy chooses."""
    found = set(schema.get("properties", {}))
    for key, part in schema.items():
        parts = part.values() if key in {"properties", "$defs"} else part if isinstance(part, list) else [part]
        for inner in parts:
            if isinstance(inner, dict):
                found |= names_of(inner)
    return found | {str(word) for word in schema.get("enum", ())}


def test_the_page_has_every_word_of_the_language():
    words = names_of(SCHEMA) - {"consent", "contract", "legal_obligation", "vital_interests"}
    missing = {word for word in words if not re.search(rf"\b{re.escape(word)}\b", PAGE)}
    assert missing == set()


def test_the_page_has_the_classes_in_their_order():
    assert [name for row in table("### Classes") for name in row[0].split(", ")] == list(FIELD_CLASSES)

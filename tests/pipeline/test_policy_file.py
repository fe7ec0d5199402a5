"""Policy files: a good one loads; a bad one is refused with file, line, field and what was meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import MeterveilError
from pipeline.policy_file import DEFAULT_POLICY, load_policy

TEXT = DEFAULT_POLICY.read_text(encoding="utf-8")
LINES = TEXT.splitlines()


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A function that writes a policy and gives its path."""
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"

    def write(text):
        path.write_text(text, encoding="utf-8")
        return path

    return write


def find_fault(path):
    try:
        load_policy(path)
    except MeterveilError as error:
        return str(error)
    return ""


def test_the_default_policy_loads_and_layout_does_not_change_its_digest(policy):
    plan = load_policy(DEFAULT_POLICY)
    assert set(plan.datasets) >= {"operational.readings", "analytics.readings", "analytics.daily"}
    bare = "\n".join(line for line in LINES if not line.strip().startswith("#"))
    assert load_policy(policy(bare)) == plan
    assert load_policy(policy(bare.replace("epoch: year", "epoch: month", 1))).digest != plan.digest


@given(
    place=st.integers(0, len(LINES) - 1), word=st.sampled_from(["", "zzz", "zzz: 1", "- a", "  : {", "\t", "[", "'"])
)
def test_a_damaged_line_loads_or_is_refused_in_one_line(policy, place, word):
    indent = LINES[place][: len(LINES[place]) - len(LINES[place].lstrip())]
    path = policy("\n".join([*LINES[:place], indent + word, *LINES[place + 1 :]]))
    fault = find_fault(path)
    assert fault == "" or (fault.startswith(f"{path}:") and "\n" not in fault)


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("energy: usage", "energi: usage", "classes/energi", "did you mean 'energy'?"),
        ("energy: usage", "energy: usag", "classes/energy", "did you mean 'usage'?"),
        (
            "night_share: keep",
            "night_share: kep",
            "datasets/analytics.daily/fields/night_share",
            "did you mean 'keep'?",
        ),
        (
            "night_share: keep",
            "night_share: 3",
            "datasets/analytics.daily/fields/night_share",
            "expected keep, drop, or a mapping",
        ),
        ("peak_kw: keep", "peek_kw: keep", "datasets/analytics.daily/fields/peek_kw", "did you mean 'peak_kw'?"),
        (
            "{band: [25, 35, 63",
            "{bands: [25",
            "datasets/analytics.daily/fields/fuse_band/generalise/bands",
            "mean 'band'?",
        ),
        (
            "pseudonymise: customer}",
            "pseudonymize: customer}",
            "datasets/analytics.readings/fields/customer/pseudonymize",
            "did you mean 'pseudonymise'?",
        ),
        (
            "pseudonymise: customer}",
            "pseudonymise: customr}",
            "datasets/analytics.readings/fields/customer",
            "did you mean 'customer'?",
        ),
        (
            "pseudonymise: customer}",
            "pseudonymise: customer, round: 1}",
            "datasets/analytics.readings/fields/customer",
            "with one of",
        ),
        (
            "postal_code, generalise: {postal_prefix: 3",
            "postal_code, generalise: {postal_prefix: 5",
            "datasets/analytics.daily/fields/postal_area/generalise/postal_prefix",
            "1 to 4",
        ),
        (
            "domain: load-research",
            "domain: load_research",
            "datasets/analytics.readings/domain",
            "did you mean 'load-research'?",
        ),
        (
            "domain: product-development",
            "domain: load-research",
            "datasets/analytics.daily/domain",
            "a domain of its own",
        ),
        ("retention: 6 years", "retention: six years", "datasets/operational.readings/retention", "'6 years'"),
        ("view: customers", "vew: customers", "datasets/operational.customer_service/vew", "did you mean 'view'?"),
        ("version: 1", "version: 2", "version", "expected the policy format, 1"),
        (
            '  "@meterveil-billing": [billing]',
            '  "@meterveil-billing": [biling]',
            "grants/@meterveil-billing",
            "did you mean 'billing'?",
        ),
        ('  "@meterveil-billing"', '  "every body"', "grants/every body", "this name can't be used"),
        (
            "  phone: [customers, datahub_customer, campaign",
            "  phones: [customers, campaign",
            "resolution/phones",
            "did you mean 'phone'?",
        ),
        (
            "phone: [customers, datahub_customer, campaign",
            "phone: [customers, campain",
            "resolution/phone",
            "did you mean 'campaign'?",
        ),
        (
            "phone: [customers, datahub_customer, campaign",
            "phone: [customers, payment",
            "resolution/phone",
            "payment says nothing of phone",
        ),
        (
            "phone: [customers, datahub_customer, campaign",
            "phone: [campaign",
            "resolution/phone",
            "customers is not heard",
        ),
        (
            "phone: [customers, datahub_customer, campaign",
            "phone: [customers, customers",
            "resolution/phone",
            "different names",
        ),
        ("  operational.runs:", "  operations.runs:", "datasets/operations.runs", "expected operational.<table>"),
    ],
)
def test_names_line_field_and_remedy(policy, old, new, field, words):
    path = policy(TEXT.replace(old, new, 1))
    with pytest.raises(MeterveilError) as caught:
        load_policy(path)
    line = 1 + TEXT[: TEXT.index(old)].count("\n")
    assert str(caught.value).startswith(f"{path}:{line}: {field}: ")
    assert words in str(caught.value)


def test_something_missing_is_reported_at_its_parent(policy):
    with pytest.raises(
        MeterveilError, match=r"policy\.yaml:\d+: datasets/operational\.runs: purposes missing; expected a dataset"
    ):
        load_policy(policy(TEXT.replace("    purposes: [accountability]\n", "")))


def test_the_first_of_several_faults_is_reported(policy):
    broken = TEXT.replace("fuse_band", "FuseBand").replace("version: 1", "version: one").replace("6 years", "ever")
    with pytest.raises(MeterveilError, match=": version: expected"):
        load_policy(policy(broken))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("    fields:\n", "    fields:\n      start: drop\n", "'start' stands here twice"),
        ('"*": [analyst, product_development]', '"*": &all [analyst]\n  everyone: *all', "there are no aliases here"),
        ("version: 1", "version: [1", "expected ',' or ']'"),
        ("version: 1", "version: !!python/name:os.system 1", "could not determine a constructor"),
    ],
)
def test_refuses_yaml_that_says_less_than_it_seems_to(policy, old, new, words):
    with pytest.raises(MeterveilError) as caught:
        load_policy(policy(TEXT.replace(old, new, 1)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "expected a policy"), (b"\xff\xfe\x00", "no YAML"), (b"\x00", "no YAML")]
)
def test_refuses_what_is_no_policy(tmp_path, content, words):
    path = tmp_path / "policy.yaml"
    path.write_bytes(content)
    with pytest.raises(MeterveilError, match=words):
        load_policy(path)


def test_refuses_a_file_that_is_not_there(tmp_path):
    with pytest.raises(MeterveilError, match="No such file"):
        load_policy(tmp_path / "policy.yaml")

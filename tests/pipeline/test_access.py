from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_lake import PLAN

from pipeline.access import User, authorise, current_user, granted_roles
from pipeline.errors import MeterveilError

ROLES, PURPOSES = sorted(PLAN.roles), sorted(PLAN.purposes)
names = st.sampled_from(["mari", "olli", "service"])
users = st.builds(User, names, st.frozensets(names))


@given(user=users, role=st.sampled_from(ROLES), purpose=st.sampled_from(PURPOSES))
def test_nothing_is_readable_without_grant_audience_and_purpose(user, role, purpose):
    granted = (
        role == "analyst"
        or (role == "metering_operations" and user.name == "mari")
        or (role == "customer_service" and "service" in user.groups)
    )
    expected = {
        name
        for name, dataset in PLAN.datasets.items()
        if granted and role in dataset.audience and purpose in dataset.purposes
    }
    if expected:
        assert authorise(PLAN, user, role, purpose).keys() == expected
    else:
        with pytest.raises(MeterveilError, match=f"{role}.*{purpose}"):
            authorise(PLAN, user, role, purpose)


def test_a_refusal_says_what_would_be_allowed():
    user = User("olli", frozenset())
    with pytest.raises(MeterveilError, match=r"not granted the role 'customer_service'.*roles granted: analyst$"):
        authorise(PLAN, user, "customer_service", "customer_care")
    with pytest.raises(
        MeterveilError, match=r"nothing for the purpose 'marketing'.*load_research, product_development$"
    ):
        authorise(PLAN, user, "analyst", "marketing")


def test_without_grants_nobody_has_a_role():
    assert granted_roles(replace(PLAN, grants={}), User("root", frozenset({"root"}))) == frozenset()


def test_the_environment_does_not_say_who_one_is(monkeypatch):
    before = current_user()
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "mari")
    assert current_user() == before

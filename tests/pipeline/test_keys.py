"""Keysets: they open with their KEK and with nothing else, and no secret shows anywhere."""

import base64
import copy
import dataclasses
import json
import pickle
import sys
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import keys, wrapping
from pipeline.errors import MeterveilError
from pipeline.keys import (
    SECRET_ACCESS,
    KeyInfo,
    Secret,
    SecretAccess,
    Status,
    create_keyset,
    describe_keyset,
    open_keyset,
    rewrap_keyset,
)

FIRST = date.min
KEK = bytes(range(100, 132))


@pytest.fixture
def files(tmp_path):
    """Paths of a keyset, not made yet, and of a KEK."""
    kek = tmp_path / "kek.bin"
    wrapping.write_new(kek, KEK)
    return tmp_path / "keyset.json", str(kek)


def make_info(name, active_from=FIRST, status=Status.ENABLED, *, primary=False):
    return KeyInfo(name, status, datetime(2026, 1, 1, tzinfo=UTC), active_from, primary)


def write(path, *entries):
    """Write a keyset of (info, secret)."""
    path.unlink(missing_ok=True)
    wrapped = [
        (info, wrapping.LocalKey(KEK).wrap(secret, keys._authenticate(info)) if secret else b"")
        for info, secret in entries
    ]
    wrapping.write_new(path, keys._write_keyset(wrapped))


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def fill(number):
    return bytes([number]) + bytes(range(31))


def reveal(key):
    return key.secret.reveal(SECRET_ACCESS)


@given(
    starts=st.lists(st.dates(date(2020, 1, 1), date(2030, 1, 1)), min_size=1, max_size=5, unique=True),
    enabled=st.lists(st.booleans(), min_size=5, max_size=5),
    day=st.dates(date(2019, 1, 1), date(2031, 1, 1)),
)
def test_the_rows_local_date_chooses_the_key(tmp_path_factory, starts, enabled, day):
    path = tmp_path_factory.mktemp("keys") / "keyset.json"
    kek = path.with_name("kek.bin")
    wrapping.write_new(kek, KEK)
    entries = [(make_info("base", primary=True), fill(0))]
    for number, (start, usable) in enumerate(zip(starts, enabled, strict=False), 1):
        entries.append((make_info(f"key{number}", start, Status.ENABLED if usable else Status.DISABLED), fill(number)))
    write(path, *entries)
    expected = max(
        (entry for entry in entries if entry[0].status is Status.ENABLED and entry[0].active_from <= day),
        key=lambda entry: entry[0].active_from,
    )
    keyset = open_keyset(path, str(kek))
    assert (keyset.key_for(day).info, reveal(keyset.key_for(day))) == expected
    assert keyset.primary.info.id == "base"


def test_a_new_keyset_opens_with_the_kek_that_was_made_with_it(tmp_path):
    path, kek = tmp_path / "keys" / "keyset.json", tmp_path / "keys" / "kek.bin"
    info = create_keyset(path, str(kek))
    assert [oct(p.stat().st_mode & 0o777) for p in (path, kek, path.parent)] == ["0o600", "0o600", "0o700"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["kek.bin", "keyset.json"]
    keyset = open_keyset(path, str(kek))
    assert keyset.primary.info == info == describe_keyset(path)[0]
    assert keyset.key_for(FIRST) is keyset.key_for(date.max) is keyset.primary
    assert len(reveal(keyset.primary)) == len(kek.read_bytes()) == 32
    assert (info.status, info.active_from, info.primary, len(info.id)) == (Status.ENABLED, FIRST, True, 8)
    assert timedelta(0) <= datetime.now(UTC) - info.created_at < timedelta(minutes=1)


def test_the_file_holds_no_secret_and_no_two_keys_are_alike(tmp_path):
    kek = str(tmp_path / "kek.bin")
    secrets = []
    for name in ("a.json", "b.json"):
        create_keyset(tmp_path / name, kek)
        secrets.append(reveal(open_keyset(tmp_path / name, kek).primary))
        text = (tmp_path / name).read_text()
        for form in (
            secrets[-1].hex(),
            base64.b64encode(secrets[-1]).decode(),
            base64.urlsafe_b64encode(secrets[-1]).decode(),
        ):
            assert form.rstrip("=") not in text
    assert secrets[0] != secrets[1]


def test_an_existing_keyset_is_not_overwritten(files):
    path, kek = files
    create_keyset(path, kek)
    before = path.read_bytes()
    with pytest.raises(MeterveilError, match="not overwritten"):
        create_keyset(path, kek)
    with pytest.raises(MeterveilError, match="File exists"):
        wrapping.write_new(path, b"")
    assert path.read_bytes() == before


def test_a_secret_shows_in_no_text_copy_or_pickle(files):
    path, kek = files
    create_keyset(path, kek)
    keyset = open_keyset(path, kek)
    secret = reveal(keyset.primary)
    for thing in (keyset, keyset.primary, keyset.primary.secret):
        shown = f"{thing!r} {thing!s} {thing}"
        assert "hidden" in shown
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
        for leak in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="neither pickled nor copied"):
                leak(thing)
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        copy.copy(keyset.primary.secret)
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        dataclasses.asdict(keyset)
    with pytest.raises(TypeError, match="SECRET_ACCESS only"):
        keyset.primary.secret.reveal(SecretAccess())
    assert not hasattr(keyset.primary.secret, "__dict__")


def test_a_wrong_kek_is_one_clear_line(files, tmp_path):
    path, kek = files
    create_keyset(path, kek)
    wrapping.write_new(tmp_path / "other.bin", KEK[::-1])
    with pytest.raises(
        MeterveilError, match=r"keyset\.json: the key-encryption key does not open key [0-9a-f]{8}; use"
    ) as caught:
        open_keyset(path, str(tmp_path / "other.bin"))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["keys"][0].update(active_from="2020-01-01"),
        lambda d: d["keys"][0].update(created_at="2020-01-01T00:00:00+00:00"),
        lambda d: (d["keys"][0].update(id="ffffffff"), d.update(primary="ffffffff")),
        lambda d: d["keys"][0].update(secret=d["keys"][0]["secret"][:-8]),
        lambda d: d["keys"][0].update(secret=""),
        lambda d: d["keys"][0].update(secret="AAAA" + d["keys"][0]["secret"][4:]),
    ],
)
def test_a_keyset_that_was_changed_does_not_open(files, change):
    path, kek = files
    create_keyset(path, kek)
    edit(path, change)
    with pytest.raises(MeterveilError, match="does not open key"):
        open_keyset(path, kek)


@pytest.mark.parametrize("status", [Status.DISABLED, Status.DESTROYED])
def test_a_disabled_or_destroyed_key_is_not_used(files, status):
    path, kek = files
    old = make_info("old", status=status, primary=True)
    new = make_info("new", date(2027, 1, 1))
    write(path, (old, fill(1) if status is Status.DISABLED else None), (new, fill(2)))
    with pytest.raises(MeterveilError, match="the primary key is disabled or destroyed"):
        open_keyset(path, kek)
    edit(path, lambda d: d.update(primary="new"))
    keyset = open_keyset(path, kek)
    assert [key.info.id for key in keyset.keys] == ["new"]
    with pytest.raises(MeterveilError, match="no enabled key is active"):
        keyset.key_for(date(2026, 12, 31))
    assert [info.status for info in describe_keyset(path)] == [status, Status.ENABLED]


def test_two_keys_of_one_date_are_ambiguous(files):
    path, kek = files
    write(path, (make_info("a", primary=True), fill(1)), (make_info("b"), fill(2)))
    with pytest.raises(MeterveilError, match="two enabled keys"):
        open_keyset(path, kek)


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (bytes(range(31)), "shorter than 32 bytes"),
        (b"", "shorter than 32 bytes"),
        (b"correct horse battery staple 1234\n", "text, not random"),
        (bytes(32), "one byte repeated"),
        (b"\xff" * 40, "one byte repeated"),
        (bytes(range(33)), "has 32 bytes, this one more"),
    ],
)
def test_weak_key_encryption_keys_are_refused(tmp_path, monkeypatch, octets, words):
    wrapping.write_new(tmp_path / "kek.bin", octets)
    monkeypatch.setenv("METERVEIL_KEK", base64.urlsafe_b64encode(octets).decode() or "=")
    for kek in (str(tmp_path / "kek.bin"), "env:METERVEIL_KEK"):
        with pytest.raises(MeterveilError) as caught:
            create_keyset(tmp_path / "keyset.json", kek)
        assert words in str(caught.value) or not octets
    assert not (tmp_path / "keyset.json").exists()


@pytest.mark.parametrize("secret", [bytes(range(31)), b"a" * 40, bytes(32)])
def test_weak_secrets_are_refused(files, secret):
    path, kek = files
    write(path, (make_info("weak", primary=True), secret))
    with pytest.raises(MeterveilError, match=r"shorter than|text, not random|one byte repeated"):
        open_keyset(path, kek)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
@pytest.mark.parametrize("exposed", ["keyset.json", "kek.bin"])
def test_files_that_others_can_reach_are_refused(files, mode, exposed):
    path, kek = files
    create_keyset(path, kek)
    path.with_name(exposed).chmod(mode)
    with pytest.raises(MeterveilError, match=f"{exposed}: others may reach this key file"):
        open_keyset(path, kek)


def test_the_kek_may_stand_in_the_environment(files, monkeypatch):
    path, kek = files
    create_keyset(path, kek)
    text = base64.urlsafe_b64encode(KEK).decode()
    for value in (text, text.rstrip("=")):
        monkeypatch.setenv("METERVEIL_KEK", value)
        assert reveal(open_keyset(path, "env:METERVEIL_KEK").primary) == reveal(open_keyset(path, kek).primary)
    monkeypatch.setenv("METERVEIL_KEK", text[:-2] + "!!")
    with pytest.raises(MeterveilError, match="not base64url") as caught:
        open_keyset(path, "env:METERVEIL_KEK")
    assert text[:-2] not in str(caught.value)
    monkeypatch.delenv("METERVEIL_KEK")
    with pytest.raises(MeterveilError, match="env:METERVEIL_KEK: the environment variable is not set"):
        open_keyset(path, "env:METERVEIL_KEK")


def test_rewrapped_it_has_the_same_keys_and_opens_with_the_new_kek_alone(files, tmp_path):
    path, kek = files
    destroyed, disabled = (
        make_info("33333333", date(2024, 1, 1), Status.DESTROYED),
        make_info("22222222", date(2025, 1, 1), Status.DISABLED),
    )
    write(path, (make_info("11111111", primary=True), fill(1)), (disabled, fill(2)), (destroyed, b""))
    out, new = tmp_path / "moved.json", str(tmp_path / "new.bin")
    rewrap_keyset(path, kek, out, new)
    assert describe_keyset(out) == describe_keyset(path)
    assert reveal(open_keyset(out, new).primary) == reveal(open_keyset(path, kek).primary) == fill(1)
    edit(out, lambda keyset: keyset["keys"][1].update(status="ENABLED"))
    assert [reveal(key) for key in open_keyset(out, new).keys] == [fill(1), fill(2)]
    with pytest.raises(MeterveilError, match="does not open key"):
        open_keyset(out, kek)
    with pytest.raises(MeterveilError, match="is not overwritten"):
        rewrap_keyset(path, kek, out, new)


def test_a_kek_of_another_kind_is_refused_and_nothing_is_made(tmp_path):
    with pytest.raises(MeterveilError, match="no such kind of key-encryption key is known: vault://"):
        create_keyset(tmp_path / "keyset.json", "vault://keys/k")
    with pytest.raises(MeterveilError, match="keys are made on a disk"):
        create_keyset(tmp_path / "keyset.json", "s3://keys/kek.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kek", "module", "extra"),
    [("aws-kms://alias/lake", "boto3", "aws"), ("gcp-kms://projects/p/cryptoKeys/k", "google.cloud.kms", "gcp")],
)
def test_a_kms_whose_client_is_not_installed_is_told(tmp_path, monkeypatch, kek, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"pipeline.kms_{extra}", raising=False)
    with pytest.raises(MeterveilError, match=rf"not installed; pip install .*\[{extra}\]"):
        create_keyset(tmp_path / "keyset.json", kek)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no keyset"),
        ("[]", "no keyset"),
        ("{}", "no keyset"),
        ('{"format": "other", "version": 1}', "no keyset"),
        ('{"format": "meterveil-keyset", "version": 2}', "no keyset of format version 1"),
        ('{"format": "meterveil-keyset", "version": 1, "primary": "a", "keys": [{"id": "a"}]}', "no keyset"),
        ('{"format": "meterveil-keyset", "version": 1, "primary": "a", "keys": []}', "the primary is missing"),
    ],
)
def test_what_is_no_keyset_is_refused(files, content, words):
    path, _ = files
    wrapping.write_new(path, content.encode())
    with pytest.raises(MeterveilError, match=words):
        describe_keyset(path)


def test_a_repeated_id_and_a_missing_file_are_refused(files):
    path, kek = files
    with pytest.raises(MeterveilError, match="No such file"):
        open_keyset(path, kek)
    create_keyset(path, kek)
    edit(path, lambda d: d["keys"].append(d["keys"][0]))
    with pytest.raises(MeterveilError, match="repeated"):
        open_keyset(path, kek)


def test_a_secret_says_nothing_about_itself():
    assert repr(Secret(b"x" * 32)) == "Secret(hidden)"

"""The admin's lists read well and search in everything that they show."""

from web.admin_rows import audit_row, entries, key_row, matching, tenant_row, used_chars

KEY = {
    "key_id": "7kTq2mXw9ZpA",
    "masked": "qg_live_7kTq2mXw9ZpA_…wxyz",
    "tenant": "acme",
    "name": "ci",
    "plan": "standard",
    "scopes": ["generate"],
    "state": "active",
    "created_at": 1_760_000_000,
    "last_used_at": None,
    "expires_at": 1_800_000_000,
    "rotation": None,
}


def test_a_key_is_a_row_of_words():
    """Dates are days, and a rotation under way shows as the state."""
    row = key_row(KEY)
    assert (row["Last used"], row["Expires"], row["State"]) == (
        "never",
        "15 January 2027",
        "active",
    )
    assert key_row(KEY | {"rotation": {"deadline": 1}})["State"] == "rotating"
    assert key_row({})["Name"] == ""


def test_tenants_and_audit_records_are_rows_too():
    """Who did what to whom, and when."""
    assert tenant_row({"tenant": "acme", "plan": "free", "state": "active"})["Plan"] == "free"
    row = audit_row({"number": 3, "at": 0, "actor": "cli:ada", "action": "key.issue"})
    assert (row["No."], row["When (UTC)"], row["Who"]) == ("3", "1970-01-01 00:00:00", "cli:ada")


def test_an_audit_record_tells_names_and_what_changed():
    """Of the key that it is about, also one that is not listed any more, and of who did it."""
    keys = {"AAAAAAAAAAAA": KEY, "BBBBBBBBBBBB": {"name": "root's", "tenant": "house"}}
    record = {
        "actor": "key:BBBBBBBBBBBB",
        "action": "key.revoke",
        "subject": "AAAAAAAAAAAA",
        "before": {"state": "active", "scopes": ["generate"], "rotation": [1, 2]},
        "after": {"state": "revoked", "scopes": [], "rotation": None},
    }
    row = audit_row(record, keys)
    assert (row["Who"], row["On"], row["Tenant"], row["Id"]) == (
        "root's",
        KEY["name"],
        KEY["tenant"],
        "AAAAAAAAAAAA",
    )
    assert row["Change"] == "state: active → revoked"
    gone = {**record, "before": None, "after": {"name": "gone", "tenant": "acme"}}
    row = audit_row(gone, {})
    assert (row["Who"], row["On"], row["Tenant"], row["Change"]) == (
        "key:BBBBBBBBBBBB",
        "gone",
        "acme",
        "",
    )
    assert audit_row({"action": "tenant.add", "subject": "acme"}, keys)["Tenant"] == "acme"


def test_a_key_shows_what_it_used_where_that_is_known():
    """Nothing is not the same as not known."""
    tenants = [{"keys": {KEY["key_id"]: {"chars": 1200}, "odd": 7}}, {"keys": None}]
    assert key_row(KEY, used_chars(tenants))["Characters (30 days)"] == "1,200"
    assert key_row(KEY, {})["Characters (30 days)"] == "0"
    assert key_row(KEY)["Characters (30 days)"] == ""


def test_a_search_finds_rows_that_hold_every_word():
    """Whatever the case and wherever it stands."""
    rows = [key_row(KEY), key_row(KEY | {"name": "batch", "tenant": "other"})]
    assert matching(rows, "ACME ci") == rows[:1]
    assert matching(rows, "") == rows
    assert matching(rows, "nowhere") == []


def test_only_objects_are_listed():
    """An odd answer shows as an empty list."""
    assert entries({"keys": [{"key_id": "x"}, 1, None]}, "keys") == [{"key_id": "x"}]
    assert entries([], "keys") == entries({"keys": 1}, "keys") == []

"""The admin's lists read well and search in everything that they show."""

from web.admin_rows import audit_row, entries, key_row, matching, tenant_row

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

"""What docs/secret-manager.md says of money is what bench/secret_costs.py computes."""

from __future__ import annotations

from pathlib import Path

from bench.secret_costs import table, yearly_dollars

DOCS = Path(__file__).parents[3] / "docs" / "secret-manager.md"


def test_the_documented_table_is_the_computed_one():
    """Row by row."""
    assert "\n".join(table()) in DOCS.read_text()


def test_cost_follows_shards_not_keys_or_requests():
    """A shard more is a version more: $0.72 a year, and what starting instances read of it."""
    quiet = {"users": 0, "starts_a_day": 0, "changes_a_day": 0}
    assert round(yearly_dollars(65, **quiet) - yearly_dollars(64, **quiet), 6) == 0.72
    assert yearly_dollars(1, **quiet) == 0  # Google's six free versions

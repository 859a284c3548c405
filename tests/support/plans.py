"""Plans for tests of many processes: ten requests a minute, and one that is never in the way."""

WIDE = """
[wide]
requests_per_minute = 1_000_000
chars_per_minute = 100_000_000
chars_per_day = 100_000_000
chars_per_month = 100_000_000
concurrency = 1_000
max_num_chars = 1_000
weight = 1
"""
TEN_A_MINUTE = """
[ten]
requests_per_minute = 10
chars_per_minute = 1_000_000
chars_per_day = 1_000_000
chars_per_month = 1_000_000
concurrency = 1_000
max_num_chars = 1_000
weight = 1
"""

"""Repeating a paper: what it reports as data (`jobs/reproduce/*.toml`), the runs that yield a table of it,
what they need, and the table, filled in beside the paper's numbers as runs finish."""

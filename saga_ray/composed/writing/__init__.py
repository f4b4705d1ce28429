"""Writes triplets to train on.

`edits` plans what a language model is asked about captions and reads its answers, `parts` keeps what is done,
`pool` and `llm` run vLLM in Ray actors, `job` puts them together. `rules` needs no model: it writes triplets
from a table's attribute columns.
"""

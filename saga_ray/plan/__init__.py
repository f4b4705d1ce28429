"""What a run needs before it starts: operations, bytes, memory, seconds, from the models' sizes alone.

`sizes` says what a tower and a language model are made of, `towers` and `supervisors` read that from their
configurations, `counts` and `memory` count, `hardware` knows GPUs, `estimate` puts them together for a run.
"""

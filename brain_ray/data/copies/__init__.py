"""The audit for copies: views of each image's head, a search among all pairs, alignment of what it finds.

`find` runs it with Ray; the other modules compute on arrays. No bound proves that no copy is missed:
`benchmarks/audit.py` measures how many are found.
"""

"""The lease protocol of hosts, explored: two or three workers, some sessions, a database, and everything that fails.

Read `world.py` first: what there is, and what may happen. Then `properties.py`, H1 to H8, and `defects.py`, what each
of them notices. `explore.py` visits all of it, in the scopes of `scopes.py`. `conformance.py` takes the product along
the same ways, with the database, by `fleet.py`.
May import: `statemachine`.
May not know: files; but for the last two, randomness and the database.
"""

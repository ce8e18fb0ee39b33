"""One file, one entrypoint, one claim.

A module here whose name has no leading underscore and which defines `Config` and `main` is an experiment (or, as
`prepare`, a tool): `etude <name>` runs it, `python -m etude.experiments.<name>` does the same, and a notebook
imports `main`. Nothing has to be registered.
"""

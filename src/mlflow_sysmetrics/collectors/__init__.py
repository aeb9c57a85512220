"""Sampled metrics, one subject a file: Host -> readings.

`open_*(host)` looks once whether the host has the subject and raises `Unavailable` if not.
`collect()` returns readings under the names that `catalog` lists: gauges under their metric's
key, counters as totals that only rise. What could not be read is left out.
"""

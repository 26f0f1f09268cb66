"""The load of benchmarks/server_load.py, for a moment."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="the server needs the extra server")

from benchmarks.server_load import Table, clicking, malformed, oversized


@pytest.mark.slow
def test_clients_and_bad_requests_end_without_an_error(url):
    table = Table()
    clicking(url, table, clients=6, images=2, seconds=2, pause=0.1)
    malformed(url, table, count=100)
    oversized(url, table)
    found = {what: (value, within) for what, value, within in table.rows}
    errors = [value for what, (value, _) in found.items() if what.endswith("errors")]
    assert errors == ["0"]
    assert found["100 malformed requests"][1]
    assert found["400 MB: answered by"][0].startswith("413")

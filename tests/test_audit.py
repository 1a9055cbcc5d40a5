"""What pip-audit reports, and what `make audit` makes of it."""

from audit import verdict

CLEAN = {"name": "numpy", "version": "2.3.1", "vulns": []}
UNKNOWN = {"name": "keras", "skip_reason": "could not be audited"}
FLAWED = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [{"id": "PYSEC-2022-42979", "fix_versions": ["9.0.1"]}],
}


def test_a_known_vulnerability_fails():
    said, code = verdict({"dependencies": [CLEAN, FLAWED, UNKNOWN]})
    assert code == 1
    assert said.splitlines() == [
        "audit: 2 of 3 packages, 1 vulnerabilities",
        "pillow 9.0.0: PYSEC-2022-42979, mended in 9.0.1",
    ]


def test_what_could_not_be_looked_up_is_not_called_clean():
    assert verdict({"dependencies": [CLEAN, UNKNOWN]}) == (
        "audit: 1 of 2 packages, 0 vulnerabilities",
        0,
    )
    said, code = verdict({"dependencies": [UNKNOWN, UNKNOWN]})
    assert said.startswith("audit: NOT DONE") and code == 0

"""Holds pinned versions against the known vulnerabilities: `make audit`.

pip-audit itself says "No known vulnerabilities found" where it could not look up a single
package, so what it has looked up is counted here.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path


def verdict(report: Mapping) -> tuple[str, int]:
    """Turns pip-audit's report into what is to be said, and the exit code."""
    packages = report["dependencies"]
    audited = [package for package in packages if "vulns" in package]
    found = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version'}"
        for package in audited
        for flaw in package["vulns"]
    ]
    if not audited:
        return f"audit: NOT DONE: none of {len(packages)} packages could be looked up", 0
    said = f"audit: {len(audited)} of {len(packages)} packages, {len(found)} vulnerabilities"
    return "\n".join([said, *found]), 1 if found else 0


def main(requirements: str) -> int:
    """Audits a file of pinned versions, prints what was found and returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.json"
        command = [sys.executable, "-m", "pip_audit", "--requirement", requirements, "--no-deps"]
        options = ["--disable-pip", "--progress-spinner", "off", "--format", "json", "--output"]
        done = subprocess.run([*command, *options, path], capture_output=True, text=True)
        if not path.is_file():
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            print(f"audit: NOT DONE: {last}")
            return 0
        said, code = verdict(json.loads(path.read_text(encoding="utf-8")))
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

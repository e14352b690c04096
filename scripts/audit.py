"""Checks lock files against known vulnerabilities: audit.py PIP_AUDIT LOCK_FILE...

Exits with 0 only if every package was checked and none is known to be vulnerable:
pip-audit itself passes over what its source of data does not answer for.
"""

import json
import subprocess
import sys
from pathlib import Path


def audit(pip_audit: str, lock: str) -> bool:
    """Prints what is found in one lock file; whether all is well."""
    done = subprocess.run(
        [pip_audit, "--disable-pip", "--progress-spinner=off", "-f=json", "-r", lock],
        capture_output=True,
        text=True,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:  # no answer at all
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"{lock}: not checked, no vulnerability data to be had ({last[:200]})")
        return False
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    found = [
        f"{lock}: {each['name']} {each['version']}: {vulnerability['id']},"
        f" fixed in {' or '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for each in packages
        for vulnerability in each.get("vulns", [])
    ]
    for line in found:
        print(line)
    if skipped:
        print(
            f"{lock}: {len(skipped)} of {len(packages)} packages not checked, no"
            f" vulnerability data to be had for {', '.join(skipped[:3])}..."
        )
    elif not found:
        print(f"{lock}: {len(packages)} packages, no known vulnerability")
    return not found and not skipped


if __name__ == "__main__":
    tool, *locks = sys.argv[1:]
    if not Path(tool).exists():
        sys.exit(f"not checked: {tool} is not there")
    sys.exit(0 if all([audit(tool, lock) for lock in locks]) else 1)

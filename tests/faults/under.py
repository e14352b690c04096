"""A command under limits: under.py files=BYTES|memory=BYTES|anybody COMMAND...

files: no file may grow larger, as on a full disk or under a quota.
memory: the process may have no more.
anybody: permission bits bite, even for root.
"""

import ctypes
import os
import resource
import sys

DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
PR_CAPBSET_DROP = 24

if __name__ == "__main__":
    limit, command = sys.argv[1], sys.argv[2:]
    if limit == "anybody":
        for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    else:
        of, _, most = limit.partition("=")
        kind = {"files": resource.RLIMIT_FSIZE, "memory": resource.RLIMIT_AS}[of]
        resource.setrlimit(kind, (int(most), int(most)))
    os.execv(command[0], command)

"""A command under limits: under.py files=BYTES|anybody COMMAND...

files=BYTES: no file may grow larger, as on a full disk or under a quota.
anybody: permission bits bite, even for root.
"""

import ctypes
import os
import resource
import sys

DAC_OVERRIDE = 1
PR_CAPBSET_DROP = 24

if __name__ == "__main__":
    limit, command = sys.argv[1], sys.argv[2:]
    if limit == "anybody":
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, DAC_OVERRIDE, 0, 0, 0)
    else:
        most = int(limit.removeprefix("files="))
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    os.execv(command[0], command)

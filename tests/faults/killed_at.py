"""The program, killed by itself just before a rename: killed_at.py NAME FLAGS.

NAME is the end of the path that a file or folder would have been given.
"""

import os
import signal
import sys

NAME = sys.argv.pop(1)


def watch(event, args):
    if event == "os.rename" and str(args[1]).endswith(NAME):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from ssl_vae import main

    sys.addaudithook(watch)
    main.run()

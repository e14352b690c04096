"""What `--help` of the main command line says."""

import sys
import textwrap
from pathlib import Path

from ssl_vae import config as recipes

COMMAND, MODULE = "ssl-vae", "python -m ssl_vae.main"
ASKED_BY = {"--help", "-help", "-h", "-?", "--helpshort", "-helpshort"}
COLUMN, WIDTH = 26, 80

TEXT = """\
usage: {program} [--FLAG=VALUE ...]

Learns from many images and few labels: trains a model of all images, and a
classifier with the labeled few, and prints its accuracy. The same command goes
on with a run that was stopped, and repeats the numbers of a finished one.

  # a first try, without a download
  {program} --dataset=digits --labels=100
  # images of your own, in photos/<class>/ and photos/unlabeled/
  {program} --dataset=folder:photos --config=best
  # another recipe, with a field changed
  {program} --config=m1_features --config.model.latent_dim=20

what is trained:
  --config=RECIPE         {recipes}
  --config.FIELD=VALUE    changes a field of it; --dry_run shows all of them
  --labels=N,...          how many images keep their label: 600, or 100,600

on what:
  --dataset=DATA          fashion_mnist (default), mnist, kmnist, digits, or
                          yours: folder:DIR, npz:FILE, tfds:NAME
  --data_dir=DIR          four IDX files of an MNIST-shaped set, or a TFDS tree

where it goes:
  --workdir=DIR           default: checkpoints/<recipe>-<dataset>-seed<seed>
  --log=NAME,...          also to tensorboard, wandb, or both

several processes that do it together:
  --distributed=auto      or on, off; auto: on a TPU slice, in Slurm, ...
  --coordinator_address=HOST:PORT
  --num_processes=N       these three where they are not found by themselves
  --process_id=I
  --patience=SECONDS      for a process that does not come or falls silent

besides:
  --suggest=N             names N unlabeled images whose labels would help most
  --dry_run               shows recipe, sizes, how long it trains; does nothing
  --helpfull              all flags, those of libraries too

A finished run is used by python -m ssl_vae.predict, ssl_vae.report and
ssl_vae.export; each of them has --help.
"""


def text() -> str:
    """The help, for the command as it was typed."""
    names = ", ".join([*recipes.names(), "or a file of yours"])
    names = names.replace("m1,", "m1 (default),", 1)
    lines = textwrap.wrap(names, WIDTH - COLUMN)
    typed = Path(sys.argv[0]).name == COMMAND
    return TEXT.format(
        program=COMMAND if typed else MODULE, recipes=f"\n{' ' * COLUMN}".join(lines)
    )

"""The command line: `python -m ssl_vae.main --labels=600`."""

import logging
import re
import shlex
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from ssl_vae import config as recipes
from ssl_vae import follow, usage
from ssl_vae.clock import Clock
from ssl_vae.compiled import keep_compiled
from ssl_vae.errors import InputError, RunError, Stopped, exit_status, say
from ssl_vae.fields import FEW
from ssl_vae.plan import Plan, make_plan
from ssl_vae.results import Results
from ssl_vae.stops import STOPPED, stop_signals

# JAX and scikit-learn take seconds to import: only after all checks.

FLAGS = flags.FLAGS
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # XLA's word for it

flags.DEFINE_list(
    "labels", None, "How many training images keep their label: 600, or 100,600,1000."
)
flags.DEFINE_string(
    "dataset",
    None,
    "Name of a data set, such as digits; or your own: folder:DIR, npz:FILE, tfds:NAME.",
)
flags.DEFINE_string(
    "data_dir",
    None,
    "Folder with the four IDX files of an MNIST-shaped set, or a prepared TFDS tree.",
)
flags.DEFINE_string(
    "workdir",
    None,
    "Where the run goes; default checkpoints/<recipe>-<dataset>-seed<seed>.",
)
flags.DEFINE_list(
    "log", None, "Where the run can be followed: tensorboard, wandb, or both."
)
flags.DEFINE_enum(
    "distributed",
    "auto",
    ["auto", "on", "off"],
    "Whether several processes do the run together; auto: on a TPU slice, in Slurm...",
)
flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, if it is not found by itself."
)
flags.DEFINE_integer(
    "num_processes", None, "How many processes do the run together.", lower_bound=1
)
flags.DEFINE_integer("process_id", None, "Which one this is, from 0.", lower_bound=0)
flags.DEFINE_integer(
    "patience",
    300,
    "Seconds to wait for a process of the run that does not come or falls silent.",
    lower_bound=1,
)
flags.DEFINE_bool(
    "dry_run", False, "Print the recipe, sizes and an estimate of the time; do nothing."
)
flags.DEFINE_integer(
    "suggest",
    None,
    "How many unlabeled images to name whose labels would help most.",
    lower_bound=1,
    upper_bound=1000,
)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Reads the flags; `--config=FILE` may stand anywhere among its overrides.

    Returns:
      What is left of `argv`: the program's name.

    Raises:
      InputError: for anything that is not a flag, a field or a value of theirs.
    """
    if usage.ASKED_BY.intersection(argv[1:]):
        print(usage.text(), end="")  # noqa: T201
        sys.exit(0)
    try:
        argv = FLAGS.read_flags_from_files(list(argv), force_gnu=False)
    except flags.Error as error:
        raise InputError(f"--flagfile: {error}") from None
    argv, file = _take_config_file(argv)
    config, given = recipes.load(file), set()
    for arg in argv[1:]:
        name = arg.lstrip("-").removeprefix("no").partition("=")[0]
        if arg.startswith("-") and name.startswith("config."):
            given.add(name.removeprefix("config."))
            _check_field(name.removeprefix("config."), config)
    try:
        config_flags.DEFINE_config_dict(
            "config",
            config,
            "Recipe, a file with get_config(); --config.<field>=<value> changes a"
            " field.",
            sys_argv=argv,
            flag_values=FLAGS,
        )
        FLAGS["config"].default_as_str = f"'{file}'"
        rest = FLAGS(argv)
    except SystemExit:  # --helpfull and its kin, which absl ends with status 1
        sys.exit(0)
    except flags.UnrecognizedFlagError as error:
        name, hint = error.flagname, _hint(error.flagname, config)
        raise InputError(f"--{name}: not a flag{hint}" if hint else error) from None
    except (flags.Error, TypeError, ValueError) as error:
        raise InputError(_in_our_words(" ".join(str(error).split()), config)) from None
    if rest[1:]:
        raise InputError(f"{rest[1]}: not a flag; flags begin with --")
    if FLAGS.dataset is not None and "dataset" in FLAGS.config:
        if "dataset" in given and FLAGS.config.dataset != FLAGS.dataset:
            raise InputError(
                f"--dataset={FLAGS.dataset}: and --config.dataset="
                f"{FLAGS.config.dataset}; give one of the two"
            )
        FLAGS.config.dataset = FLAGS.dataset
    fields = recipes.flatten(FLAGS.config)
    for name in given:  # what the user says holds for few labels too
        few = FEW + name
        if few in fields and few not in given:
            FLAGS.config.update_from_flattened_dict({few: fields[name]})
    return rest


def _take_config_file(argv: list[str]) -> tuple[list[str], str | Path]:
    """`argv` without `--config=FILE` or `--config FILE`, and the file."""
    file: str | Path = recipes.recipe_path("m1")
    rest, args = argv[:1], iter(argv[1:])
    for arg in args:
        name, equals, value = arg.partition("=")
        if name.lstrip("-") == "config" and name != "config":
            file = value if equals else next(args, "")
        else:
            rest.append(arg)
    return rest, file


def _check_field(name: str, config: ConfigDict) -> None:
    known = recipes.flatten(config)
    if name in ("model.name", "m1.model.name"):
        raise InputError(
            f"--config.{name}: belongs to the recipe, which is chosen by --config:"
            f" {', '.join(recipes.names())}"
        )
    if name in known:
        return
    if any(field.startswith(f"{name}.") for field in known):
        raise InputError(f"--config.{name}: a group of fields; set one of them")
    raise InputError(f"--config.{name}: no such field{recipes.nearest(name, known)}")


def _hint(flag: str, config: ConfigDict) -> str:
    """The field that somebody means who gives it as a flag."""
    fields = recipes.flatten(config)
    meant = any(flag == field.rpartition(".")[2] for field in fields if flag != "name")
    return recipes.nearest(flag, fields) if meant else ""


def _in_our_words(message: str, config: ConfigDict) -> str:
    """What is wrong with a value, by what its field may hold; others as they are."""
    found = re.match(r"flag --config\.([\w.]+)=(.*?): ", message)
    if not found:
        return message
    field, value = found.groups()
    return f"--config.{field}={value!r}: must be {recipes.allowed(config, field)}"


def _label_counts(texts: Sequence[str]) -> tuple[int, ...]:
    if not all(
        re.fullmatch(r"[+-]?\d{1,18}", text.strip(), re.A) for text in texts or [""]
    ):
        given = ",".join(texts)
        raise InputError(
            f"--labels={given}: must be whole numbers, such as --labels=100,600"
        )
    return tuple(int(text) for text in texts)


def main(argv: Sequence[str]) -> int:
    """Runs the experiment that the flags describe and prints its table."""
    del argv  # all of it was flags
    config = FLAGS.config
    recipes.validate(config)
    if FLAGS.labels is not None:
        config.labels = _label_counts(FLAGS.labels)
    if FLAGS.log is not None:
        follow.check(FLAGS.log)
    clock = Clock()
    with stop_signals() as heard:
        with clock.part("data"):
            plan = make_plan(config, FLAGS.workdir, FLAGS.data_dir)
        if FLAGS.suggest:
            plan.workdir.check()
        if FLAGS.dry_run:
            from ssl_vae import dry_run  # late: see above

            print(dry_run.describe(plan))  # noqa: T201
            return 0
        results = plan.finished
        with follow.Follower(FLAGS.log or (), plan) as follower:
            if results is None:
                results = _carry_out(plan, clock, heard, follower)
            if results is None:
                return 0
            follower.finish(results)
        print(results.table(list(plan.recipe.labels)))  # noqa: T201
        if FLAGS.suggest:
            from ssl_vae import suggest  # late: see above

            print(suggest.write_suggestions(plan, FLAGS.suggest))  # noqa: T201
    return 0


def _carry_out(
    plan: Plan, clock: Clock, heard: threading.Event, follower: follow.Follower
) -> Results | None:
    """The experiment; it stops in good order once a signal was heard.

    Returns:
      None in a process that follows another, which tells the results.
    """
    from ssl_vae import experiment, processes  # late: see above

    processes.begin(
        FLAGS.distributed,
        coordinator_address=FLAGS.coordinator_address,
        num_processes=FLAGS.num_processes,
        process_id=FLAGS.process_id,
        patience=FLAGS.patience,
    )
    if FLAGS.suggest and processes.Team().size > 1:
        raise InputError(
            f"--suggest={FLAGS.suggest}: is for one process; once the run is finished,"
            " give it the same command with --distributed=off"
        )
    try:
        with processes.ended_with_others():
            results = experiment.carry_out(
                plan,
                clock=clock,
                command=shlex.join([*usage.MODULE.split(), *sys.argv[1:]]),
                stop=heard.is_set,
                follow=follower,
            )
        return results if processes.Team().leads else None
    except Stopped as stopped:
        say(f"stopped: {stopped}; the same command goes on")
        sys.exit(STOPPED)


def _program() -> NoReturn:
    """Runs what the flags ask for; what the machine lacks becomes a remedy."""
    try:
        app.run(main, flags_parser=parse_flags)
    except BrokenPipeError:
        raise
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and OUT_OF_MEMORY not in str(error):
            raise
        raise RunError(
            "out of memory; choose a smaller --config.train.batch_size or model, with"
            " a --workdir of its own"
        ) from None
    except OSError as error:  # a full disk, mostly
        raise RunError(
            f"{error}; what was saved before is kept: once that is mended the same"
            " command goes on"
        ) from None


def run() -> None:
    """The program; exits as `errors.exit_status` says, with 143 where stopped."""
    keep_compiled()
    logger = logging.getLogger("ssl_vae")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # Libraries raise what matters; their own words, of every thread that met a full
    # disk or a damaged file, would bury the one line for it.
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").disabled = True
    sys.unraisablehook = lambda _: None
    # Writes that Orbax had not begun when another met the full disk.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.exit(exit_status(_program))


if __name__ == "__main__":
    run()

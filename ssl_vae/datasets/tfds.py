"""TFDS without TensorFlow: the only importer of ``tensorflow_datasets``.

The stock builders of the MNIST family need TensorFlow to unpack and to encode images.
The subclass made here does both without it, and writes what the stock builder reads.
TFDS is imported when it is first needed: its import takes a second.
"""

import contextlib
import importlib.util
import io
import logging
import re
import struct
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import numpy as np
from PIL import Image

from ssl_vae.datasets import idx, network, stored
from ssl_vae.datasets.dataset import MAX_SIDE, Arrays, Images
from ssl_vae.datasets.picture import FORMATS
from ssl_vae.errors import InputError, in_a_line

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_MODES = {1: "L", 3: "RGB"}
_AT_A_TIME = 500  # records


def find(name: str, folder: Path) -> Path | None:
    """Version folder of the newest prepared data set, None where there is none.

    Args:
      name: the data set; with ":VERSION" no other version will do.
      folder: a TFDS folder, or the data set's own folder within one.
    """
    name, _, version = name.partition(":")
    versions = _versions(folder / name) or _versions(folder)
    fitting = [path for path in versions if version in ("", path.name)]
    return fitting[-1] if fitting else None


def prepared_names(folder: Path) -> list[str]:
    """Names of the data sets that are prepared in a TFDS folder."""
    return sorted(path.name for path in folder.iterdir() if _versions(path))


def prepare(name: str, tfds_dir: Path, manual_dir: Path | None = None) -> Path:
    """Version folder of a data set that is downloaded and prepared unless it is there.

    Args:
      name: a data set of the MNIST family.
      tfds_dir: the TFDS folder to prepare it in.
      manual_dir: folder with the four ``.gz`` files, for a machine without a network.

    Raises:
      InputError: the files cannot be had, are not the right ones or cannot be kept.
    """
    if not (ready := _versions(tfds_dir / name)):
        with _quiet() as tfds:
            builder_class = _without_tensorflow(tfds, name)
            _check_origin(name, builder_class.URL, manual_dir)
            _download_and_prepare(tfds, builder_class, tfds_dir, manual_dir)
        ready = _versions(tfds_dir / name)
    return ready[-1]


class Content(NamedTuple):
    """What a prepared data set holds, in the order of its files.

    Attributes:
      train: Images uint8 [N, height, width, channels], and labels, int64 [N].
      test: The same of the split "test"; None where there is none.
      class_names: By label value.
    """

    train: Arrays
    test: Arrays | None
    class_names: tuple[str, ...]


def read(folder: Path, file: Path) -> Content:
    """What a prepared data set holds.

    Args:
      folder: a version folder.
      file: where the training images go if they are too large for memory.

    Raises:
      InputError: the data set is damaged or of another kind.
    """
    try:
        with _quiet() as tfds:
            info = tfds.builder_from_directory(folder).info
            _check_kind(tfds.features, info, folder)
            test = None
            if "test" in info.splits:
                test = _read_split(info, "test", stored.as_array)
            train = _read_split(info, "train", partial(stored.gathered, path=file))
            return Content(train, test, tuple(info.features["label"].names))
    except InputError:
        raise
    except Exception as error:  # a damaged tree fails in too many ways to list
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(
            f"the TFDS data set in {folder} cannot be read ({reason}): "
            "delete that folder and prepare it again"
        ) from error


def prepare_any(name: str, tfds_dir: Path) -> Path:
    """Version folder of any TFDS data set, downloaded and prepared by TensorFlow.

    Raises:
      InputError: TensorFlow is not installed, or the data set cannot be had.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"--dataset=tfds:{name}: not prepared in {tfds_dir}, and only TensorFlow "
            "can prepare it; pip install tensorflow, or prepare it on another machine "
            "and give its TFDS folder as --data_dir"
        )
    try:
        with _quiet() as tfds:
            builder = tfds.builder(name, data_dir=tfds_dir)
            builder.download_and_prepare()
            return Path(builder.data_path)
    except Exception as error:  # other people's code and servers
        raise InputError(
            f"--dataset=tfds:{name}: cannot be prepared in {tfds_dir}"
            f" ({in_a_line(error)})"
        ) from error


def _check_kind(kinds: Any, info: Any, folder: Path) -> None:
    """Refuses what is no set of images of one size, with a class each."""
    features, where = info.features, f"the TFDS data set in {folder}"
    if not {"image", "label"} <= set(features) or "train" not in info.splits:
        raise InputError(
            f"{where} has the features {', '.join(features)} and the splits "
            f"{', '.join(info.splits)}: image, label and train are needed"
        )
    image, label = features["image"], features["label"]
    if not (
        isinstance(image, kinds.Image)
        and image.np_dtype == np.uint8
        and isinstance(label, kinds.ClassLabel)
    ):
        given = textwrap.shorten(f"{image!r} and the label {label!r}", 200)
        raise InputError(
            f"{where} has the image {given}: an Image of uint8 and a ClassLabel are "
            "needed; write the images to folders, and give --dataset=folder:DIR"
        )
    shape = image.shape
    if None in shape or shape[-1] not in _MODES or max(shape[:2]) > MAX_SIDE:
        raise InputError(
            f"{where} has images of the shape {shape}: images of one size are needed, "
            f"at most {MAX_SIDE} pixels a side, gray or in color; write them to "
            "folders, and give --dataset=folder:DIR"
        )


def _versions(folder: Path) -> list[Path]:
    """Version folders, oldest first. TFDS names one so only when it is complete."""
    found = [
        path.parent
        for path in folder.glob("*/dataset_info.json")
        if _VERSION.fullmatch(path.parent.name)
    ]
    return sorted(found, key=lambda path: [int(n) for n in path.name.split(".")])


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """TFDS, without its advice and, unless on a terminal, its progress bars."""
    import tensorflow_datasets as tfds

    logger = logging.getLogger("absl")  # TFDS logs there
    level = logger.level
    logger.setLevel(logging.ERROR)
    tfds.display_progress_bar(sys.stderr.isatty())
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield tfds
    finally:
        logger.setLevel(level)


def _check_origin(name: str, url: str, manual_dir: Path | None) -> None:
    """Refuses at once what TFDS would find out after minutes of retries."""
    files = [f"{file}.gz" for file in idx.FILE_NAMES]
    if manual_dir:
        if missing := [file for file in files if not (manual_dir / file).is_file()]:
            raise InputError(f"{manual_dir} lacks {', '.join(missing)}: put them there")
    elif fault := network.why_unreachable(urljoin(url, files[0])):
        # `make data` knows another origin for this one.
        instead = "run `make data`, or " if name == "fashion_mnist" else ""
        raise InputError(
            f"cannot download {name} from {url} ({fault}): {instead}put "
            f"{', '.join(files)} in a folder and give it as --data_dir"
        )
    else:
        sys.stderr.write(f"Downloading {name} from {url}\n")


def _without_tensorflow(tfds: Any, dataset_name: str) -> Any:
    """The stock builder class with the steps replaced that need TensorFlow."""
    stock: Any = tfds.core.load.builder_cls(dataset_name)
    with tfds.core.registered.skip_registration():

        class Builder(stock):
            name = dataset_name

            def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
                urls = {f: urljoin(self.URL, f"{f}.gz") for f in idx.FILE_NAMES}
                files = dl_manager.download(urls)
                paths = {file: Path(path) for file, path in files.items()}
                train, test = idx.pair_up(idx.read_set(paths)[0], paths)
                return {"train": _examples(*train), "test": _examples(*test)}

    return Builder


def _examples(
    images: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[int, dict[str, Any]]]:
    # TFDS encodes arrays with TensorFlow, PIL images without it.
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield index, {"image": Image.fromarray(image[..., 0]), "label": int(label)}


def _download_and_prepare(
    tfds: Any, builder_class: Any, tfds_dir: Path, manual_dir: Path | None
) -> None:
    failures = (
        OSError,  # that of the network included
        tfds.core.download.util.DownloadError,
        tfds.core.download.download_manager.NonMatchingChecksumError,
    )
    config = tfds.download.DownloadConfig(
        manual_dir=manual_dir, force_checksums_validation=True
    )
    try:
        tfds_dir.mkdir(parents=True, exist_ok=True)
        # A folder of its own: two processes may be downloading at the same time.
        with tempfile.TemporaryDirectory(prefix="download_", dir=tfds_dir) as download:
            builder_class(data_dir=tfds_dir).download_and_prepare(
                download_dir=download,
                download_config=config,
                file_format="array_record",
            )
    except failures as error:
        if _versions(tfds_dir / builder_class.name):
            return  # another process was faster, and its result is as good
        reason = in_a_line(error, 1000).partition(" To debug")[0]
        raise InputError(
            f"cannot prepare {builder_class.name} in {tfds_dir} ({reason}): "
            "try again, or give --data_dir a folder with the files"
        ) from error


def _read_split(info: Any, split: str, gather: Callable[..., Images]) -> Arrays:
    """Images and labels of a split; see `stored.gathered` for `gather`."""
    shape, count = info.features["image"].shape, info.splits[split].num_examples
    labels = []

    def images() -> Iterator[np.ndarray]:
        for path in info.splits[split].filepaths:
            for record in _records(Path(path), info.file_format.value):
                image, label = _decode(record, shape)
                labels.append(label)
                yield image

    try:
        return gather(images(), (count, *shape)), np.array(labels, np.int64)
    except ValueError as error:
        raise ValueError(f"{split}: {error}") from error


def _records(path: Path, file_format: str) -> Iterator[bytes]:
    """Serialized examples of one file."""
    from array_record.python.array_record_module import ArrayRecordReader

    if file_format == "array_record":
        with contextlib.closing(ArrayRecordReader(str(path))) as reader:
            for begin in range(0, reader.num_records(), _AT_A_TIME):
                end = min(begin + _AT_A_TIME, reader.num_records())
                yield from reader.read(begin, end)
    elif file_format == "tfrecord":  # what TFDS writes where TensorFlow is installed
        with path.open("rb") as stream:
            while length := stream.read(8):
                stream.read(4)  # the length's checksum
                yield stream.read(*struct.unpack("<Q", length))
                stream.read(4)  # the record's checksum
    else:
        raise ValueError(f"its format is {file_format}")


def _decode(record: bytes, shape: tuple[int, int, int]) -> tuple[np.ndarray, int]:
    """Image uint8 [height, width, channels] and label of one serialized example."""
    from tensorflow_datasets.proto import tf_example_pb2

    feature = tf_example_pb2.Example.FromString(record).features.feature
    packed = io.BytesIO(feature["image"].bytes_list.value[0])
    with Image.open(packed, formats=FORMATS) as image:
        if image.size != (shape[1], shape[0]):
            raise ValueError(f"an image of {image.size[0]}x{image.size[1]} pixels")
        pixels = np.asarray(image.convert(_MODES[shape[2]]))
    return pixels.reshape(shape), feature["label"].int64_list.value[0]

"""Read the pickles of CIFAR and downsampled ImageNet without running what they may ask to run."""

import _codecs
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bdp_ext.errors import UserError

# numpy's own constructors, taken from what it writes: their module's name differs by version.
_CONSTRUCTORS = {
    "_reconstruct": np.zeros(1).__reduce__()[0],
    "_frombuffer": np.zeros(1).__reduce_ex__(5)[0],
    "scalar": np.float64(0).__reduce__()[0],
}
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _codecs.encode,  # how protocol 2 writes bytes
    ("builtins", "bytes"): bytes,
    ("__builtin__", "bytes"): bytes,
    ("builtins", "bytearray"): bytearray,
    ("__builtin__", "bytearray"): bytearray,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module in ("multiarray", "numeric")
        for name, function in _CONSTRUCTORS.items()
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read(path: Path, keys: tuple[str, ...], advice: str) -> dict[str, Any]:
    """Unpickle a dictionary of arrays, lists, strings and numbers; anything else is refused.

    Args:
        path: the file.
        keys: what the dictionary must hold.
        advice: what to do when the file is missing or damaged; ends the sentence.

    Raises:
        UserError: the file is missing, unreadable, damaged or something else than expected.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # numpy 2.4 warns about the dtypes that Python 2 pickled.
            warnings.simplefilter("ignore")
            content = _Unpickler(file, encoding="latin1").load()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {advice}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable.") from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{path} is damaged or not the file it should be ({reason}): {advice}"
        ) from error
    if not isinstance(content, dict) or not all(key in content for key in keys):
        raise UserError(f"{path} does not hold {' and '.join(keys)}: {advice}")
    return content


def read_images(
    path: Path, size: int, label_key: str, advice: str
) -> tuple[np.ndarray, np.ndarray]:
    """One batch file: images [N, 3, size, size] uint8 and labels [N] int64. Raises as `read`."""
    content = read(path, ("data", label_key), advice)
    data, labels = content["data"], content[label_key]
    try:
        labels = np.asarray(labels, dtype=np.int64)
        fits = data.dtype == np.uint8 and data.shape == (len(labels), 3 * size * size)
    except (AttributeError, TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise UserError(f"{path} does not hold labelled {size}x{size} RGB images: {advice}")
    return data.reshape(-1, 3, size, size), labels

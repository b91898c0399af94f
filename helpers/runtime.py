"""Where am I, which devices, which precision, which seed: everything a notebook needs to know of its machine."""

from __future__ import annotations  # so that a Python too old for the course reads as far as the door, which says so

import contextlib
import functools
import importlib.metadata
import math
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from helpers.course import door

PACKAGES = ("tensorflow", "keras", "numpy", "opencv-python-headless", "opencv-python", "pandas", "scikit-learn")


def repo_root() -> Path:
    """The folder of `pyproject.toml`, `data_manifests` and `notebooks`; RuntimeError where the package was copied out of it."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "data_manifests").is_dir():
        raise RuntimeError(
            f"no data_manifests folder beside the package: found {root.name}/, expected a clone of the repository; "
            "clone it and install with: pip install -e ."
        )
    return root


def project() -> dict:
    """Name, version, licence and addresses of the course, as pyproject.toml states them under `[project]`."""
    import tomllib

    with (repo_root() / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"]


def repo_url() -> str:
    """The public address of the repository, from the one place where it stands."""
    return project()["urls"]["Repository"].rstrip("/")


@functools.lru_cache(maxsize=1)  # every connection asks; Python 3.8 has no `cache`, and must reach the door
def user_agent() -> str:
    """Who asks, as servers are told: `learning-from-video/0.1.0 (+address)`. Some refuse the names of programming libraries."""
    told = project()
    return f"{told['name']}/{told['version']} (+{repo_url()})"


def where() -> str:
    """One of "colab", "colab-enterprise", "gcp" or "elsewhere"; looks at the machine only, asks no network."""
    if os.environ.get("VERTEX_PRODUCT") == "COLAB_ENTERPRISE":
        return "colab-enterprise"
    if "COLAB_RELEASE_TAG" in os.environ or "COLAB_GPU" in os.environ:
        return "colab"
    with contextlib.suppress(OSError):
        if "Google Compute Engine" in Path("/sys/class/dmi/id/product_name").read_text(encoding="utf-8"):
            return "gcp"
    return "elsewhere"


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Redirect file descriptor 2 while the body runs; what was written is shown again only if the body raises.

    TensorFlow 2.21 writes its first lines before it reads TF_CPP_MIN_LOG_LEVEL, from C++, so neither the variable
    nor `contextlib.redirect_stderr` can stop them.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except BaseException:
            sink.seek(0)
            os.write(saved, sink.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def cpu_count() -> int:
    """Cores that this process may use: a container's limit and the affinity count."""
    import joblib

    return joblib.cpu_count()


# What decides how many threads a process starts: TensorFlow's, those of NumPy's libraries and of OpenMP, OpenCV's. Not joblib's
# processes: with one of them an item that dies would take the kernel along.
THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
# Threads of scikit-learn and NumPy that wait go to sleep; by default they spin, and hold a core that another program could use:
# tests/benchmarks/waiting_threads.py.
WAITING = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "4"}


def share_of_cpu(parts: int) -> dict[str, str]:
    """Environment variables that give a process one of `parts` equal shares of the cores; what the user set stays.

    Two kernels with as many threads as there are cores would spin against each other.
    """
    if parts == 1:
        return {}
    return {name: os.environ.get(name, str(max(1, cpu_count() // parts))) for name in THREADS}


def quiet_start() -> None:
    """Import Keras and its backend and touch the devices with descriptor 2 redirected; call before any other import of Keras.

    oneDNN is turned on unless TF_ENABLE_ONEDNN_OPTS says otherwise: TensorFlow itself does so only on CPUs with AVX-512 VNNI, and
    elsewhere a 3-D convolution takes up to a hundred times longer. Waiting threads sleep, see `WAITING`.

    Raises:
        door.NotReadyError: this Python, backend or environment cannot run the course; says what to press or type.
    """
    colab = where().startswith("colab") or "google.colab" in sys.modules
    door.check(colab=colab)
    for name, value in {"TF_ENABLE_ONEDNN_OPTS": "1", **WAITING}.items():
        os.environ.setdefault(name, value)
    # 3 hides errors too: those that matter come as exceptions, and oneDNN calls it one that a CPU lacks AVX-512.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    with quiet_stderr():
        import keras

        door.check_keras(keras.__version__, colab=colab)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.list_logical_devices()
            tf.get_logger().setLevel("ERROR")  # many small networks in one notebook: "triggered retracing", each time
        keras.ops.add(1.0, 1.0)


def devices() -> list[dict]:
    """GPUs of this process, else its CPU: a list of `{"kind", "name", "memory_gib", "compute_capability"}` (None if unknown)."""
    import keras

    return (_jax_gpus() if keras.backend.backend() == "jax" else _tensorflow_gpus()) or _cpu()


def onednn() -> bool:
    """Whether Keras computes by oneDNN on the CPU: TensorFlow alone has it, where its build and `TF_ENABLE_ONEDNN_OPTS` say so."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    try:
        from tensorflow.python.util import _pywrap_util_port

        return bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):  # no public name tells it
        return False


def _device(kind: str, name: str, memory: float | None, capability: tuple | None = None) -> dict:
    return {"kind": kind, "name": name, "memory_gib": memory, "compute_capability": capability}


def memory() -> float:
    """Bytes of memory of this machine, or of the container that the process runs in; infinite where no system tells."""
    found = [math.inf]
    with contextlib.suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):
            found.append(int(Path(path).read_text(encoding="utf-8")))
    return min(found)


def _cpu() -> list[dict]:
    size = memory()
    name = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return [_device("CPU", name, round(size / 2**30, 1) if size < math.inf else None)]


def _jax_gpus() -> list[dict]:
    import jax

    found = []
    for device in jax.local_devices():
        if device.platform == "cpu":
            continue
        stats = device.memory_stats() or {}
        memory = round(stats["bytes_limit"] / 2**30, 1) if "bytes_limit" in stats else None
        capability = getattr(device, "compute_capability", None)
        capability = tuple(int(part) for part in str(capability).split(".")) if capability else None
        found.append(_device("GPU", device.device_kind, memory, capability))
    return found


def _tensorflow_gpus() -> list[dict]:
    import tensorflow as tf

    found = []
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        name, capability = details.get("device_name", device.name), details.get("compute_capability")
        found.append(_device("GPU", name, _nvidia_memory(len(found)), capability))
    return found


def _nvidia_memory(index: int) -> float | None:
    """Total memory of GPU `index` in GiB as nvidia-smi reports it; TensorFlow itself does not tell."""
    import subprocess

    query = ["nvidia-smi", f"--id={index}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        return round(float(answer.stdout.strip()) / 1024, 1)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def require_gpu(config) -> None:
    """RuntimeError with the way to a GPU, unless the data are drawn, `allow_cpu` of the config is true or the machine has one."""
    if config.source == "mini" or config.allow_cpu or devices()[0]["kind"] != "CPU":
        return
    ways = {
        "colab": "menu Runtime > Change runtime type > T4 GPU, then Run all",
        "colab-enterprise": "Connect menu > Connect to a runtime > a runtime template with a GPU",
        "gcp": "stop the VM, then Edit > Machine configuration > GPUs > Add GPU, and install the NVIDIA driver",
    }
    way = ways.get(where(), "run on a machine with an NVIDIA GPU, or open the notebook in Colab")
    raise RuntimeError(
        f"this config expects a GPU, found only a CPU: {way}. "
        "To train on the CPU all the same (days, for the full setting) set allow_cpu: true; config mini needs no GPU."
    )


@contextlib.contextmanager
def precision(wanted: str) -> Iterator[str]:
    """Keras's dtype policy for the length of a `with` block; yields its name.

    Args:
        wanted: "float32", or "mixed": bfloat16 on GPUs of compute capability 8.0 and up and off GPUs, float16 on
            older GPUs (a T4 has no fast bfloat16). "mixed_bfloat16" and "mixed_float16" force one.
    """
    import keras

    if wanted == "mixed":
        capability = devices()[0]["compute_capability"]
        wanted = "mixed_float16" if capability and tuple(capability) < (8, 0) else "mixed_bfloat16"
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(wanted)
        yield wanted
    finally:
        keras.config.set_dtype_policy(before)


def set_seeds(seed: int) -> None:
    """Seed Python, NumPy and the Keras backend in one call; the numbers of one machine repeat, across machines they need not."""
    import keras

    keras.utils.set_random_seed(seed)


def mount_drive(wanted: bool) -> Path | None:
    """Mount Google Drive and return its folder `MyDrive`, or None where nobody asked or there is no Drive to mount.

    Only classic Colab can mount; Colab Enterprise and a GCP VM cannot, and say so on one line.
    """
    if not wanted:
        return None
    if where() != "colab":
        print(f"no Google Drive here ({where()}): files stay in the workspace folder")
        return None
    from google.colab import drive

    drive.mount("/content/drive")
    return Path("/content/drive/MyDrive")


def sign_in() -> None:
    """In Colab the user's own Google login, which is asked for once; elsewhere nothing."""
    if where() == "colab":
        from google.colab import auth

        auth.authenticate_user()


def progress(iterable=None, *, total: int | None = None, label: str = "", unit: str = "it", **options):
    """A tqdm bar on standard output (notebooks here keep standard error clean); silent when COURSE_PROGRESS=0."""
    from tqdm import tqdm

    options |= {"file": sys.stdout, "leave": False, "disable": os.environ.get("COURSE_PROGRESS") == "0"}
    return tqdm(iterable, total=total, desc=label, unit=unit, **options)


def versions() -> dict[str, str]:
    """Installed versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def describe() -> dict:
    """Platform, devices, Keras backend, dtype policy and versions as one plain dict, ready for a log or a table."""
    import keras

    return {
        "where": where(),
        "platform": platform.platform(),
        "backend": keras.backend.backend(),
        "precision": keras.config.dtype_policy().name,
        "devices": devices(),
        "versions": versions(),
    }

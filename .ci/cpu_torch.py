"""Let a CUDA build of torch run on the CPU where none of CUDA's libraries is installed: python .ci/cpu_torch.py

Old torch has no CPU build in the Python Package Index, and its CUDA build asks for gigabytes of nvidia-* packages that
a CPU never calls. Installed with ``--no-deps`` it cannot be imported, because the loader misses their libraries. So a
small library stands in for each, beside torch's own: it has the functions that torch names, and each answers "no
device", so ``torch.cuda.is_available()`` is False. Does nothing where torch can be imported. Needs gcc and binutils.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NO_DEVICE = 100  # cudaErrorNoDevice and CUDA_ERROR_NO_DEVICE


def main() -> None:
    if _imports_torch():
        return
    spec = importlib.util.find_spec("torch")  # finds it without importing it
    if spec is None or spec.origin is None:
        sys.exit("cpu_torch: torch is not installed for this Python; pip install --no-deps torch==VERSION")
    package = Path(spec.origin).parent
    binaries = [*package.glob("lib/*.so*"), *package.glob("_C*.so")]
    present = {binary.name for binary in binaries}
    needed = {name for binary in binaries for name in _needed(binary)}
    wanted = {name for binary in binaries for name in _undefined(binary)}
    for library in sorted(needed - present):
        if not _is_on_this_machine(library):
            _build(package / "lib" / library, library, _functions_of(library, wanted))
    if not _imports_torch():
        sys.exit("cpu_torch: torch still cannot be imported: run python -c 'import torch' to see why")


def _imports_torch() -> bool:
    return subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode == 0


def _needed(binary: Path) -> list[str]:
    return re.findall(r"NEEDED.*\[(.+)\]", _output("readelf", "-dW", binary))


def _undefined(binary: Path) -> list[str]:
    """NAME or NAME@VERSION of each symbol that a binary takes from others."""
    return re.findall(r" U (\S+)", _output("nm", "-D", "--undefined-only", binary))


def _functions_of(library: str, wanted: set[str]) -> list[str]:
    """CUDA's libraries name their symbols' version after themselves, or have none and begin with the library's name."""
    prefix = library.removeprefix("lib").partition(".")[0]
    symbols = (symbol.partition("@") for symbol in wanted)
    return sorted(
        name for name, _, version in symbols if version == library or (not version and name.startswith(prefix))
    )


def _is_on_this_machine(library: str) -> bool:
    return Path(_output("gcc", f"-print-file-name={library}").strip()).is_absolute()


def _build(path: Path, name: str, functions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, versions = Path(folder, "stub.c"), Path(folder, "versions")
        source.write_text("".join(f"int {function}() {{ return {NO_DEVICE}; }}\n" for function in functions))
        versions.write_text(f"{name} {{ {' '.join(f'{function};' for function in functions)} }};\n")
        linker = [f"-Wl,-soname,{name}", f"-Wl,--version-script,{versions}"]
        subprocess.run(["gcc", "-shared", "-fPIC", "-w", *linker, "-o", path, source], check=True)


def _output(*command: "str | Path") -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()

"""Build the distributions and check everything that a release needs: ``python scripts/release/check.py [--release]``.

- The version is in one place; the newest section of the changelog names it and every change of the public API.
- The wheel is built from the sdist. Its metadata and NOTICE name the licenses of what is included.
- Wheel and sdist work in empty environments, with the lowest and the newest versions of the direct dependencies that
  the package allows. PyTorch is the one of ``constraints.txt``: its newest release is large and proves nothing more.
- ``dist/`` gets a bill of materials in CycloneDX's format.

``--release`` also wants the date of the release in the changelog.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DIST = ROOT / "dist"
TOOLS = ROOT / ".release" / "bin"
PACKAGE = "airflow_provider_axtx"
VENDOR = ROOT / PACKAGE / "plugin" / "vendor"
RESOLUTIONS = ("lowest-direct", "highest")

#: Steps that have passed, with their seconds.
passed: list[tuple[str, float]] = []


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print and time a step."""
    print(f"== {name}", flush=True)
    started = time.monotonic()
    yield
    passed.append((name, time.monotonic() - started))


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run a command; end with its output's last words in view when it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"release-check: failed with exit code {done.returncode}: {' '.join(map(str, command))}")


def install_tools() -> None:
    """Install the pinned tools into ``.release``, unless they are there."""
    wanted, stamp = (HERE / "tools.txt").read_text(), TOOLS.parent / "tools.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    run(sys.executable, "-m", "venv", "--clear", TOOLS.parent)
    run(TOOLS / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", HERE / "tools.txt")
    stamp.write_text(wanted)


def build() -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it; return wheel and sdist."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(TOOLS / "python", "-m", "build", "--outdir", DIST, ROOT)
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    return wheel, sdist


def check_licenses(wheel: Path) -> None:
    """Compare what the package includes of others with NOTICE and with the wheel's metadata."""
    notice = (ROOT / "NOTICE").read_text()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    if "License-Expression: Apache-2.0 AND MIT\n" not in metadata:
        sys.exit("release-check: the wheel's License-Expression is not Apache-2.0 AND MIT")
    for file in sorted(VENDOR.iterdir()):
        path = str(file.relative_to(ROOT))
        if file.name != "README.md" and path not in notice:
            sys.exit(f"release-check: NOTICE does not name {path}")
        if file.suffix == ".LICENSE" and f"License-File: {path}\n" not in metadata:
            sys.exit(f"release-check: the wheel's metadata does not name the license {path}")
    for needed in ("LICENSE", "NOTICE"):
        if not any(name.endswith(f".dist-info/licenses/{needed}") for name in names):
            sys.exit(f"release-check: the wheel does not hold {needed}")


def clean_environment(folder: Path, environment: Path) -> dict[str, str]:
    """Return the variables of a process that sees only the installed package, with an Airflow of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "AXTX"))}
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    options = {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags")}
    return {**kept, **options, "AIRFLOW_HOME": str(folder), "PYTHONUNBUFFERED": "1", "PATH": path}


def create(environment: Path, artifact: Path, resolution: str) -> None:
    """Install a wheel or an sdist into an empty environment."""
    torch = re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert torch is not None
    pinned = environment.with_name("torch.txt")
    pinned.write_text(f"{torch[0]}\n")
    # uv reads its own variables only.
    variables = {**os.environ, "UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")}
    run(TOOLS / "uv", "venv", "-q", "--python", sys.executable, environment)
    install = (TOOLS / "uv", "pip", "install", "-q", "--python", environment / "bin" / "python")
    run(*install, "--resolution", resolution, "--constraints", pinned, artifact, env=variables)
    run(TOOLS / "uv", "pip", "check", "-q", "--python", environment / "bin" / "python")


def try_out(environment: Path) -> None:
    """Import, parse the examples and tune a function, away from the checkout."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables = clean_environment(folder, environment)
        run(environment / "bin" / "airflow", "db", "migrate", cwd=folder, env=variables)
        run(environment / "bin" / "python", HERE / "smoke.py", cwd=folder, env=variables)


def write_sbom(environment: Path, wheel: Path) -> Path:
    """Describe an environment and the vendored library in CycloneDX's format; return the file."""
    file = DIST / f"{wheel.name.split('-py3')[0]}.cdx.json"
    python = environment / "bin" / "python"
    options = ("--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--of", "JSON", "-o", file)
    run(TOOLS / "cyclonedx-py", "environment", python, *options)
    bill = json.loads(file.read_text())
    library = VENDOR / "plotly-basic.min.js"
    version = re.search(r"plotly\.js .*v(\d[\w.]*)", library.read_text()[:500])
    assert version is not None
    bill["components"].append(
        {
            "bom-ref": "plotly.js",
            "type": "library",
            "name": "plotly.js-basic-dist-min",
            "version": version[1],
            "purl": f"pkg:npm/plotly.js-basic-dist-min@{version[1]}",
            "licenses": [{"license": {"id": "MIT"}}],
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(library.read_bytes()).hexdigest()}],
        }
    )
    file.write_text(json.dumps(bill, indent=2) + "\n")
    return file


def main() -> None:
    """Run every step and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", action="store_true", help="the changelog must have the release's date")
    options = parser.parse_args()
    with step("public API, version and changelog"):
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        run(sys.executable, HERE / "api.py", "--check", *(["--release"] * options.release), env=variables)
    with step("tools"):
        install_tools()
    with step("build"):
        wheel, sdist = build()
    with step("licenses"):
        check_licenses(wheel)
    with tempfile.TemporaryDirectory() as folder:
        for resolution in RESOLUTIONS:
            for artifact in (wheel, sdist):
                environment = Path(folder, f"{resolution}-{'wheel' if artifact == wheel else 'sdist'}")
                with step(f"{environment.name}: install"):
                    create(environment, artifact, resolution)
                with step(f"{environment.name}: try out"):
                    try_out(environment)
        with step("bill of materials"):
            bill = write_sbom(Path(folder, "highest-wheel"), wheel)
    print(f"\n{'step':<30} {'seconds':>8}")
    print("\n".join(f"{name:<30} {seconds:8.0f}" for name, seconds in passed))
    print(*(file.relative_to(ROOT) for file in (wheel, sdist, bill)), sep="\n")


if __name__ == "__main__":
    main()

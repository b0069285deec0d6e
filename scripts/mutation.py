"""Change the code of a module in many small ways and see which changes no test notices.

    python scripts/mutation.py spec/limits.py [spec/ranking.py ...] [--tests tests/spec] [--sample 20] [--seed 1]

Each change (a mutant) is made by cosmic-ray in a copy of the repository, ``build/mutation``; then the module's tests
run. ``[tool.mutation]`` in ``pyproject.toml`` names the modules that are mutated when none is given, with their tests.
The changes that survive are printed with their lines. ``--sample`` tries only so many mutants of each module, chosen at
random with a seed that is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_provider_axtx"
TOOL = "cosmic-ray==8.7.0"
ENVIRONMENT = ROOT / ".mutation"
WORK = ROOT / "build" / "mutation"
COPIED = (PACKAGE, "tests", "scripts", "benchmarks", "dags")
#: The tests of a mutant count as failed when they take so many times as long as without it, and at least a minute.
TIMES_AS_LONG = 8
#: Seconds that the tests may take without a mutant.
LONGEST = 3600.0
#: `float | None` in an annotation is not evaluated.
ANNOTATIONS = ["core/ReplaceBinaryOperator_BitOr_.*"]


def install() -> None:
    """Install cosmic-ray into an environment of its own."""
    if (ENVIRONMENT / "bin" / "cosmic-ray").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    subprocess.run([ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "-qq", TOOL], check=True)


def copy() -> Path:
    """Return a fresh copy of what the tests need."""
    tree = WORK / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in COPIED:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree / name)
    return tree


def configuration(module: str, command: str, timeout: float) -> str:
    """Return cosmic-ray's configuration for one module."""
    return (
        "[cosmic-ray]\n"
        f"module-path = {json.dumps(f'{PACKAGE}/{module}')}\n"
        f"timeout = {timeout}\n"
        f"test-command = {json.dumps(command)}\n"
        '[cosmic-ray.distributor]\nname = "local"\n'
        f"[cosmic-ray.filters.operators-filter]\nexclude-operators = {json.dumps(ANNOTATIONS)}\n"
    )


def mutate(
    tree: Path, module: str, tests: list[str], sample: int | None, seed: int, lasting: dict[str, float]
) -> tuple[int, list[str]]:
    """Return how many mutants of a module were tried, and the survivors as text.

    :param lasting: by their command, seconds that the tests take without a mutant; those of this module are added.
    """
    place = WORK / module.replace("/", ".")
    config, session = place.with_suffix(".toml"), place.with_suffix(".sqlite")
    session.unlink(missing_ok=True)
    command = shlex.join([sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests])
    environ = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    chosen = (
        [] if sample is None else [["python", Path(__file__).with_name("mutation_sample.py"), session, sample, seed]]
    )

    def run(program: str, *arguments: object) -> None:
        subprocess.run([ENVIRONMENT / "bin" / program, *map(str, arguments)], cwd=tree, env=environ, check=True)

    config.write_text(configuration(module, command, LONGEST))
    for program, *arguments in (
        ["cosmic-ray", "init", config, session],
        ["cr-filter-operators", session, config],
        *chosen,
    ):
        run(program, *arguments)
    if command not in lasting:
        began = time.monotonic()
        run("cosmic-ray", "baseline", config)
        lasting[command] = time.monotonic() - began
    config.write_text(configuration(module, command, max(60.0, TIMES_AS_LONG * lasting[command])))
    run("cosmic-ray", "exec", config, session)
    dump = subprocess.run(
        [ENVIRONMENT / "bin" / "cosmic-ray", "dump", session], cwd=tree, check=True, capture_output=True, text=True
    )
    survivors, count = [], 0
    for line in dump.stdout.splitlines():
        item, result = json.loads(line)
        count += result is not None and result["worker_outcome"] != "skipped"
        if result and result["test_outcome"] == "survived":
            (mutation,) = item["mutations"]
            where = f"{mutation['module_path']}:{mutation['start_pos'][0]} {mutation['operator_name']}"
            survivors.append(f"{where}\n{result['diff'] or ''}")
    return count, survivors


def main() -> int:
    """Mutate the named modules, or all that ``pyproject.toml`` names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="files below the package")
    parser.add_argument("--tests", nargs="*", help="what must notice the changes")
    parser.add_argument("--sample", type=int, help="how many mutants of each module are tried (default: all)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1000), help="what chooses them (default: by chance)"
    )
    options = parser.parse_args()
    suites = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutation"]
    files = {str(file.relative_to(ROOT / PACKAGE)) for part in suites for file in (ROOT / PACKAGE / part).glob("*.py")}
    unknown = sorted(set(options.modules) - files)
    if unknown:
        parser.error(f"there is no module {', '.join(unknown)} in {', '.join(suites)}")
    install()
    tree, rows, lasting = copy(), [], dict[str, float]()
    if options.sample is not None:
        print(f"{options.sample} mutants of each module, chosen with --seed {options.seed}")
    for module in options.modules or sorted(files):
        tests = options.tests or suites[module.partition("/")[0]]
        count, survivors = mutate(tree, module, tests, options.sample, options.seed, lasting)
        print(*survivors, sep="\n", flush=True)
        rows.append(f"{module:<40} {count:>8} {len(survivors):>9}")
    print(f"{'module':<40} {'mutants':>8} {'survivors':>9}", *rows, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The lock, pyproject.toml, environment.yml and package.json say the same, and a wheel is whole."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINS = [line.strip() for line in LOCK.splitlines() if line.strip() and not line.startswith("#")]
LOCKED = {canonicalize_name(r.name): r.specifier for r in map(Requirement, PINS)}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
NOT_LOCKED = {"cluster", "video"}  # extras that most people never need
WANTED = [
    *PROJECT["dependencies"],
    *(requirement for name, extra in EXTRAS.items() if name not in NOT_LOCKED for requirement in extra),
]
REGISTRY = re.compile(
    r"(registry\.|files\.pythonhosted|pypi\.|--?(extra-)?index-url|--find-links|file://|@ )", re.I
)


def locked_version(name: str) -> str:
    (pin,) = LOCKED[canonicalize_name(name)]
    assert pin.operator == "=="
    return pin.version


def test_lock_is_exact_and_torch_comes_first():
    assert PINS[0].startswith("torch==")
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin) for pin in PINS)
    assert len(LOCKED) == len(PINS), "a package is locked twice"


@pytest.mark.parametrize(
    "name", ["requirements.lock", "package-lock.json", "package.json", "environment.yml", ".npmrc"]
)
def test_no_registry_is_named(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not REGISTRY.search(text.replace("npm ci", ""))
    assert '"resolved"' not in text


@pytest.mark.parametrize("wanted", WANTED)
def test_lock_meets_every_declared_range(wanted):
    requirement = Requirement(wanted)
    assert canonicalize_name(requirement.name) in LOCKED, (
        f"{requirement.name} is declared but not locked; run `make lock`"
    )
    assert requirement.specifier.contains(locked_version(requirement.name), prereleases=True)


def test_ranges_admit_what_we_promise():
    ranges = {Requirement(text).name: Requirement(text).specifier for text in PROJECT["dependencies"]}
    assert set(ranges) == {
        *("torch", "numpy", "scipy", "pandas", "pyyaml", "tqdm"),
        *("pydantic", "filelock", "typer", "safetensors"),
    }
    assert ranges["torch"].contains("2.11.0") and ranges["torch"].contains("2.13.0")
    python = SpecifierSet(PROJECT["requires-python"])
    assert python.contains("3.11") and python.contains("3.12") and not python.contains("3.10")


def test_environment_yml_installs_the_lock_on_a_supported_python():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    (python,) = [item for item in plain if item.startswith("python=")]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    # Nothing but the interpreter and pip comes from conda, so that no second version of a locked package can
    # creep in.
    assert [item for item in plain if item != python] == ["pip"]


def test_npm_packages_are_exact_and_locked_with_hashes():
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert packages[""]["dependencies"] == wanted
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert packages[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in entry for name, entry in packages.items() if name)


def test_version_is_stated_once_and_the_same():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]


def test_a_wheel_works_without_the_repository(tmp_path):
    """Built, unpacked and run in a folder of its own; papers' files and manifests come with it."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if name.startswith(("vtg_lib/", "data_manifests/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    for folder, pattern in (("data_manifests", "*.yaml"), ("vtg_lib/papers", "**/*.yaml")):
        inside = site / "vtg_lib" / folder.removeprefix("vtg_lib/")
        files = {path.relative_to(ROOT / folder) for path in (ROOT / folder).glob(pattern)}
        assert files and files == {path.relative_to(inside) for path in inside.glob(pattern)}
    settings = {name: value for name, value in os.environ.items() if not name.startswith("VTG_")}
    for command, told in ((["data", "list"], "qvhighlights"), (["claims", "--paper", "sdst"], "not run")):
        run = subprocess.run(
            [sys.executable, "-P", "-m", "vtg_lib", *command],
            cwd=tmp_path,
            env=settings | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0 and told in run.stdout, run.stderr


def test_the_citation_names_the_books_papers_as_the_bibliography_does():
    from vtg_lib.book.references import references
    from vtg_lib.papers import load_paper, paper_keys

    known = {work.key: work for work in references()}
    chapters = sorted(map(load_paper, paper_keys()), key=lambda paper: paper.chapter)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    wanted = [(known[p.key].title, int(known[p.key].year)) for p in chapters if p.method]
    assert [(work["title"], work["year"]) for work in cited] == wanted
    assert all(work["authors"] for work in cited)

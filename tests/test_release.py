"""What a release holds: its metadata, its files, the page on a package index, and lines that install it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import frozen

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

MOST_BYTES_OF_A_FILE = 200_000


def names(requirements: list[str]) -> set[str]:
    """Return the names of the packages that requirements ask for."""
    return {re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in requirements}


# --- the metadata ---------------------------------------------------------------------------------------


def test_no_extra_is_for_developers() -> None:
    """What only developers need is a dependency group, which a user never installs."""
    groups = [
        one for group in PYPROJECT["dependency-groups"].values() for one in group if isinstance(one, str)
    ]
    assert {"pytest", "ruff", "httpx", "twine"} <= names(groups)
    assert names([one for extra in EXTRAS.values() for one in extra]) & names(groups) == set()
    assert PROJECT["name"] not in names(groups)  # pip would look for it on an index


def test_all_brings_every_other_extra() -> None:
    """A new extra is named in ``all``, which the tests install too."""
    (whole,) = EXTRAS["all"]
    assert set(whole.removeprefix("bandwidth-async[").removesuffix("]").split(",")) == set(EXTRAS) - {"all"}


def licensed() -> dict[str, tuple[str, str]]:
    """Return the table of SECURITY.md: what brings each package, and its license."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("## What comes with it")[2]
    return {
        name: (extra.strip("`"), expression)
        for name, extra, expression in re.findall(
            r"^\| ([\w.-]+) \| (\S.*?) \| (\S.*?) \|$", text, re.MULTILINE
        )
        if name != "package"
    }


def test_every_dependency_is_listed_with_what_brings_it() -> None:
    """A dependency that is added or dropped is added or dropped in the table too."""
    brought = dict.fromkeys(names(PROJECT["dependencies"]), "the library")
    for extra, requirements in EXTRAS.items():
        brought |= dict.fromkeys(names(requirements) - {PROJECT["name"]}, extra)
    assert {name: extra for name, (extra, _) in licensed().items()} == brought


@pytest.mark.parametrize("name", licensed())
def test_its_license_is_the_one_that_it_declares(name: str) -> None:
    """The installed package says so, as an expression, a text or a classifier."""
    try:
        declared = metadata(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    fields = ("License-Expression", "License", "Classifier")
    said = "\n".join(value for field in fields for value in declared.get_all(field) or [])
    words = {"Apache-2.0": "Apache", "BSD-3-Clause": "BSD"}
    listed = re.split(r" AND | OR ", licensed()[name][1])
    assert [one for one in listed if words.get(one, one) not in said] == []


def test_the_changelog_keeps_its_form() -> None:
    """What is not released is on top, versions have a date, and each list has one of six titles."""
    titles = re.findall(r"^(##+) (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    first, *released = [title for level, title in titles if level == "##"]
    assert first == "Unreleased"
    assert [one for one in released if not re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", one)] == []
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {title for level, title in titles if level == "###"} <= kinds


def test_nothing_is_uploaded_with_the_address_of_an_example() -> None:
    """``make upload`` names the lines and stops before it builds. Later it may stop for want of a tag."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    placeholders = re.findall(r".*bandwidth-async\.example.*", (ROOT / "pyproject.toml").read_text("utf-8"))
    if not placeholders:
        pytest.skip("the addresses are those of the maintainers")
    done = subprocess.run(["make", "upload"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607  # from the path, as a developer runs it
    assert done.returncode != 0
    assert "put in the addresses of the maintainers" in done.stderr
    assert all(line in done.stdout for line in placeholders)


def test_a_tag_dates_what_was_unreleased(tmp_path: Path) -> None:
    """``make tag`` leaves an empty "Unreleased" on top, and refuses to tag a version twice."""
    if shutil.which("make") is None or shutil.which("git") is None:
        pytest.skip("make or git is not installed")

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        who = ("AUTHOR", "COMMITTER")
        env = {
            **os.environ,
            **{f"GIT_{one}_{what}": "a@b.example" for one in who for what in ("NAME", "EMAIL")},
        }
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    (tmp_path / "bandwidth_async").mkdir()
    for name in ("Makefile", "CHANGELOG.md", "bandwidth_async/_version.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n### Added\n\n- A thing.\n")
    assert run("make", "tag").returncode != 0
    for command in ("init --quiet", "add --all", "commit --quiet --message begun"):
        run("git", *command.split())
    done = run("make", "tag")
    assert done.returncode == 0, done.stderr
    dated = r"# Changelog\n\n## Unreleased\n\n## (\S+) - \d{4}-\d\d-\d\d\n\n### Added\n\n- A thing.\n"
    (found,) = re.findall(dated, (tmp_path / "CHANGELOG.md").read_text())
    assert run("git", "describe", "--dirty").stdout == f"v{found}\n"
    assert "write the next into" in run("make", "tag").stderr


# --- the lines that install it --------------------------------------------------------------------------


def test_a_line_that_installs_works_before_the_first_release() -> None:
    """Each line in a block names a checkout or another package, and each extra exists."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("examples/**/*.md")]
    for page in [*pages, ROOT / "examples" / "many-machines" / "Dockerfile"]:
        lines = re.findall(r"^(?:RUN )?[\w./]*pip install [^#\n]*", page.read_text("utf-8"), re.MULTILINE)
        assert [line for line in lines if re.search(r"bandwidth[-_]async(?!\.)", line)] == []
        named = {extra for line in lines for extra in re.findall(r"\[([\w,]+)\]", line)}
        assert {one for extra in named for one in extra.split(",")} <= set(EXTRAS)


def test_an_extra_that_a_message_names_exists() -> None:
    """An error of a missing dependency names an extra that brings it."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "bandwidth_async").rglob("*.py")]
    named = re.findall(r"bandwidth[-_]async\[(\w+)\]", "\n".join(sources))
    assert named
    assert set(named) <= set(EXTRAS)


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_a_message_s_line_works_where_no_index_has_the_package(extra: str) -> None:
    """The package is installed where a message can appear, so pip adds the extra's packages to it."""
    pytest.importorskip("pip", reason="this environment has no pip")
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--dry-run", f"bandwidth-async[{extra}]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "No matching distribution found for bandwidth-async" not in done.stderr
    assert "already satisfied: bandwidth-async" in done.stdout


# --- the files ------------------------------------------------------------------------------------------


@frozen
class Built:
    """The wheel and the sdist: each file by its name, with its size, and the wheel's metadata."""

    wheel: dict[str, int]
    sdist: dict[str, int]
    metadata: Message

    @property
    def page(self) -> str:
        """The page that a package index shows."""
        return str(self.metadata.get_payload())


def build(source: Path, into: Path, *targets: str) -> None:
    """Have hatchling build a source tree, without the network."""
    pytest.importorskip("hatch_fancy_pypi_readme", reason="the group `test` is not installed")
    options = [part for target in targets for part in ("--target", target)]
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(into), *options]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build both."""
    into = tmp_path_factory.mktemp("dist")
    build(ROOT, into, "sdist", "wheel")
    with zipfile.ZipFile(next(into.glob("*.whl"))) as wheel:
        files = {one.filename: one.file_size for one in wheel.infolist()}
        (name,) = (one for one in files if one.endswith("/METADATA"))
        headers = message_from_string(wheel.read(name).decode())
    with tarfile.open(next(into.glob("*.tar.gz"))) as sdist:
        held = {one.name.partition("/")[2]: one.size for one in sdist.getmembers() if one.isfile()}
    return Built(wheel=files, sdist=held, metadata=headers)


def modules() -> set[str]:
    """Return the files of the package as they lie here."""
    found = (ROOT / "bandwidth_async").rglob("*")
    return {
        path.relative_to(ROOT).as_posix()
        for path in found
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    """With its marker of types, its license and its metadata."""
    package = {name for name in built.wheel if ".dist-info/" not in name}
    assert package == modules()
    assert "bandwidth_async/py.typed" in package
    about = {name.partition(".dist-info/")[2] for name in set(built.wheel) - package}
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def test_the_sdist_holds_what_a_distribution_builds_and_tests(built: Built) -> None:
    """The package, its tests, examples and benchmarks, and the pages that the tests read. No caches."""
    tops = {name.partition("/")[0] for name in built.sdist}
    pages = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"}
    made = {"PKG-INFO", "pyproject.toml", ".gitignore"}  # hatchling adds the last, for builds from an sdist
    assert tops == {"bandwidth_async", "tests", "examples", "benchmarks", "docs", "Makefile"} | pages | made
    assert {name for name in built.sdist if name.startswith("bandwidth_async/")} == modules()
    assert [name for name in built.sdist if re.search(r"__pycache__|\.pyc$|/\.", name)] == []
    assert {name: size for name, size in built.sdist.items() if size > MOST_BYTES_OF_A_FILE} == {}


def test_the_image_s_files_are_enough_to_build_it(tmp_path: Path) -> None:
    """The Dockerfile copies what the build needs."""
    text = (ROOT / "examples" / "many-machines" / "Dockerfile").read_text(encoding="utf-8")
    copied = [re.split(r"\s+", line) for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE)]
    for *sources, target in copied:
        for source in sources:
            into = tmp_path / target.removeprefix("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into)
            else:
                into.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, into)
    build(tmp_path / "src", tmp_path / "dist", "wheel")


def test_the_metadata_says_where_and_who(built: Built) -> None:
    """The license is an expression, and there are authors and addresses."""
    assert built.metadata["License-Expression"] == "MIT"
    assert built.metadata["Author-Email"]
    labels = {one.partition(",")[0] for one in built.metadata.get_all("Project-URL", [])}
    assert {"Homepage", "Changelog", "Issues"} <= labels
    assert built.metadata["Description-Content-Type"] == "text/markdown"


# --- the page on a package index ------------------------------------------------------------------------


def test_the_page_has_no_link_that_leads_nowhere_there(built: Built) -> None:
    """An index has no files beside the page. Its text, code and headings are those of the README."""
    links = re.findall(r"\]\(([^)]*)\)", re.sub(r"`[^`\n]*`", "", built.page))
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for kept in (r"^#+ .*$", r"^```.*?^```$"):
        pattern = re.compile(kept, re.DOTALL | re.MULTILINE if "```" in kept else re.MULTILINE)
        assert pattern.findall(built.page) == pattern.findall(readme)


def test_the_page_renders(built: Built) -> None:
    """As an index renders it: each link to a heading finds one."""
    markdown = pytest.importorskip("readme_renderer.markdown", reason="`make release-check` installs it")
    page = markdown.render(built.page)
    assert page
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets - set(re.findall(r'id="([^"]+)"', page)) == set()

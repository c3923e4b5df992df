"""What a release and a contribution rest on: version, changelog, hooks, workflow and issue forms agree with the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import symroof

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path: str) -> dict:
    return yaml.safe_load((ROOT / path).read_text())


def test_one_version_and_date_everywhere() -> None:
    citation = read("CITATION.cff")
    sections = re.findall(r"^## (?:Unreleased|(\S+) - (\d{4}-\d\d-\d\d))$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = next((version, date) for version, date in sections if version)
    assert (symroof.__version__, str(citation["date-released"])) == released
    assert citation["version"] == symroof.__version__
    versions = [tuple(map(int, version.split("."))) for version, _ in sections if version]
    assert versions == sorted(set(versions), reverse=True)


def test_the_workflow_runs_what_everyone_runs_on_every_version_and_knows_no_secret() -> None:
    workflow = read(".github/workflows/ci.yml")
    job = workflow["jobs"]["run"]
    versions = job["strategy"]["matrix"]["python"]
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert versions[0] == lowest
    assert all(isinstance(version, str) for version in versions), "3.10 would be 3.1"
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
    assert "secrets." not in (ROOT / ".github/workflows/ci.yml").read_text()
    assert workflow["permissions"] == {"contents": "read"}


def test_the_hooks_run_the_ruff_of_the_development_extra() -> None:
    (wanted,) = (one for one in PROJECT["optional-dependencies"]["dev"] if one.startswith("ruff"))
    local = next(repo for repo in read(".pre-commit-config.yaml")["repos"] if repo["repo"] == "local")
    assert {hook["id"]: hook["additional_dependencies"] for hook in local["hooks"]} == {"ruff-check": [wanted], "ruff-format": [wanted]}


@pytest.mark.parametrize("form", [form for form in FORMS if form.name != "config.yml"], ids=lambda form: form.stem)
def test_issue_forms_ask_for_what_repeats_the_problem(form: Path) -> None:
    asked = yaml.safe_load(form.read_text())
    assert asked.keys() >= {"name", "description", "body"}
    ids = [field["id"] for field in asked["body"]]
    assert len(ids) == len(set(ids))
    assert "version" in ids
    assert {"command", "output"} <= {*ids} or "source" in ids
    assert all(field["type"] in ("input", "textarea") and field["attributes"]["label"] for field in asked["body"])

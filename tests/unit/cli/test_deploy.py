"""From a folder to a function: init, packing, requirements, publishing."""

from __future__ import annotations

import io
import json
import os
import runpy
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotlight.cli.app import run
from pilotlight.cli.errors import CommandFailed
from pilotlight.cli.packing import pack
from pilotlight.cli.urls import reachable

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]
OWN = f"python3.{sys.version_info[1]}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    assert run(["init", "hello"]) == 0
    return tmp_path / "hello"


def names(package: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        return opened.namelist()


def test_init_writes_a_function_that_works(project: Path) -> None:
    assert sorted(path.name for path in project.iterdir()) == [
        "README.md", "app.py", "event.json", "function.toml", "requirements.txt",
    ]  # fmt: skip

    class Context:
        aws_request_id = "r"

    handler = runpy.run_path(str(project / "app.py"))["handler"]
    event = json.loads((project / "event.json").read_text())
    assert handler(event, Context())["message"] == "Hello, Ada!"
    assert (
        handler({"queryStringParameters": {"name": "Bob"}}, Context())["message"] == "Hello, Bob!"
    )
    assert handler({}, Context())["message"] == "Hello, world!"


def test_init_never_overwrites(project: Path, capsys: Capture) -> None:
    (project / "app.py").write_text("mine")
    (project / "README.md").unlink()
    assert run(["init", "hello"]) == 1
    assert "app.py" in capsys.readouterr().err
    assert (project / "app.py").read_text() == "mine"
    assert not (project / "README.md").exists()


def test_deploy_creates_then_updates_only_what_differs(
    project: Path, cli: Run, server: Any, capsys: Capture
) -> None:
    assert cli("deploy", "hello", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["function_arn"].endswith(":hello")
    assert result["url"] == "http://127.0.0.1:9701/url/abc123/"
    assert server.functions["hello"]["Runtime"] == OWN
    server.calls.clear()
    assert cli("deploy", "hello") == 0
    assert not [call for call in server.calls if call.startswith("PUT")]
    (project / "app.py").write_text("def handler(e, c): return 2\n")
    assert cli("deploy", "hello") == 0
    assert [call for call in server.calls if call.startswith("PUT")] == [
        "PUT /2015-03-31/functions/hello/code"
    ]
    server.calls.clear()
    text = (project / "function.toml").read_text().replace("timeout_s = 3", "timeout_s = 9")
    (project / "function.toml").write_text(text + 'STAGE = "dev"\n')
    assert cli("deploy", "hello") == 0
    assert [call for call in server.calls if call.startswith("PUT")] == [
        "PUT /2015-03-31/functions/hello/configuration"
    ]
    assert server.functions["hello"]["Timeout"] == 9
    assert server.functions["hello"]["Environment"] == {"Variables": {"STAGE": "dev"}}


def test_deploy_asks_for_the_isolation_of_the_project(project: Path, cli: Run, server: Any) -> None:
    file = project / "function.toml"
    plain = file.read_text()
    assert cli("deploy", "hello") == 0
    file.write_text(plain.replace("url = true", 'isolation = "process"'))
    assert cli("deploy", "hello") == 0
    assert server.tags == {"pilotlight:isolation": "process"}


def test_deploy_says_beforehand_that_a_runtime_is_missing(
    project: Path, cli: Run, server: Any, capsys: Capture
) -> None:
    file = project / "function.toml"
    file.write_text(file.read_text().replace(OWN, "ruby3.3"))
    assert cli("deploy", "hello") == 0
    assert "ruby3.3: Pilotlight runs Python so far" in capsys.readouterr().err
    assert server.functions["hello"]["Runtime"] == "ruby3.3"


@pytest.mark.parametrize(
    ("substitutes", "told"),
    [(True, "python3.12 runs the function instead"), (False, "invocations will fail until it has")],
)
def test_deploy_believes_the_server_about_its_runtimes(
    project: Path, cli: Run, server: Any, capsys: Capture, *, substitutes: bool, told: str
) -> None:
    server.status = {"runtimes": {"python3.12": {}}, "substitute_runtimes": substitutes}
    file = project / "function.toml"
    file.write_text(file.read_text().replace(OWN, "python3.14"))
    assert cli("deploy", "hello", "--json") == 0
    said = capsys.readouterr()
    assert f"the server has no python3.14: {told}" in said.err
    assert told in json.loads(said.out)["warning"]
    assert cli("ls") == 0
    shown = "python3.14 (on python3.12)" if substitutes else "python3.14 (missing)"
    assert shown in capsys.readouterr().out


@pytest.mark.usefixtures("project")
def test_deploy_tells_why_a_function_failed(cli: Run, server: Any, capsys: Capture) -> None:
    server.fails_with = "the package has no such file"
    assert cli("deploy", "hello") == 1
    assert "the package has no such file" in capsys.readouterr().err


def test_deploy_reports_all_faults_of_the_project_file(
    project: Path, cli: Run, capsys: Capture
) -> None:
    (project / "function.toml").write_text('nmae = "x"\nruntime = "python3.11"\nmemory_mib = 1\n')
    assert cli("deploy", "hello") == 1
    said = capsys.readouterr().err
    assert "did you mean name?" in said
    assert "memory_mib = 1; allowed: a whole number from 128 to 10240" in said
    (project / "function.toml").write_text('runtime = "python3.11"\n')
    assert cli("deploy", "hello") == 1
    assert "lacks: name" in capsys.readouterr().err
    assert cli("deploy", ".") == 1
    assert "pilotlight init" in capsys.readouterr().err


def test_requirements_are_installed_once_for_the_function_s_runtime(
    project: Path, cli: Run, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    wheels = project / "wheels"
    wheels.mkdir()
    wheel(wheels)
    file = project / "function.toml"
    file.write_text('ignore = ["wheels"]\n' + file.read_text())
    (project / "requirements.txt").write_text(f"--find-links {wheels}\ntinypackage==1.0\n")
    assert cli("deploy", "hello") == 0
    (folder,) = (project / ".build").iterdir()
    assert (folder / "tinypackage.py").exists()
    first = server.functions["hello"]["CodeSha256"]
    (wheels / "tinypackage-1.0-py3-none-any.whl").unlink()
    assert cli("deploy", "hello") == 0, "the same requirements are not installed again"
    assert server.functions["hello"]["CodeSha256"] == first


def test_requirements_that_cannot_be_installed_stop_the_deploy(
    project: Path,
    cli: Run,
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (project / "requirements.txt").write_text("no-such-package\n")
    assert cli("deploy", "hello") == 1
    assert "could not be installed" in capfd.readouterr().err
    assert server.functions == {}
    assert list((project / ".build").iterdir()) == []


def wheel(folder: Path) -> None:
    """The smallest wheel that pip takes."""
    info = "tinypackage-1.0.dist-info"
    with zipfile.ZipFile(folder / "tinypackage-1.0-py3-none-any.whl", "w") as package:
        package.writestr("tinypackage.py", "VALUE = 1\n")
        package.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinypackage\nVersion: 1.0\n"
        )
        package.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        package.writestr(f"{info}/RECORD", "")


def test_a_package_is_the_same_whenever_it_is_packed(tmp_path: Path) -> None:
    for folder, stamp in (("a", 1_000_000_000), ("b", 1_700_000_000)):
        for name in ("z.py", "a.py") if folder == "a" else ("a.py", "z.py"):
            file = tmp_path / folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(name)
            os.utime(file, (stamp, stamp))
    assert pack([tmp_path / "a"], ()) == pack([tmp_path / "b"], ())


def test_what_does_not_belong_is_left_out(tmp_path: Path) -> None:
    for name in (
        "app.py",
        ".git/config",
        "__pycache__/x.pyc",
        "venv/x",
        "data/big.bin",
        "function.toml",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert names(pack([tmp_path], ["data/*.bin"])) == ["app.py"]


def test_the_project_s_own_file_wins_over_a_requirement_s(tmp_path: Path) -> None:
    for folder in ("project", "built"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(folder)
    package = pack([tmp_path / "project", tmp_path / "built"], ())
    with zipfile.ZipFile(io.BytesIO(package)) as opened:
        assert opened.read("same.py") == b"project"


def test_links_and_devices_are_refused_and_modes_kept(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "run").write_text("")
    (root / "run").chmod(0o755)
    (root / "inside").symlink_to("run")
    with zipfile.ZipFile(io.BytesIO(pack([root], ()))) as opened:
        assert opened.getinfo("run").external_attr >> 16 == 0o100755
    for target in ("/etc/passwd", "/dev/null", "nowhere"):
        (root / "bad").symlink_to(target)
        with pytest.raises(CommandFailed, match="not a regular file"):
            pack([root], ())
        (root / "bad").unlink()
    (root / "folder").symlink_to(tmp_path)
    with pytest.raises(CommandFailed, match="link to a folder"):
        pack([root], ())


def test_an_empty_or_too_large_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="no files"):
        pack([tmp_path], ())
    (tmp_path / "big").write_bytes(os.urandom(3 << 20))
    with pytest.raises(CommandFailed, match="has 3 MiB; the limit is 2 MiB"):
        pack([tmp_path], (), max_bytes=2 << 20)


def test_an_address_below_localhost_is_given_by_path() -> None:
    assert reachable("http://x.lambda-url.r.localhost:1/") == "http://127.0.0.1:1/url/x/"
    assert reachable("https://x.lambda-url.r.example/") == "https://x.lambda-url.r.example/"

"""``pilotlight deploy``: pack a folder, create or update its function, wait until it is active."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotlight.cli.options import connected, server_options
from pilotlight.cli.output import note, progress, say, say_json

if TYPE_CHECKING:
    from pilotlight.config.project import Project
    from pilotlight.ports.runtimes import HostRuntime


@click.command()
@click.argument(
    "directory",
    default=Path(),
    type=click.Path(path_type=Path, readable=False),
    metavar="[DIR | TEMPLATE]",
)
@click.option("--stack", help="Name of the template's stack; the name of its folder otherwise.")
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE",
    help="Value of a parameter of the template; may be repeated.",
)  # fmt: skip
@click.option("--delete", is_flag=True, help="Remove what the template's stack has.")
@server_options
def command(
    directory: Path,
    *,
    stack: str | None,
    parameters: tuple[str, ...],
    delete: bool,
    endpoint: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Deploy the function of a folder, or a CloudFormation or SAM template; update what changed."""
    if directory.is_file():
        from pilotlight.cli.stacks.deploying import deploy_template

        with connected(endpoint, data_dir) as client:
            outputs = deploy_template(
                client, data_dir, directory, stack=stack, given=parameters, delete=delete
            )
        if as_json:
            say_json(outputs)
        for name, value in ({} if as_json else outputs).items():
            say(f"{name}\t{value}")
        return
    if stack or parameters or delete:
        raise click.UsageError("--stack, --parameter and --delete are for templates.")
    from pilotlight.cli.publishing import Publisher
    from pilotlight.cli.substitution import Substitution
    from pilotlight.config.project import read_project

    project = read_project(directory)
    with connected(endpoint, data_dir) as client:
        substitution = Substitution(client, data_dir)
        warning = substitution.warning(project.runtime)
        if warning:
            note(f"warning: {warning}")
        package = _package(directory, project, substitution.interpreter(project.runtime))
        with progress(f"deploying {project.name} ({len(package)} bytes)") as step:
            publisher = Publisher(client, project, step)
            function = publisher.publish(package)
            url = publisher.publish_url() if project.url else None
    result: dict[str, Any] = {
        "function_name": project.name,
        "function_arn": function["FunctionArn"],
        "code_sha256": function["CodeSha256"],
        "runtime": project.runtime,
        "url": url,
        "warning": warning,
    }
    if as_json:
        say_json(result)
        return
    say(str(result["function_arn"]))
    if url:
        say(url)
    note(f"Next: pilotlight invoke {project.name} --log")


def _package(directory: Path, project: Project, runtime: HostRuntime | None) -> bytes:
    from pilotlight.cli.packing import pack
    from pilotlight.cli.requirements import installed

    folder = installed(
        directory,
        directory / project.requirements,
        wanted=project.runtime,
        runtime=runtime,
    )
    roots = [directory] if folder is None else [directory, folder]
    return pack(roots, project.ignore)

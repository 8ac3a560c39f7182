# SPDX-License-Identifier: Apache-2.0
"""The commands of ``kedge``: their flags and help; what they do is in a module each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kedge import config
from kedge.ctl.failure import Failure
from kedge.errors import KedgeError

app = typer.Typer(
    name="kedge",
    help="Kubernetes at the edge: one object store that replicates.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
token_app = typer.Typer(
    help="Join tokens: what lets a machine become a node.", no_args_is_help=True
)
store_app = typer.Typer(
    help="Look into a store of a stopped node or cluster.", no_args_is_help=True
)
image_app = typer.Typer(
    help="Images on a node: for one that never sees a registry.", no_args_is_help=True
)
app.add_typer(token_app, name="token")
app.add_typer(image_app, name="image")
app.add_typer(store_app, name="store")

Directory = Annotated[Path, typer.Option("--dir", help="Where everything is kept.")]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        help=f"How to reach the API server; ${config.ENV_KUBECONFIG} or kedge-data/kubeconfig if left out."
    ),
]
RuntimeEndpoint = Annotated[
    str, typer.Option(help="The container runtime's CRI socket, unix:///path.")
]
CONTAINERD = "unix:///run/containerd/containerd.sock"


@app.command()
def up(
    directory: Directory = Path("kedge-data"),
    api_port: Annotated[
        int, typer.Option(help="Port of the Kubernetes API.", min=1, max=65535)
    ] = 6443,
    hub_port: Annotated[
        int, typer.Option(help="Port that nodes connect to.", min=1, max=65535)
    ] = 10000,
    node_name: Annotated[
        str, typer.Option(help="Name of the local node; the host name if left out.")
    ] = "",
    runtime_endpoint: RuntimeEndpoint = CONTAINERD,
    *,
    node_domain: Annotated[
        str,
        typer.Option(help="Answer at NODE.DOMAIN as that node's kubelet, for who reads addresses."),
    ] = "",
    no_edge: Annotated[bool, typer.Option("--no-edge", help="No node on this machine.")] = False,
) -> None:
    """Run all of kedge on this machine, in the foreground, until interrupted."""
    from kedge.ctl import up as command  # noqa: PLC0415 - each command loads its own

    command.run(
        command.Options(
            directory=directory,
            api_port=api_port,
            hub_port=hub_port,
            node_name=node_name,
            node_domain=node_domain,
            runtime_endpoint=runtime_endpoint,
            edge=not no_edge,
        )
    )


@app.command()
def join(
    cloud: Annotated[str, typer.Option(help="Where the hub is, HOST:PORT.")],
    token: Annotated[str, typer.Option(help="A join token: kedge token create.")],
    node_name: Annotated[str, typer.Option(help="The node's name in the cluster.")],
    directory: Directory = Path("/var/lib/kedge"),
    runtime_endpoint: RuntimeEndpoint = CONTAINERD,
    *,
    network: Annotated[
        str, typer.Option(help="bridge: a pod network of kedge's own, where there is no other.")
    ] = "",
) -> None:
    """Make this machine a node: get its certificate, write its configuration."""
    from kedge.ctl import join as command  # noqa: PLC0415 - each command loads its own

    path = command.run(
        cloud=cloud,
        token=token,
        node_name=node_name,
        directory=directory,
        runtime_endpoint=runtime_endpoint,
        network=network,
    )
    print(f"node {node_name} joined; start its agent: python -m kedge.edge --config {path}")


@app.command()
def status(
    directory: Directory = Path("/var/lib/kedge"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show how the node in a directory is: link, store, pods, what waits to be sent."""
    from kedge.ctl import status as command  # noqa: PLC0415 - each command loads its own

    command.run(directory, as_json=as_json)


@app.command()
def reset(
    directory: Directory = Path("/var/lib/kedge"),
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, remove nothing.")
    ] = False,
    stop_agent: Annotated[
        bool, typer.Option("--stop-agent", help="Stop the agent if it runs.")
    ] = False,
    without_runtime: Annotated[
        bool,
        typer.Option("--without-runtime", help="Leave the node's pods in the container runtime."),
    ] = False,
    delete_volumes: Annotated[
        bool, typer.Option("--delete-volumes", help="Remove the data of local volumes, too.")
    ] = False,
    keep_node: Annotated[
        bool, typer.Option("--keep-node", help="Leave its Node in the cluster.")
    ] = False,
) -> None:
    """Undo a join: end the node's pods, remove what it made, its identity last."""
    from kedge.ctl import reset as command  # noqa: PLC0415 - each command loads its own

    command.run(
        command.Options(
            directory=directory,
            yes=yes,
            dry_run=dry_run,
            stop_agent=stop_agent,
            without_runtime=without_runtime,
            delete_volumes=delete_volumes,
            keep_node=keep_node,
        )
    )


@app.command()
def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where it goes; an older one is replaced.")
    ],
    directory: Directory = Path("kedge-data"),
) -> None:
    """Back up the cluster in a directory, while it runs or stopped: objects, authority, keys."""
    from kedge.ctl import backup as command  # noqa: PLC0415 - each command loads its own

    print(f"{file}: {command.run(file, directory).line()}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="From kedge backup.")],
    directory: Directory = Path("kedge-data"),
) -> None:
    """Bring a cluster back from a backup, in a directory that has none."""
    from kedge.ctl import restore as command  # noqa: PLC0415 - each command loads its own

    print(command.run(file, directory).line())


@app.command()
def version() -> None:
    """Print the version."""
    from kedge.hub.certificates import VERSION  # noqa: PLC0415 - each command loads its own

    print(f"kedge {VERSION}")


@token_app.command("create")
def token_create(
    ttl: Annotated[str, typer.Option(help="How long it holds: 90s, 30m, 24h or 7d.")] = "24h",
    node: Annotated[str, typer.Option(help="The only node name that may join with it.")] = "",
    kubeconfig: Kubeconfig = None,
    *,
    rejoin: Annotated[
        bool,
        typer.Option("--rejoin", help="It may take over the name of a node that lost its key."),
    ] = False,
) -> None:
    """Make a join token and print it, and nothing else, to standard output."""
    from kedge.ctl import token_commands as command  # noqa: PLC0415 - each command loads its own

    print(command.create(kubeconfig, ttl=ttl, node=node, rejoin=rejoin))


@token_app.command("list")
def token_list(kubeconfig: Kubeconfig = None) -> None:
    """List the join tokens that were made and not revoked."""
    from kedge.ctl import token_commands as command  # noqa: PLC0415 - each command loads its own

    command.show(kubeconfig)


@token_app.command("revoke")
def token_revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="From kedge token list.")],
    kubeconfig: Kubeconfig = None,
) -> None:
    """Revoke a join token: nobody can join with it from now on; joined nodes stay."""
    from kedge.ctl import token_commands as command  # noqa: PLC0415 - each command loads its own

    command.revoke(kubeconfig, token_id)
    print(f"token {token_id} revoked")


NodeRuntime = Annotated[
    str,
    typer.Option(help="The container runtime's socket; as the node in --dir has it if left out."),
]


@image_app.command("import")
def image_import(
    archive: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A docker or OCI archive: .tar, .tar.gz, .tar.zst."),
    ],
    directory: Directory = Path("/var/lib/kedge"),
    runtime_endpoint: NodeRuntime = "",
) -> None:
    """Put the images of an archive into the node's runtime, and keep them there."""
    from kedge.ctl import image_commands as command  # noqa: PLC0415 - each command loads its own

    command.import_(archive, directory, runtime_endpoint)


@image_app.command("list")
def image_list(
    directory: Directory = Path("/var/lib/kedge"),
    runtime_endpoint: NodeRuntime = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array.")] = False,
) -> None:
    """List the images of the node's runtime, and which of them are kept."""
    from kedge.ctl import image_commands as command  # noqa: PLC0415 - each command loads its own

    command.list_(directory, runtime_endpoint, as_json=as_json)


@image_app.command("remove")
def image_remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="From kedge image list.")],
    directory: Directory = Path("/var/lib/kedge"),
    runtime_endpoint: NodeRuntime = "",
) -> None:
    """Remove an image that no container uses, with all its names."""
    from kedge.ctl import image_commands as command  # noqa: PLC0415 - each command loads its own

    command.remove(name, directory, runtime_endpoint)


@store_app.command("dump")
def store_dump(
    path: Annotated[Path, typer.Argument(help="The store's directory.")],
    resource: Annotated[
        str, typer.Option(help="Only this resource, as in pods or deployments.apps.")
    ] = "",
) -> None:
    """Print all objects of a store whose owner is stopped, one JSON object a line."""
    from kedge.ctl import store_commands as command  # noqa: PLC0415 - each command loads its own

    command.dump(path, resource)


@store_app.command("get")
def store_get(
    path: Annotated[Path, typer.Argument(help="The store's directory.")],
    resource: Annotated[str, typer.Argument(help="As in pods or deployments.apps.")],
    name: Annotated[str, typer.Argument(help="The object's name.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")] = "",
) -> None:
    """Print one object of a store whose owner is stopped."""
    from kedge.ctl import store_commands as command  # noqa: PLC0415 - each command loads its own

    command.get(path, resource, namespace, name)


def main() -> None:
    """Runs a command; a failure is a line with the cause and a line with the fix, and status 1."""
    try:
        app(prog_name="kedge")
    except Failure as failure:
        sys.exit(failure.text())
    except KedgeError as error:
        sys.exit(Failure(error.reason, str(error)).text())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

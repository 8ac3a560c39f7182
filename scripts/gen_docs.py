# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference/{cli,config,environment,kubernetes,pod-spec}.md from the code; ``--check`` only compares.

The commands come from the Typer application, the settings from the roles' dataclasses and their
docstrings, the environment from the ``ENV_`` constants in ``kedge.config``, what becomes of a pod's
fields from the table in ``kedge.edge.kubelet.admission.pod_fields``, what is served of Kubernetes from
``kedge.api.kinds`` and ``kedge.cluster.features``.
"""

from __future__ import annotations

import argparse
import ast
import sys
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from kedge import config
from kedge.api.kinds import ALL_VERBS, KINDS, REVIEWS, USAGE, Kind
from kedge.cloud.config import CloudConfig
from kedge.cluster import features
from kedge.cluster.config import ClusterConfig
from kedge.ctl.__main__ import app
from kedge.edge.config import EdgeConfig
from kedge.edge.kubelet.admission import pod_fields

REPOSITORY = Path(__file__).resolve().parent.parent
REFERENCE = REPOSITORY / "docs" / "reference"
NOTE = "<!-- Written by scripts/gen_docs.py (make docs); change the code, not this page. -->\n"
ROLES = (
    ("kedge.cluster", ClusterConfig),
    ("kedge.cloud", CloudConfig),
    ("kedge.edge", EdgeConfig),
)


def main() -> int:
    """Writes or compares the pages; 1 when one differs and ``--check`` was given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    pages = {
        "cli.md": cli(),
        "config.md": settings(),
        "environment.md": environment(),
        "kubernetes.md": kubernetes(),
        "pod-spec.md": pod_spec(),
    }
    stale = []
    for name, text in pages.items():
        path = REFERENCE / name
        if check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            REFERENCE.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"not what the code says, run make docs: {', '.join(stale)}\n")
    return 1 if stale else 0


def cli() -> str:
    """The page about the ``kedge`` command."""
    lines = ["# The kedge command", NOTE]
    lines.append(
        "A failure is a line with the cause and a reason in brackets, a line with the fix, and status 1.\n"
    )
    root = get_command(app)
    context = typer.Context(root, info_name="kedge")
    lines += _command(root, context)
    return "\n".join(lines).rstrip() + "\n"


def _command(command: Any, context: Any) -> list[str]:
    children = getattr(command, "commands", {})
    if children:
        lines: list[str] = []
        for name, child in children.items():
            lines += _command(child, typer.Context(child, info_name=name, parent=context))
        return lines
    lines = [f"## {context.command_path}", "", command.help or "", ""]
    rows = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        record = getattr(parameter, "help", "") or ""
        default = parameter.default
        shown = "" if default in (None, "", False) or callable(default) else f"`{default}`"
        if parameter.required:
            shown = "required"
        names = ", ".join(f"`{name}`" for name in parameter.opts)
        if parameter.param_type_name == "argument":
            names = f"`{parameter.metavar or parameter.name.upper()}`"
        rows.append(f"| {names} | {record} | {shown} |")
    if rows:
        lines += ["| flag | what | default |", "|---|---|---|", *rows, ""]
    return lines


def settings() -> str:
    """The page about the roles' settings."""
    lines = ["# Settings", NOTE]
    lines.append(
        "Each role is `python -m MODULE --config FILE` with settings in YAML; every one is also a flag "
        "(`listen` is `--listen`, `dataDir` is `--data-dir`), which wins over the file. Unknown keys are refused.\n"
    )
    for module, kind in ROLES:
        lines += [f"## {module}", "", *_rows(kind), ""]
    lines += ["## What kedge.cloud may do in the API", "", CLOUD_RIGHTS, ""]
    return "\n".join(lines).rstrip() + "\n"


def _rows(kind: type[Any]) -> list[str]:
    texts = config.descriptions(kind)
    hints = typing.get_type_hints(kind, include_extras=True)
    rows = ["| key | what | takes | default |", "|---|---|---|---|"]
    for field in fields(kind):
        hint = hints[field.name]
        takes = "a mapping of settings" if is_dataclass(hint) else config.wanted_text(hint)
        default = (
            ""
            if field.default in ("", (), None) or "MISSING" in repr(field.default)
            else f"`{field.default}`"
        )
        head, *rest = field.name.split("_")
        key = head + "".join(word.capitalize() for word in rest)
        rows.append(f"| `{key}` | {texts.get(field.name, '')} | {takes} | {default} |")
    return rows


def environment() -> str:
    """The page about environment variables: the constants and the docstrings below them."""
    tree = ast.parse(Path(config.__file__).read_text(encoding="utf-8"))
    lines = ["# Environment", NOTE, "| variable | what |", "|---|---|"]
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        if name.startswith("ENV_") and isinstance(after, ast.Expr):
            value = ast.literal_eval(node.value)
            text = " ".join(str(ast.literal_eval(after.value)).split()).replace("``", "`")
            lines.append(f"| `{value}` | {text} |")
    return "\n".join(lines) + "\n"


def pod_spec() -> str:
    """The page about the fields of a pod: the table of the kubelet, type by type."""
    lines = ["# What becomes of a pod's fields", NOTE, POD_SPEC.rstrip()]
    for name, fields_of in pod_fields.TABLE.items():
        lines += ["", f"## {name}", "", "| field | kedge | |", "|---|---|---|"]
        for field, row in fields_of.items():
            kind, note, nested, values = row + ("", "", "", ())[len(row) :]
            notes = [note] if note else []
            if values:
                notes.append("for " + ", ".join(str(value).lower() for value in values))
            if nested:
                notes.append(f"[{nested}](#{nested.lower()})")
            lines.append(f"| `{field}` | {pod_fields.KINDS[kind]} | {'; '.join(notes)} |")
    lines += ["", "## Annotations of a pod", "", "| annotation | kedge | |", "|---|---|---|"]
    for name, (kind, note) in pod_fields.ANNOTATIONS.items():
        lines.append(f"| `{name}` | {pod_fields.KINDS[kind]} | {note} |")
    return "\n".join(lines) + "\n"


def kubernetes() -> str:
    """The page about what is served of Kubernetes: features by area, kinds by group with their verbs."""
    lines = ["# What of Kubernetes is there", NOTE, KUBERNETES.rstrip()]
    area = ""
    for feature in features.FEATURES:
        if feature.area != area:
            area = feature.area
            lines += ["", f"## {area}", "", "| feature | | |", "|---|---|---|"]
        lines.append(f"| {feature.name} | {feature.state} | {feature.note} |")
    served: dict[tuple[str, str], list[Kind]] = {}
    for kind in (*KINDS, *REVIEWS, *USAGE):
        served.setdefault((kind.group, kind.version), []).append(kind)
    lines += ["", "## Kinds"]
    for (group, version), kinds in sorted(served.items()):
        title = f"{group}/{version}" if group else f"{version} (core)"
        lines += ["", f"### {title}", "", "| kind | verbs | below it |", "|---|---|---|"]
        lines += [_served(kind) for kind in sorted(kinds, key=lambda kind: kind.kind)]
    named = {(kind.group, kind.kind) for kind in (*KINDS, *REVIEWS)}
    lines += ["", "## Kinds that are not served", "", "| kind | |", "|---|---|"]
    for (group, name), why in sorted(features.ABSENT.items()):
        if (group, name) not in named:
            lines.append(f"| {name}{f' ({group})' if group else ''} | {why} |")
    return "\n".join(lines) + "\n"


def _served(kind: Kind) -> str:
    below = (
        f"{item.name}{f', {item.kind}' if item.kind else ''}: {', '.join(item.verbs)}"
        for item in kind.subresources
    )
    verbs = "all" if kind.verbs == ALL_VERBS else ", ".join(kind.verbs)
    return f"| {kind.kind} | {verbs} | {'; '.join(below)} |"


KUBERNETES = """\
The embedded control plane (`kedge up`, `python -m kedge.cluster`) against the stable API of Kubernetes 1.36. "all" verbs are
create, delete, deletecollection, get, list, patch, update and watch.
"""
POD_SPEC = """\
Every field of `PodSpec`, `Container` and `EphemeralContainer` with what kedge does. A field that is not
honoured is never ignored in silence: the pod gets an Event `NotHonoured` that names it, or does not start and its
status says why. Fields below one that is not honoured are not listed; the row above speaks for them.
"""
CLOUD_RIGHTS = """\
Its kubeconfig needs a user with these rights and no others; the embedded cluster gives them to the
group `kedge:cloud`, for which `DIR/cluster/cloud.kubeconfig` has a certificate.

| resource | verbs |
|---|---|
| nodes, pods, configmaps, secrets, serviceaccounts | get, list, watch |
| persistentvolumeclaims, persistentvolumes, csidrivers, volumeattachments | get, list, watch |
| clustertrustbundles, runtimeclasses, roles, rolebindings, clusterroles, clusterrolebindings | get, list, watch |
| nodes | create, patch, delete |
| nodes/status, pods/status, persistentvolumeclaims/status | patch |
| csinodes | create, patch |
| pods | create, delete |
| serviceaccounts/token | create |
| events | create, patch |
| leases (kube-node-lease) | create, patch |
| namespaces | get, create |
| secrets (kedge-system) | create, delete |"""


if __name__ == "__main__":
    sys.exit(main())

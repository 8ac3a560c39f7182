# SPDX-License-Identifier: Apache-2.0
"""kubectl, command by command, against a control plane alone: what a person types, and what comes back.

Each story runs in a namespace of its own, with Debian's kubectl 1.20 and with a current one. Expected answers are
what kubectl prints with kube-apiserver.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig.control import cluster
from tests.rig.kubectl import Kubectl, fetched, newer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@dataclass(frozen=True)
class Row:
    """One command.

    Attributes:
        words: for kubectl; as a shell would split them.
        wanted: what its output and errors together match.
        code: of its exit.
        stdin: what it reads.
        since: the first kubectl (1.X) that has it.
    """

    words: str
    wanted: str = ""
    code: int = 0
    stdin: str = ""
    since: int = 0


def refused(words: str, wanted: str, stdin: str = "", since: int = 0) -> Row:
    return Row(words, wanted, 1, stdin, since)


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: applied, labels: {app: applied}}
spec:
  replicas: %d
  selector: {matchLabels: {app: applied}}
  template:
    metadata: {labels: {app: applied}}
    spec: {containers: [{name: c, image: 'busybox:1'}]}
"""
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {%s}\n"
UNKNOWN_FIELD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: odd}\ndat: {a: b}\n"
STORIES: dict[str, tuple[Row, ...]] = {
    "asking": (
        Row("version", r"Server Version.*1\.36"),
        Row("cluster-info", r"control plane.* is running at"),
        Row("api-versions", r"(?s)apps/v1\n.*batch/v1\n.*networking.k8s.io/v1\n.*\bv1\n"),
        Row("api-resources", r"(?s)configmaps +cm .*deployments +deploy .*ingresses +ing "),
        Row("api-resources --api-group=apps -o name", r"(?s)daemonsets.apps\n.*statefulsets.apps"),
        Row("api-resources --namespaced=false", r"(?s)namespaces .*priorityclasses "),
        Row("api-resources --verbs=deletecollection -o name", r"pods\n"),
        Row("explain pods", r"(?s)KIND: +Pod.*spec"),
        Row("explain deployment.spec.strategy.rollingUpdate.maxSurge", r"maxSurge"),
        Row("explain networkpolicy.spec --recursive", r"(?s)egress.*ipBlock"),
        refused("explain pods.spec.nothing", 'field "nothing" does not exist'),
        Row("auth can-i create pods", "yes"),
        Row("auth can-i '*' '*'", "yes"),
        Row("auth can-i create pods --as=nobody", "^no$", 1),
        Row("auth can-i --list", r"\*\.\*"),
        Row("auth whoami", r"(?s)Username.*system:masters", since=28),
        Row("get --raw /healthz", "^ok$"),
        Row("get --raw /readyz", "^ok$"),
        Row("get --raw /version", '"major": ?"1"'),
        refused("get --raw /nothing", "could not find the requested resource"),
        refused("get nothings", 'doesn\'t have a resource type "nothings"'),
    ),
    "deployments": (
        Row("create deployment web --image=nginx:1 --replicas=2", "deployment.apps/web created"),
        refused("create deployment web --image=nginx:1", r'deployments.apps "web" already exists'),
        Row("get deployment web", r"web +0/2 +"),
        Row("get deploy,rs -o name", r"(?s)deployment.apps/web\nreplicaset.apps/web-"),
        Row("get all", r"(?s)pod/web-.*deployment.apps/web.*replicaset.apps/web-"),
        Row("scale deployment web --replicas=3", "deployment.apps/web scaled"),
        refused("scale deployment web --replicas=1 --current-replicas=9", "Expected replicas to be 9, was 3"),
        Row("set image deployment/web nginx=nginx:2", "deployment.apps/web image updated"),
        Row("set env deployment/web A=b", "deployment.apps/web env updated"),
        Row("set env deployment/web --list", "A=b"),
        Row("set resources deployment/web --limits=cpu=1", "resource requirements updated"),
        Row("set serviceaccount deployment/web default", "serviceaccount updated"),
        Row("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}", "^nginx:2$"),
        Row("rollout history deployment web", r"(?s)REVISION.*1 .*2 "),
        Row("rollout pause deployment web", "paused"),
        refused("rollout pause deployment web", "already paused"),
        Row("rollout resume deployment web", "resumed"),
        Row("rollout restart deployment web", "restarted"),
        Row("rollout undo deployment web --to-revision=1", "rolled back"),
        Row("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}", "^nginx:1$"),
        Row("describe deployment web", r"(?s)Name: +web.*StrategyType: +RollingUpdate.*Events:"),
        Row("expose deployment web --port=80 --target-port=8080", "service/web exposed"),
        Row("get service web", r"web +ClusterIP +10\.\S+ +<none> +80/TCP"),
        Row("describe service web", r"(?s)Selector: +app=web.*TargetPort: +8080/TCP"),
        Row("delete deployment web --cascade=foreground --wait=false", "deployment.apps \"web\"", since=24),
    ),
    "pods": (
        Row("run p --image=busybox:1 --labels=app=p --env=A=b --command -- sleep 9", "pod/p created"),
        Row("get pod p", r"p +0/1 +Pending +0 "),
        Row("get pod p -o wide", r"NOMINATED NODE"),
        Row("get pods -l app=p -o name", "^pod/p$"),
        Row("get pods -l 'app in (p,q),!x' -o name", "^pod/p$"),
        Row("get pods -l app=q", "No resources found"),
        Row("get pods --field-selector=metadata.name=p,status.phase=Pending -o name", "^pod/p$"),
        refused("get pods --field-selector=spec.nothing=1", "field label not supported"),
        Row("get pods --show-labels --sort-by=.metadata.creationTimestamp", "app=p"),
        Row("get pods -o custom-columns=N:.metadata.name,P:.status.phase", r"p +Pending"),
        Row("get pods -o go-template='{{range .items}}{{.metadata.name}}{{end}}'", "^p$"),
        Row("get pod p -o yaml", r"(?s)kind: Pod.*dnsPolicy: ClusterFirst.*qosClass: BestEffort"),
        Row("label pod p tier=front", "pod/p labeled"),
        refused("label pod p tier=back", "already has a value|--overwrite is false"),
        Row("label pod p tier=back --overwrite", "pod/p labeled"),
        Row("label pod p tier-", "pod/p "),
        refused("label pod p 'a b=c'", "name part must consist of"),
        Row("annotate pod p note=yes", "pod/p annotated"),
        Row("get pod p -o jsonpath={.metadata.annotations.note}", "^yes$"),
        refused("logs p", r"does not have a host assigned"),
        refused("exec p -- true", r"does not have a host assigned"),
        refused("patch pod p -p '{\"spec\":{\"nodeName\":\"x\"}}'", "Forbidden: pod updates may not"),
        Row("describe pod p", r"(?s)Name: +p.*Status: +Pending.*QoS Class: +BestEffort"),
        Row("delete pod p --now", 'pod "p" deleted'),
        refused("get pod p", r'pods "p" not found'),
        Row("delete pod p --ignore-not-found", "^$"),
    ),
    "patches": (
        Row("create configmap c --from-literal=a=1 --from-literal=b=2", "configmap/c created"),
        Row("patch configmap c --type=merge -p '{\"data\":{\"a\":null}}'", "configmap/c patched"),
        Row("patch configmap c --type=merge -p '{\"data\":{\"a\":null}}'", "no change"),
        Row("patch configmap c -p '{\"data\":{\"d\":\"4\"}}'", "configmap/c patched"),
        Row("patch configmap c --type=json -p '[{\"op\":\"test\",\"path\":\"/data/d\",\"value\":\"4\"},"
            "{\"op\":\"remove\",\"path\":\"/data/d\"}]'", "configmap/c patched"),
        refused("patch configmap c --type=json -p '[{\"op\":\"test\",\"path\":\"/data/b\",\"value\":\"9\"}]'",
                "request is invalid"),
        refused("patch configmap c --type=merge -p '{\"data\":[]}'", "cannot unmarshal|wanted|BadRequest"),
        Row("get configmap c -o jsonpath={.data}", r'^(map\[b:2\]|{"b":"2"})$'),
        refused("patch configmap none --type=merge -p '{}'", r'configmaps "none" not found'),
    ),
    "applying": (
        Row("apply -f -", "configmap/applied created", stdin=CONFIG % "a: b"),
        Row("apply -f -", "configmap/applied unchanged", stdin=CONFIG % "a: b"),
        Row("apply -f -", "configmap/applied configured", stdin=CONFIG % "c: d"),
        Row("get configmap applied -o jsonpath={.data}", r'^(map\[c:d\]|{"c":"d"})$'),
        Row("diff -f -", r"(?s)-  c: d.*\+  e: f", 1, stdin=CONFIG % "e: f"),
        Row("apply -f - --dry-run=server", r"configured \(server dry run\)", stdin=CONFIG % "e: f"),
        Row("apply -f - --dry-run=client", r"configured \(dry run\)", stdin=CONFIG % "e: f"),
        Row("get configmap applied -o jsonpath={.data}", r'^(map\[c:d\]|{"c":"d"})$'),
        Row("apply view-last-applied configmap/applied", "c: d"),
        refused("create -f -", r'configmaps "applied" already exists', stdin=CONFIG % "a: b"),
        Row("replace -f -", "configmap/applied replaced", stdin=CONFIG % "g: h"),
        Row("replace --force -f -", r"(?s)deleted.*configmap/applied replaced", stdin=CONFIG % "i: j"),
        refused("apply -f -", r"dat", stdin=UNKNOWN_FIELD),
        Row("apply -f - --validate=false", "configmap/odd created", stdin=UNKNOWN_FIELD),
        Row("apply -f -", "deployment.apps/applied created", stdin=DEPLOYMENT % 1),
        Row("apply -f -", "deployment.apps/applied configured", stdin=DEPLOYMENT % 2),
        Row("get deployment applied -o jsonpath={.spec.replicas}", "^2$"),
        refused("apply -f -", r"spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                stdin=DEPLOYMENT % -1),
        Row("delete -f -", 'configmap "applied" deleted', stdin=CONFIG % ""),
    ),
    "kinds": (
        Row("create job j --image=busybox:1 -- true", "job.batch/j created"),
        Row("create cronjob cj --image=busybox:1 --schedule='*/5 * * * *' -- true", "cronjob.batch/cj created", since=21),
        Row("create quota q --hard=pods=10", "resourcequota/q created"),
        Row("create poddisruptionbudget b --selector=app=x --min-available=1", "poddisruptionbudget.policy/b created", since=21),
        Row("create ingress i --rule=a.example/=web:80", "ingress.networking.k8s.io/i created", since=21),
        Row("create role r --verb=get,list --resource=pods", "role.rbac.authorization.k8s.io/r created"),
        Row("create rolebinding rb --role=r --serviceaccount=default:default", "rolebinding.rbac.authorization.k8s.io/rb created"),
        Row("create serviceaccount sa", "serviceaccount/sa created"),
        Row("create token sa --duration=10m", r"^ey\S+\.\S+\.\S+$", since=24),
        Row("create secret generic s --from-literal=password=hidden", "secret/s created"),
        Row("get secret s", r"s +Opaque +1 "),
        Row("describe secret s", r"password: +6 bytes"),
        Row("create service nodeport np --tcp=80:8080", "service/np created"),
        Row("get service np", r"np +NodePort .* 80:\d{5}/TCP"),
        Row("create service externalname en --external-name=a.example", "service/en created"),
        Row("get service en", r"en +ExternalName +<none> +a\.example +<none>"),
        Row("get jobs j", r"j .*0/1"),
        Row("get ingress i", r"i +<none> +a\.example +80 ", since=21),
        Row("get pdb b", r"b +1 +N/A +", since=21),
        Row("get rolebinding rb -o wide", r"rb +Role/r .*default/default"),
        Row("auth can-i list pods --as=system:serviceaccount:default:default", "yes"),
        Row("delete job,cronjob,ingress,pdb,quota --all", 'job.batch "j" deleted'),
    ),
    "waiting": (
        Row("create configmap c", "configmap/c created"),
        Row("wait --for=delete configmap/none --timeout=2s", "", since=24),
        Row("wait --for=jsonpath='{.metadata.name}'=c configmap/c --timeout=5s", "condition met", since=24),
        refused("wait --for=condition=Ready configmap/c --timeout=1s", "timed out"),
        Row("delete configmap c", 'configmap "c" deleted'),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cluster(tmp_path_factory.mktemp("control")) as found:
        yield found


@pytest.fixture(scope="module", params=["debian", "current"])
def program(request: pytest.FixtureRequest) -> str:
    return newer() if request.param == "current" else fetched("debian")


NUMBERS = itertools.count()


@pytest.mark.parametrize("story", STORIES)
def test_kubectl_says_what_it_says_with_kubernetes(
    story: str, program: str, kubeconfig: Path, tmp_path: Path
) -> None:
    minor = version(program, kubeconfig, tmp_path)
    namespace = f"{story}-{next(NUMBERS)}"
    Kubectl(program, kubeconfig, "default", tmp_path)("create", "namespace", namespace)
    kubectl = Kubectl(program, kubeconfig, namespace, tmp_path)
    kubectl.wait_for_account()
    wrong = [
        told for row in STORIES[story] if minor >= row.since and (told := complaint(kubectl, row))
    ]
    assert not wrong, "\n".join(wrong)
    kubectl("delete", "namespace", namespace, "--wait=false")


def version(program: str, kubeconfig: Path, home: Path) -> int:
    text = Kubectl(program, kubeconfig, "default", home)("version", "--client", "-o", "json")
    found = re.search(r'"minor": "(\d+)', text)
    assert found is not None, text
    return int(found[1])


def complaint(kubectl: Kubectl, row: Row) -> str:
    """What is wrong with the answer to a command; nothing when it is as wanted."""
    done = kubectl.run(*shlex.split(row.words), stdin=row.stdin, code=None)
    shown = done.stdout + done.stderr
    if done.returncode != row.code:
        return f"{row.words}: wanted exit {row.code}, got {done.returncode}: {shown[-500:]}"
    if not re.search(row.wanted, shown.strip() if "^" in row.wanted else shown):
        return f"{row.words}: wanted {row.wanted!r}, got: {shown[-500:]}"
    return ""
